"""How far a search is, why it ended, and who watches it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from prefect_simopt.ranking import Ranking
from prefect_simopt.spec import Budget
from prefect_simopt.steering import Request
from prefect_simopt.trial import Status, Trial

__all__ = ["SLACK", "Ending", "Observer", "Progress", "RequestObserver"]

SLACK = 1e-9  # of a cost, whose parts are added up
FEWEST = 10  # trials before a failure rate means anything
_COUNTERS = ("complete", "failed", "cached", "generations", "seconds", "stale", "cost")


class Ending(StrEnum):
    """Why a search ended, as a sentence for people."""

    BUDGET = "all trials of the budget have been run"
    TARGET = "the target was reached"
    PATIENCE = "no better trial was found for as long as the budget's patience"
    WALL_TIME = "the budget's wall time was used up"
    EXHAUSTED = "every point of the space has been tried"
    FAILURES = "too many trials failed"
    INTERRUPTED = "it was asked to stop"


@dataclass
class Progress:
    """How far a search is.

    Attributes:
        budget: trials that the search may run; where a cost limits them, about as many as it is enough for.
        ranking: the best trials so far.
        complete: trials that completed, those taken from the cache counted in.
        failed: trials that failed.
        cached: trials taken from the cache.
        generations: generations that have ended.
        seconds: time spent searching, in earlier runs too.
        stale: trials since the last better one.
        cost: of all trials, in trials at the highest fidelity.
    """

    budget: int
    ranking: Ranking
    complete: int = 0
    failed: int = 0
    cached: int = 0
    generations: int = 0
    seconds: float = 0.0
    stale: int = 0
    cost: float = 0.0

    @property
    def told(self) -> int:
        """Trials that have ended."""
        return self.complete + self.failed

    def expect(self, budget: Budget) -> None:
        """Follow a budget: where a cost limits it, trials go on to cost what they have cost so far."""
        self.budget = budget.trials
        if budget.cost is not None and self.cost > 0:
            self.budget = min(self.budget, max(round(self.told * budget.cost / self.cost), self.told))

    def add(self, trial: Trial) -> None:
        """Count a trial that has ended."""
        better = self.ranking.add(trial)
        self.stale = 0 if better else self.stale + 1
        self.complete += trial.status is Status.COMPLETE
        self.failed += trial.status is Status.FAILED
        self.cached += bool(trial.cached)
        self.cost += self.ranking.scale.cost(trial)

    def ending(self, budget: Budget) -> Ending | None:
        """Why the search is over, if it is."""
        if self.told >= min(FEWEST, budget.trials) and self.failed > budget.failures * self.told:
            return Ending.FAILURES
        if any(self.ranking.scale.reached(trial) for trial in self.ranking.pareto):
            return Ending.TARGET
        if self.told >= budget.trials or (budget.cost is not None and self.cost > budget.cost - SLACK):
            return Ending.BUDGET
        if budget.patience is not None and self.stale >= budget.patience:
            return Ending.PATIENCE
        if budget.wall_time is not None and self.seconds >= budget.wall_time:
            return Ending.WALL_TIME
        return None

    def state(self) -> dict[str, Any]:
        """All of it but the budget, as a JSON document."""
        best = [[trial.number, dict(trial.parameters), dict(trial.metrics)] for trial in self.ranking.pareto]
        return {**{name: getattr(self, name) for name in _COUNTERS}, "best": best}

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        for name in _COUNTERS:
            setattr(self, name, state.get(name, 0))
        for number, parameters, metrics in state["best"]:
            self.ranking.add(Trial(number, parameters, Status.COMPLETE, metrics))


@runtime_checkable
class RequestObserver(Protocol):
    """An observer that also wants to hear of what people ask of the search."""

    def request_taken_up(self, request: Request, refused: str) -> None:
        """A request was done, or refused for the reason given."""


class Observer(Protocol):
    """What wants to see a search go on. Called from the search's own thread."""

    def generation_started(self, number: int, trials: int) -> None:
        """The optimizer asked for `trials` points."""

    def trial_ended(self, trial: Trial) -> None:
        """All runs of a trial have ended; it is not told yet."""

    def generation_completed(self, number: int, progress: Progress) -> None:
        """A generation was told and recorded."""
