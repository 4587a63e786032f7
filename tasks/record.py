"""The task that brings a study's arrays up to date."""

import time
from collections.abc import Callable

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed

from prefect_simopt.errors import CorruptionError, LeaseError, StoreError

__all__ = ["Recorder", "record"]

RECORD_SECONDS = 2.0  # between two task runs


def _may_pass(task: object, run: TaskRun, state: State[object]) -> bool:  # noqa: ARG001 - Prefect's protocol
    """Whether trying again may help: a store that does not answer may come back, a damaged one stays damaged."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, StoreError) and not isinstance(error, CorruptionError | LeaseError)


@task(
    task_run_name="record trials up to {through}",
    retries=3,
    retry_delay_seconds=[1, 5, 15],
    retry_condition_fn=_may_pass,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def record(flush: Callable[[], None], through: int) -> State[None]:
    """Bring the arrays in the store up to date.

    Args:
        flush: does it.
        through: the last trial that has ended.

    Returns:
        Completed, saying so.

    Raises:
        StoreError: the store failed for good; what it held before is whole.
    """
    flush()
    return Completed(message=f"the store's arrays hold the trials up to {through}")


class Recorder:
    """Runs `record` now and then, in place of a flush after every generation.

    Args:
        flush: brings the arrays up to date.
        last: says which trial was the last to end.
    """

    def __init__(self, flush: Callable[[], None], last: Callable[[], int]) -> None:
        self._flush, self._last = flush, last
        self._recorded = time.monotonic()

    def __call__(self) -> None:
        """Run the task, unless it ran a moment ago."""
        if time.monotonic() - self._recorded >= RECORD_SECONDS:
            record(self._flush, self._last())
            self._recorded = time.monotonic()
