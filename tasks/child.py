"""What a work pool keeps of a study, and of each batch that it has given to a flow run."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from prefect_simopt.simulators.transport import SimulatorInfo
from prefect_simopt.tasks.diagnosis import Diagnosis
from prefect_simopt.trial import Outcome, Run

__all__ = ["Child", "Plan"]


@dataclass(frozen=True)
class Plan:
    """What is told to every pod.

    Attributes:
        info: what is known of the simulator.
        document: the simulator, with paths relative to its files.
        archive: its files.
        names: the space's parameters.
        required: metrics without which a run has failed.
        conditional: those of the parameters that some runs do not have, and whether they are numbers.
        slopes: those by which the required metrics are to be differentiated.
        sidecar: makes the job variables of pods in which the simulator has a container of its own, given its memory.
    """

    info: SimulatorInfo
    document: Mapping[str, Any]
    archive: bytes
    names: Sequence[str]
    required: Sequence[str]
    conditional: Mapping[str, bool]
    slopes: Sequence[str]
    sidecar: Callable[[str | None], dict[str, Any]] | None = None


@dataclass(eq=False)
class Child:
    """A batch and the flow run that has it now.

    Attributes:
        runs: of the batch.
        context: of the thread that submitted it: the task run that its flow runs belong to.
        future: of its outcomes.
        outcomes: those that there are, by trial and replicate.
        early: those that its flow run has left so far, the same way.
        answered: whether the outcomes were handed over, while the flow run has yet to end.
        key: under which it is written down; empty when it is not.
        run: the flow run; None before there is one.
        memory: that the flow run's pod has.
        tries: flow runs that it had before.
        barren: how many of those, in a row, left no outcome.
        due: when the next may start, by the steady clock.
        begun: when the present one was started.
        looked: when somebody last looked at why it does not start.
        trouble: what was found then.
        troubled: when that was first found.
        told: whether it was cancelled.
        taken: how often its pod was taken away.
    """

    runs: list[Run]
    context: Context
    future: "Future[list[Outcome]]" = field(default_factory=Future)
    outcomes: dict[tuple[int, int], Outcome] = field(default_factory=dict)
    early: dict[tuple[int, int], Outcome] = field(default_factory=dict)
    answered: bool = False
    key: str = ""
    run: UUID | None = None
    memory: str | None = None
    tries: int = 0
    barren: int = 0
    due: float = 0.0
    begun: float = 0.0
    looked: float = 0.0
    trouble: Diagnosis = field(default_factory=Diagnosis)
    troubled: float = 0.0
    told: bool = False
    taken: int = 0

    @property
    def wanted(self) -> list[Run]:
        """Runs without an outcome."""
        return [run for run in self.runs if run.wanted and (run.trial, run.replicate) not in self.outcomes]

    @property
    def name(self) -> str:
        """Its trials, as in `trials 4-7`."""
        trials = [run.trial for run in self.runs]
        first, last = min(trials), max(trials)
        return f"trial {first}" if first == last else f"trials {first}-{last}"
