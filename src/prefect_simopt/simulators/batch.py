"""A batch on the flow's side, and the calls of the simulator that it is cut into."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import groupby

from prefect_simopt.trial import Outcome, Run

__all__ = ["Batch", "cut"]


@dataclass(eq=False)
class Batch:
    """Runs that one worker gets at a time.

    Attributes:
        runs: those whose outcomes are wanted.
        future: of their outcomes.
        calls: those that have not ended, by serial number.
        outcomes: those that there are, by trial and replicate.
    """

    runs: Sequence[Run]
    future: "Future[list[Outcome]]" = field(default_factory=Future)
    calls: dict[int, list[Run]] = field(default_factory=dict)
    outcomes: dict[tuple[int, int], Outcome] = field(default_factory=dict)

    def end(self, serial: int, outcomes: Sequence[Outcome]) -> None:
        """Take outcomes of a call, which has ended once each of its wanted runs has one."""
        for outcome in outcomes:
            self.outcomes[outcome.trial, outcome.replicate] = outcome
        if all((run.trial, run.replicate) in self.outcomes for run in self.calls[serial] if run.wanted):
            del self.calls[serial]

    def result(self) -> list[Outcome]:
        """The outcomes that there are, in the order of the runs."""
        keys = [(run.trial, run.replicate) for run in self.runs]
        return [self.outcomes[key] for key in keys if key in self.outcomes]


def cut(runs: Sequence[Run], rows: int) -> list[list[Run]]:
    """Calls of the simulator: one run each, or the blocks of `rows` rows of a generation."""
    if not rows:
        return [[run] for run in runs]
    return [list(block) for _, block in groupby(runs, lambda run: (run.generation, run.row // rows))]
