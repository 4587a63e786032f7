"""Ends flow runs that a study has started and nobody waits for any more."""

import contextlib
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from httpx import HTTPError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import PrefectException
from prefect.flows import Flow
from prefect.states import Cancelled, Cancelling

__all__ = ["PARENT", "STUDY", "cancel_run", "read_runs", "sweep", "sweep_children"]

STUDY, PARENT = "simopt-study:", "simopt-parent:"
"""Beginnings of the tags by which a study's flow runs are found."""
_PAGE = 200
_GOING = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING]


def cancel_run(client: SyncPrefectClient, run: UUID, *, force: bool = False) -> None:
    """Ask Prefect to cancel a flow run; by force, to call it cancelled whatever it does. One that has ended stays."""
    with contextlib.suppress(PrefectException, HTTPError):
        state: State[None] = Cancelled() if force else Cancelling()
        client.set_flow_run_state(run, state, force=force)


def read_runs(client: SyncPrefectClient, ids: Sequence[UUID]) -> dict[UUID, FlowRun]:
    """Flow runs by id."""
    found: dict[UUID, FlowRun] = {}
    for start in range(0, len(ids), _PAGE):
        page = FlowRunFilter(id=FlowRunFilterId(any_=list(ids[start : start + _PAGE])))
        found |= {run.id: run for run in client.read_flow_runs(flow_run_filter=page, limit=_PAGE)}
    return found


def sweep(client: SyncPrefectClient, tag: str, patience: float = 0.0) -> int:
    """Cancel the flow runs with a tag, and wait until they have ended.

    Args:
        client: of Prefect's API.
        tag: which ones.
        patience: seconds to wait; those that have not ended by then end by themselves.

    Returns:
        How many there were.
    """
    left = found = _going(client, tag)
    for run in found:
        cancel_run(client, run.id)
    end = time.monotonic() + patience
    while left and time.monotonic() < end:
        time.sleep(0.5)
        left = _going(client, tag)
    return len(found)


def sweep_children(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001 - a hook
    """A hook of flows that start others: whatever their end, those end with them."""
    with get_client(sync_client=True) as client:
        sweep(client, f"{PARENT}{flow_run.id}")


def _going(client: SyncPrefectClient, tag: str) -> list[FlowRun]:
    which = FlowRunFilter(
        tags=FlowRunFilterTags(all_=[tag]), state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_GOING))
    )
    return client.read_flow_runs(flow_run_filter=which, limit=_PAGE)
