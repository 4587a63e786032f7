"""The whole search, over any compute: ask, evaluate, tell, record, checkpoint.

The loop knows neither Prefect nor where simulators run. It is a deterministic function of the spec, the seed and the
simulators' results: in generational mode the optimizer is told a generation as a whole, in the order of trial
numbers, so that neither the number of workers nor an interruption changes which points it asks for next.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from prefect_simopt.compute import Compute
from prefect_simopt.errors import CorruptionError
from prefect_simopt.evaluation import Evaluation, StopRequest
from prefect_simopt.optimizers import dump_state, load_state, make_optimizer, optimizer_from_state
from prefect_simopt.optimizers.base import Optimizer
from prefect_simopt.ranking import Ranking, Scale
from prefect_simopt.record import Record
from prefect_simopt.seeds import derive_seed
from prefect_simopt.spec import StudySpec
from prefect_simopt.trial import Outcome, Run, Status, Trial, merge, standard_errors

Array = npt.NDArray[np.float64]

__all__ = ["Ending", "Observer", "Progress", "Search"]

FEWEST = 10  # trials before a failure rate means anything
RECORD_SECONDS = 1.0  # trials of a long generation are recorded at least this often
SAMPLES = 256  # points of a generation, for samplers, which learn nothing from the one before
CHECKPOINT_SECONDS = 1.0  # replaying the tells since the last checkpoint never takes longer than about this


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
        budget: trials that the search may run.
        complete: trials that completed, those taken from the cache counted in.
        failed: trials that failed.
        cached: trials taken from the cache.
        generations: generations that have ended.
        seconds: time spent searching, in earlier runs too.
        stale: trials since the last better one.
        ranking: the best trials so far.
    """

    budget: int
    ranking: Ranking
    complete: int = 0
    failed: int = 0
    cached: int = 0
    generations: int = 0
    seconds: float = 0.0
    stale: int = 0

    @property
    def told(self) -> int:
        """Trials that have ended."""
        return self.complete + self.failed

    def add(self, trial: Trial) -> None:
        """Count a trial that has ended."""
        better = self.ranking.add(trial)
        self.stale = 0 if better else self.stale + 1
        self.complete += trial.status is Status.COMPLETE
        self.failed += trial.status is Status.FAILED
        self.cached += bool(trial.cached)


class Observer(Protocol):
    """What wants to see a search go on. Called from the search's own thread."""

    def generation_started(self, number: int, trials: int) -> None:
        """The optimizer asked for `trials` points."""

    def trial_ended(self, trial: Trial) -> None:
        """All runs of a trial have ended; it is not told yet."""

    def generation_completed(self, number: int, progress: Progress) -> None:
        """A generation was told and recorded."""


