"""A paused study in Prefect's UI: its flow run is Paused too, and the form by which it is resumed steers the search."""

import json
import logging
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

from httpx import HTTPStatusError
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State, StateDetails, StateType
from prefect.states import Running
from pydantic import BaseModel, Field, ValidationError

from prefect_simopt.asking import ask_study
from prefect_simopt.errors import SpecError
from prefect_simopt.forms import MODEL
from prefect_simopt.loop import Progress
from prefect_simopt.requests import make_request, submit
from prefect_simopt.session import Session
from prefect_simopt.steering import Kind
from prefect_simopt.study import open_study
from prefect_simopt.trial import Trial

__all__ = ["Bounds", "Guidance", "PauseMirror", "Review"]

_ASKED = """\
The search is paused: {paused}. Resuming lets it go on; what you fill in is done first, and recorded as yours.
{problem}"""


class Bounds(BaseModel):
    """Narrower bounds of a parameter."""

    model_config = MODEL

    name: str = Field(description="Name of the parameter.")
    low: float = Field(description="Smallest value from now on.")
    high: float = Field(description="Largest value from now on.")


class Guidance(BaseModel):
    """What the person who resumes a paused study asks of it; everything may be left out."""

    model_config = MODEL

    points: list[dict[str, bool | int | float | str]] = Field(
        default_factory=list, description="Points to try next, each a value for every parameter."
    )
    bounds: list[Bounds] = Field(default_factory=list, description="Bounds to search within from now on.")
    trials: int | None = Field(default=None, description="Trials that the budget is to have in all.")
    cost: float | None = Field(default=None, description="What all trials may cost, at the highest fidelity each 1.")
    wall_time: float | None = Field(default=None, description="Seconds that the budget is to have in all.")
    agent: str = Field(default="", description="Who asks, for the record.")

    @property
    def wishes(self) -> list[tuple[Kind, dict[str, Any]]]:
        """What to ask the study for, ending with its resumption."""
        wishes: list[tuple[Kind, dict[str, Any]]] = []
        if self.bounds:
            wishes.append(("narrow", {"bounds": {each.name: [each.low, each.high] for each in self.bounds}}))
        if self.points:
            wishes.append(("suggest", {"points": self.points}))
        limits = {"trials": self.trials, "cost": self.cost, "wall_time": self.wall_time}
        if any(limit is not None for limit in limits.values()):
            wishes.append(("extend", limits))
        return [*wishes, ("resume", {})]


class Review:
    """Asks for a pause now and then, so that somebody looks at how the search goes.

    Args:
        session: the study.
        every: generations between two pauses.
        agent: who asks, for the record.
    """

    def __init__(self, session: Session, every: int, agent: str) -> None:
        self._storage, self._every, self._agent = session.location.storage(), every, agent

    def generation_started(self, number: int, trials: int) -> None:
        """Nothing to do."""

    def trial_ended(self, trial: Trial) -> None:
        """Nothing to do."""

    def generation_completed(self, number: int, progress: Progress) -> None:
        """Ask, when it is time to."""
        if (number + 1) % self._every == 0 and progress.told < progress.budget:
            submit(self._storage, make_request("pause", {}, self._agent))


class PauseMirror:
    """Keeps the state of a flow run and the pause of its study alike, whichever of them changes.

    The pause itself is in the study's store. So a flow that is killed while it is paused leaves nothing that needs
    mending, and `simopt resume` and the form in the UI do the same.

    Args:
        session: the study.
        run: its flow run.
        logger: of the flow run.
    """

    def __init__(self, session: Session, run: UUID, logger: "logging.Logger | logging.LoggerAdapter[Any]") -> None:
        self._session, self._run, self._logger = session, run, logger
        self._shown: dict[str, str] | None = None  # keys of the form that is shown
        self._problem = ""

    def look(self, client: SyncPrefectClient, state: State[Any]) -> None:
        """Bring both in line, if one has changed; the state is the flow run's present one."""
        paused = self._session.record.steering.paused
        if self._shown is None:
            if state.is_paused():
                self._adopt(client)
            elif paused:
                self._show(client, paused)
            return
        if state.is_paused():
            if not paused:  # resumed elsewhere
                self._shown = None
                client.set_flow_run_state(self._run, Running())
        elif state.is_running():
            keys, self._shown, self._problem = self._shown, None, ""
            if paused:
                self._resume(client, keys["response"])

    def _adopt(self, client: SyncPrefectClient) -> None:
        """Somebody has paused the flow run: the study is paused, and its own pause takes the place of Prefect's."""
        client.set_flow_run_state(self._run, Running())
        storage = self._session.location.storage()
        submit(storage, make_request("pause", {}, "somebody in Prefect's UI"))

    def _show(self, client: SyncPrefectClient, paused: str) -> None:
        key = str(uuid4())
        keys = {name: f"paused-{key}-{name}" for name in ("description", "response", "schema")}
        description = _ASKED.format(paused=paused, problem=self._problem)
        for name, value in (("schema", Guidance.model_json_schema()), ("description", description)):
            client.create_flow_run_input(self._run, keys[name], json.dumps(value))
        details = StateDetails(pause_key=key, run_input_keyset=keys)
        message = f"paused: {paused}"
        client.set_flow_run_state(
            self._run, State(type=StateType.PAUSED, name="Paused", message=message, state_details=details)
        )
        self._shown = keys

    def _resume(self, client: SyncPrefectClient, key: str) -> None:
        """Hand on what was filled in; what cannot be done is told, and the study stays paused."""
        try:
            answer = json.loads(client.read_flow_run_input(self._run, key))
        except HTTPStatusError as error:
            if error.response.status_code != 404:  # resumed without a word
                raise
            answer = {}
        location = self._session.location
        try:
            guidance = Guidance.model_validate(answer)
            agent = guidance.agent or "somebody in Prefect's UI"
            ask_study(open_study(location.url, location.options), guidance.wishes, agent=agent)
        except (SpecError, ValidationError) as error:
            self._problem = f"What was asked for last cannot be done: {_plain(error)}"
            self._logger.warning("the study stays paused. %s", self._problem)


def _plain(error: SpecError | ValidationError) -> str:
    if isinstance(error, SpecError):
        return str(error)
    problems: Sequence[Any] = error.errors(include_url=False)
    return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in problems)