@dataclass
class Search:
    """One search: create it over an open record, then `run()` it.

    Attributes:
        spec: the question.
        record: where it is written; opened, and the only writer.
        compute: where simulators run; started.
        batch_rows: rows in each call of a batch simulator, 0 for other simulators.
        observers: who wants to see it.
        stop: set it to end the search early, from any thread or a signal handler.
        flush: brings the store's arrays up to date; `record.flush`, or a tracked form of it.
    """

    spec: StudySpec
    record: Record
    compute: Compute
    batch_rows: int = 0
    observers: Sequence[Observer] = ()
    stop: StopRequest = field(default_factory=StopRequest)
    flush: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        self.space = self.spec.make_space()
        self.scale = Scale(self.spec.objectives, self.spec.constraints)
        self.progress = Progress(self.spec.budget.trials, Ranking(self.scale))
        self.optimizer: Optimizer = make_optimizer(
            self.spec.optimizer, self.space, seed=self.spec.seed, objectives=len(self.spec.objectives)
        )
        if not self.optimizer.adaptive:
            self.optimizer = make_optimizer(
                self.spec.optimizer,
                self.space,
                seed=self.spec.seed,
                objectives=len(self.spec.objectives),
                batch=self.spec.budget.trials,
            )

        self._flush = self.flush or self.record.flush
        self.evaluation = Evaluation(self.spec.compute, self.compute, self.batch_rows, self.record.attempted, self.stop)

    def run(self) -> Ending:
        """Search until the budget or a request ends it; picks up where an earlier run of the same study stopped.

        Raises:
            StoreError: the store failed for good. Everything recorded so far is whole; run it again to go on.
        """
        started = time.monotonic()
        pending = self._restore()
        if self.record.created:
            self._checkpoint()  # holds the sampler's plan, which a budget that grows later must not change
        earlier = self.progress.seconds
        checkpointed = time.monotonic()
        waiting = {(outcome.trial, outcome.replicate): outcome for outcome in self.record.collect()}
        while (ending := self._ending()) is None:
            runs, known = pending or self._ask()
            pending = None
            if not runs:
                ending = Ending.EXHAUSTED
                break
            number = runs[0].generation
            for observer in self.observers:
                observer.generation_started(number, len(runs) // self.spec.replicates)
            trials = self._evaluate(runs, known, waiting)
            if len(trials) < len(runs) // self.spec.replicates:
                ending = Ending.INTERRUPTED
                break
            self._tell(trials)
            self.progress.seconds = earlier + time.monotonic() - started
            self._flush()
            if time.monotonic() - checkpointed > CHECKPOINT_SECONDS:
                self._checkpoint()
                checkpointed = time.monotonic()
            for observer in self.observers:
                observer.generation_completed(number, self.progress)
        if ending is not Ending.INTERRUPTED:
            self._checkpoint()
        return ending

    def _ending(self) -> Ending | None:
        """Why the search is over, if it is; looked at between generations."""
        budget, progress = self.spec.budget, self.progress
        best = progress.ranking.best
        if self.stop.requested:
            return Ending.INTERRUPTED
        if progress.told >= min(FEWEST, budget.trials) and progress.failed > budget.failures * progress.told:
            return Ending.FAILURES
        if best is not None and any(self.scale.reached(trial) for trial in progress.ranking.pareto):
            return Ending.TARGET
        if progress.told >= budget.trials:
            return Ending.BUDGET
        if budget.patience is not None and progress.stale >= budget.patience:
            return Ending.PATIENCE
        if budget.wall_time is not None and progress.seconds >= budget.wall_time:
            return Ending.WALL_TIME
        return None

    def _ask(self) -> tuple[list[Run], dict[int, Trial]]:
        """The next generation's runs, recorded."""
        size = self.optimizer.batch if self.optimizer.adaptive else min(self.optimizer.batch, SAMPLES)
        ids, x = self.optimizer.ask(min(size, self.spec.budget.trials - self.progress.told))
        points = self.space.decode(x)
        runs = self._runs(self.progress.generations, ids.tolist(), points)
        if runs:
            numbers = np.array([self.space.to_numbers(point) for point in points])
            seeds = [run.seed for run in runs[:: self.spec.replicates]]
            self.record.asked(self.progress.generations, ids.tolist(), numbers, seeds)
        return runs, {}

    def _runs(self, generation: int, numbers: Sequence[int], points: Sequence[dict[str, object]]) -> list[Run]:
        replicates = range(self.spec.replicates)
        return [
            Run(number, point, derive_seed(self.spec.seed, number, replicate), replicate, generation,
                row * len(replicates) + replicate)
            for row, (number, point) in enumerate(zip(numbers, points, strict=True))
            for replicate in replicates
        ]  # fmt: skip

    def _evaluate(
        self, runs: Sequence[Run], known: Mapping[int, Trial], waiting: dict[tuple[int, int], Outcome]
    ) -> list[Trial]:
        """The trials of a generation that have ended, in order, all of them recorded."""
        replicates = self.spec.replicates
        first = {run.trial: run for run in reversed(runs)}
        ready = [waiting.pop((run.trial, run.replicate)) for run in runs if (run.trial, run.replicate) in waiting]
        groups: dict[int, list[Outcome]] = {}
        trials = dict(known)
        fresh: list[tuple[Trial, list[Outcome]]] = []
        recorded = time.monotonic()
        for outcome in self.evaluation.run(runs, ready, known):
            group = groups.setdefault(outcome.trial, [])
            group.append(outcome)
            if len(group) == replicates:
                trial = trials[outcome.trial] = _trial(first[outcome.trial], groups.pop(outcome.trial))
                fresh.append((trial, group))
                for observer in self.observers:
                    observer.trial_ended(trial)
                if time.monotonic() - recorded > RECORD_SECONDS:
                    self.record.told(fresh)
                    self._flush()
                    fresh, recorded = [], time.monotonic()
        self.record.told(fresh)
        return [trials[number] for number in sorted(trials)]

    def _tell(self, trials: Iterable[Trial]) -> None:
        """Tell the optimizer a whole generation and count it."""
        ordered = list(trials)
        values = np.array([self.scale.values(trial) for trial in ordered])
        violations = np.array(
            [0.0 if trial.status is Status.FAILED else self.scale.violation(trial) for trial in ordered]
        )
        self.optimizer.tell(
            [trial.number for trial in ordered], values[:, 0] if values.shape[1] == 1 else values, violations
        )
        for trial in ordered:
            self.progress.add(trial)
        self.progress.generations += 1

    def _checkpoint(self) -> None:
        progress = self.progress
        counters = {
            name: getattr(progress, name)
            for name in ("complete", "failed", "cached", "generations", "seconds", "stale")
        }
        best = [[trial.number, trial.parameters, trial.metrics] for trial in progress.ranking.pareto]
        self.record.save_checkpoint(
            dump_state({"optimizer": self.optimizer.state(), "progress": counters, "best": best})
        )

    def _restore(self) -> tuple[list[Run], dict[int, Trial]] | None:
        """Bring the optimizer to where the ledger ends; returns the generation that was under way, if any."""
        after = -1
        if (found := self.record.checkpoint()) is not None:
            payload, after = found
            state = load_state(payload)
            self.optimizer = optimizer_from_state(state["optimizer"])
            for name, value in state["progress"].items():
                setattr(self.progress, name, value)
            for number, parameters, metrics in state["best"]:
                self.progress.ranking.add(Trial(number, parameters, Status.COMPLETE, metrics))
        pending: tuple[list[Run], dict[int, Trial]] | None = None
        for generation in self.record.history(after):
            if pending is not None:
                raise CorruptionError(
                    "the ledger asks for a generation before the last one has ended; run `simopt verify`"
                )
            ids, x = self.optimizer.ask(len(generation.trials))
            if ids.tolist() != generation.trials or not np.array_equal(self._numbers(x), generation.parameters):
                raise CorruptionError(
                    f"generation {generation.number} cannot be replayed: the optimizer now asks for other points than "
                    "the ledger holds. Was the study written by another version? Run it under a new name with --new."
                )
            if len(generation.told) == len(generation.trials):
                self._tell([generation.told[number] for number in generation.trials])
            else:
                pending = self._runs(generation.number, generation.trials, self.space.decode(x)), generation.told
        return pending

    def _numbers(
        self, x: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return np.array([self.space.to_numbers(point) for point in self.space.decode(x)])


def _trial(run: Run, outcomes: Sequence[Outcome]) -> Trial:
    merged = merge(outcomes)
    return Trial(
        number=run.trial,
        parameters=run.parameters,
        status=merged.status,
        metrics=merged.metrics,
        fields=merged.fields,
        errors=standard_errors(outcomes),
        seed=run.seed,
        generation=run.generation,
        batch=merged.batch,
        seconds=merged.seconds,
        reason=merged.reason,
        message=merged.message,
        output=merged.output,
        cached=merged.cached,
    )
