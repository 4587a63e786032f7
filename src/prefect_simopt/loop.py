"""The whole search, over any compute: ask, evaluate, tell, record, checkpoint.

The loop knows neither Prefect nor where simulators run. It is a deterministic function of the spec, the seed and the
simulators' results: in generational mode the optimizer is told a generation as a whole, in the order of trial
numbers, so that neither the number of workers nor an interruption changes which points it asks for next. In
asynchronous mode the order in which results came back decides, and the ledger keeps that order.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from prefect_simopt import entries
from prefect_simopt.arbitration import Arbiter
from prefect_simopt.cache import Cache
from prefect_simopt.compute import Compute
from prefect_simopt.errors import CorruptionError
from prefect_simopt.evaluation import Evaluation, StopRequest
from prefect_simopt.intake import Intake
from prefect_simopt.levels import afforded, proposed
from prefect_simopt.optimizers import dump_state, load_state, make_optimizer, optimizer_from_state
from prefect_simopt.optimizers.base import Optimizer
from prefect_simopt.optimizers.halving import Halving
from prefect_simopt.optimizers.make import ENGINES
from prefect_simopt.progress import SLACK, Ending, Observer, Progress
from prefect_simopt.ranking import Ranking, Scale
from prefect_simopt.record import Record
from prefect_simopt.seeds import derive_seed
from prefect_simopt.slopes import cube_gradients
from prefect_simopt.spec import StudySpec
from prefect_simopt.trial import Outcome, Run, Status, Trial, merge, standard_errors

__all__ = ["Ending", "Observer", "Progress", "Search"]

Array = npt.NDArray[np.float64]

GENERATION = 16  # points of a generation, where the spec does not say
SAMPLES = 256  # points of a generation, for samplers, which learn nothing from the one before
RECORD_SECONDS = 1.0  # trials of a long generation are recorded at least this often
CHECKPOINT_SECONDS = 1.0  # replaying the tells since the last checkpoint never takes longer than about this
PAUSE_SECONDS = 0.5  # between two looks for a request to go on
_log = logging.getLogger("prefect_simopt")


@dataclass
class Generation:
    """Points asked for together.

    Attributes:
        number: counted from 0.
        runs: the runs of its trials, in order.
        told: those of its trials that have been recorded, by number.
    """

    number: int
    runs: list[Run]
    told: dict[int, Trial] = field(default_factory=dict)


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
        cache: where to look for results of equal trials before running one.
    """

    spec: StudySpec
    record: Record
    compute: Compute
    batch_rows: int = 0
    observers: Sequence[Observer] = ()
    stop: StopRequest = field(default_factory=StopRequest)
    flush: Callable[[], None] | None = None
    cache: Cache | None = None

    def __post_init__(self) -> None:
        self.space = self.spec.make_space()
        self.scale = Scale(self.spec.objectives, self.spec.constraints, self.spec.fidelity)
        self.progress = Progress(self.spec.budget.trials, Ranking(self.scale))
        engine = ENGINES.get(self.spec.optimizer.type)  # none of its own for `auto`
        sampled = engine is not None and not engine.adaptive
        self.optimizer: Optimizer = make_optimizer(
            self.spec.optimizer,
            self.space,
            seed=self.spec.seed,
            objectives=len(self.spec.objectives),
            batch=self.spec.budget.trials if sampled and self.spec.fidelity is None else GENERATION,
        )
        if self.spec.fidelity is not None and self.spec.optimizer.type != "points":
            levels, eta = len(self.spec.fidelity.values), self.spec.fidelity.eta
            self.optimizer = Halving(self.optimizer, levels, eta, self.space.dimensions)
        self._evaluation = Evaluation(
            self.spec.compute, self.compute, self.batch_rows, self.record.attempted, self.stop
        )
        self._evaluation.batches = self.record.batches
        self._arbiter = Arbiter(self.record.location, self.record.capacity, self.record.fields)
        self._flush = self.flush or self.record.flush
        self._asked = 0  # generations asked for
        self._fresh = 0  # number of the first generation that no earlier run of the study has begun
        self._restored = False  # from a checkpoint
        self._used_up = Ending.EXHAUSTED  # what is, when there is nothing more to ask for
        self._under_way: dict[int, Generation] = {}
        self._first: dict[int, Run] = {}  # run of each trial taken on
        self._waiting: dict[tuple[int, int], Outcome] = {}
        self._clock = self._checkpointed = time.monotonic()

    def run(self) -> Ending:
        """Search until the budget or a request ends it; picks up where an earlier run of the same study stopped.

        Raises:
            StoreError: the store failed for good. Everything recorded so far is whole; run it again to go on.
        """
        history = self._restore()
        self._fresh = self._asked + sum(each.asked_at >= 0 for each in history)
        self._clock = time.monotonic() - self.progress.seconds
        if not self._restored and not history:
            self._checkpoint()  # holds the sampler's plan, which a budget that grows later must not change
        self._waiting = {(outcome.trial, outcome.replicate): outcome for outcome in self.record.collect()}
        threading.Thread(target=self._import_ahead, name="simopt-imports", daemon=True).start()
        is_async = getattr(self.spec.optimizer, "mode", "generational") == "async"
        ending = self._run_async(history) if is_async else self._run_generations(history)
        self.progress.seconds = time.monotonic() - self._clock
        if ending is not Ending.INTERRUPTED:
            self._checkpoint()
        return ending

    def _import_ahead(self) -> None:
        """Load, while the first trials run, what is needed when they have ended: otherwise all workers wait for it."""
        import_module("numcodecs")
        if self.optimizer.adaptive:
            import_module("scipy.linalg")

    def _run_generations(self, history: deque[entries.Generation]) -> Ending:
        """A generation at a time: the optimizer sees it as a whole, in the order of trial numbers."""
        size = self.optimizer.batch if self.optimizer.adaptive else min(self.optimizer.batch, SAMPLES)
        while (ending := self._ending() if history else self._heed()) is None:
            generation = self._ask_again(history.popleft()) if history else self._ask(size)
            if generation is None:
                return self._used_up
            if self._tell_if_whole(generation):
                continue  # replayed
            for observer in self.observers:
                observer.generation_started(generation.number, len(generation.runs) // self.spec.replicates)
            self._take_on(generation)
            self._save()  # what came before, now that the simulators have work
            for trial in self._trials():
                generation.told[trial.number] = trial
            if not self._tell_if_whole(generation):
                return Ending.INTERRUPTED
            self._announce(generation.number)
        return ending

    def _run_async(self, history: deque[entries.Generation]) -> Ending:
        """Steady state: a new point is asked as soon as one returns."""
        self._replay_async(history)
        for generation in list(self._under_way.values()):
            self._take_on(generation)
        while True:
            ending = self._fill(wait=True)
            if not self._under_way:
                return ending or self._used_up
            for trial in self._trials(at_once=True):
                generation = self._under_way[trial.generation]
                generation.told[trial.number] = trial
                self._tell_if_whole(generation)
                self._fill()
                self._announce(trial.generation)
                self._save()
            if self.stop.requested:
                return Ending.INTERRUPTED

    def _fill(self, *, wait: bool = False) -> Ending | None:
        """Ask for as many points as compute has room for; tells why the search is over, if it is."""
        while (ending := self._heed(wait=wait)) is None and not self._intake.paused:
            if len(self._under_way) >= self.compute.workers or not (more := self._ask(1)):
                break
            self._take_on(more)
        return ending

    def _ending(self) -> Ending | None:
        return Ending.INTERRUPTED if self.stop.requested else self.progress.ending(self._intake.budget)

    def _heed(self, *, wait: bool = True) -> Ending | None:
        """Do what people ask for, wait as long as they want, and tell why the search is over, if it is."""
        if (ending := self._ending()) is Ending.INTERRUPTED:
            return ending
        self._intake.take_up(at_once=ending is not None)
        if wait and self._intake.paused and not self._under_way and self._ending() is None:
            self._pause()
        self.progress.expect(self._intake.budget)
        return self._ending()

    def _pause(self) -> None:
        """Wait until somebody lets the search go on, or ends it."""
        url, begun, stopped = self.record.location.url, time.monotonic(), threading.Event()
        _log.info("%s is paused (%s); `simopt resume %s` goes on", self.spec.name, self._intake.paused, url)
        self._save()
        self.stop.listen(stopped.set)
        while self._intake.paused and not self.stop.requested:
            stopped.wait(PAUSE_SECONDS)
            self._intake.take_up(at_once=True)
        self.stop.forget(stopped.set)
        self._clock += time.monotonic() - begun  # it was no search

    def _ask(self, size: int) -> Generation | None:
        """The next points, recorded: None when the budget or the space is used up."""
        replicates = self.spec.replicates
        outstanding = sum(len(each.runs) // replicates for each in self._under_way.values())
        left = self._intake.budget.trials - self.progress.told - outstanding
        size, closing = afforded(self.optimizer, self.spec.fidelity, size, left, self._cost_left())
        if size <= 0:
            self._used_up = Ending.BUDGET
            return None
        ids, x, fidelities = proposed(self.optimizer, self.spec.fidelity, size, closing=closing)
        points = self.space.decode(x)
        generation = self._generation(self._asked, ids, points, fidelities)
        seeds = [run.seed for run in generation.runs[::replicates]]
        # Also when there was nothing to give: looking for it has used up random numbers.
        self.record.asked(generation.number, ids, self._numbers(points), seeds, size, fidelities, closing=closing)
        return self._unless_empty(generation)

    def _cost_left(self) -> float:
        """What trials that are asked for from now on may cost, in trials at the highest fidelity."""
        if self._intake.budget.cost is None:
            return math.inf
        fidelity, replicates = self.spec.fidelity, self.spec.replicates
        waiting = [run.fidelity for each in self._under_way.values() for run in each.runs[::replicates]]
        spent = sum(1.0 if fidelity is None or each is None else fidelity.cost(each) for each in waiting)
        return self._intake.budget.cost - self.progress.cost - spent + SLACK

    def _unless_empty(self, generation: Generation) -> Generation | None:
        if not generation.runs:
            del self._under_way[generation.number]
        return generation if generation.runs else None

    def _generation(
        self, number: int, trials: Sequence[int], points: Sequence[dict[str, Any]], fidelities: Sequence[float]
    ) -> Generation:
        """A generation under way."""
        replicates, fidelity = range(self.spec.replicates), self.spec.fidelity
        runs = [
            Run(
                trial,
                point if fidelity is None else {**point, fidelity.name: fidelity.keyword(fidelities[row])},
                fidelity=None if fidelity is None else fidelities[row],
                seed=derive_seed(self.spec.seed, trial, replicate),
                replicate=replicate,
                generation=number,
                row=row * len(replicates) + replicate,
                attempt=self.record.attempts(trial, replicate),
            )
            for row, (trial, point) in enumerate(zip(trials, points, strict=True))
            for replicate in replicates
        ]
        self._asked = number + 1
        self._under_way[number] = generation = Generation(number, runs)
        return generation

    def _take_on(self, generation: Generation) -> None:
        """Give a generation to the compute, but for what is known of it."""
        keys = [(run.trial, run.replicate) for run in generation.runs]
        ready = [self._waiting.pop(key) for key in keys if key in self._waiting and key[0] not in generation.told]
        if self.cache is not None:
            known = generation.told.keys() | {outcome.trial for outcome in ready}
            hits = (self.cache.lookup(run) for run in generation.runs if run.trial not in known)
            ready += [outcome for outcome in hits if outcome is not None]
        self._first |= {run.trial: run for run in reversed(generation.runs)}
        self._arbiter.take_on(
            {run.trial for run in generation.runs} - generation.told.keys(), again=generation.number < self._fresh
        )
        self._evaluation.add(generation.runs, ready, generation.told)

    def _trials(self, *, at_once: bool = False) -> Iterator[Trial]:
        """The trials that were taken on, as they end, all of them recorded: at once, or in groups."""
        groups: dict[int, list[Outcome]] = {}
        fresh: list[tuple[Trial, Sequence[Outcome]]] = []
        recorded = time.monotonic()
        for outcome in self._evaluation.outcomes():
            group = groups.setdefault(outcome.trial, [])
            group.append(outcome)
            if len(group) < self.spec.replicates:
                continue
            run = self._first.pop(outcome.trial)
            ended = _trial(run, self._parameters(run), groups.pop(outcome.trial))
            passed = list(self._arbiter.ended(ended, group, at_once=at_once))
            fresh += passed
            for trial, _ in passed:
                for observer in self.observers:
                    observer.trial_ended(trial)
            if passed and (at_once or time.monotonic() - recorded > RECORD_SECONDS):
                self.record.told(fresh)
                self._arbiter.told()
                self._flush()
                fresh, recorded = [], time.monotonic()
            yield from (trial for trial, _ in passed)
        self.record.told(fresh)
        self._arbiter.told()

    def _tell_if_whole(self, generation: Generation) -> bool:
        """Tell the optimizer a generation of which every trial has ended, and count it."""
        if len(generation.told) * self.spec.replicates < len(generation.runs):
            return False
        trials = [generation.told[number] for number in sorted(generation.told)]
        values = np.array([self.scale.values(trial) for trial in trials])
        violations = [0.0 if trial.status is Status.FAILED else self.scale.violation(trial) for trial in trials]
        told = [trial.number for trial in trials], values[:, 0] if values.shape[1] == 1 else values, violations
        if self.optimizer.takes_gradients:
            self.optimizer.tell(*told, cube_gradients(self.space, self.scale, trials))
        else:
            self.optimizer.tell(*told)
        for trial in trials:
            self.progress.add(trial)
        self.progress.generations += 1
        del self._under_way[generation.number]
        return True

    def _announce(self, number: int) -> None:
        self.progress.seconds = time.monotonic() - self._clock
        for observer in self.observers:
            observer.generation_completed(number, self.progress)

    def _save(self) -> None:
        """Bring the arrays and the checkpoint up to date, where that is due."""
        self._flush()
        # What was told of a generation under way would be missing beyond the checkpoint.
        between = not any(each.told for each in self._under_way.values())
        if between and time.monotonic() - self._checkpointed > CHECKPOINT_SECONDS:
            self._checkpoint()

    def _checkpoint(self) -> None:
        under_way = [
            [
                each.number,
                [run.trial for run in runs],
                [self._parameters(run) for run in runs],
                [run.fidelity for run in runs if run.fidelity is not None],
            ]
            for each in self._under_way.values()
            for runs in [each.runs[:: self.spec.replicates]]
        ]
        state = {"optimizer": self.optimizer.state(), "progress": self.progress.state(), "asked": self._asked}
        self.record.save_checkpoint(dump_state({**state, "under_way": under_way}))
        self._checkpointed = time.monotonic()

    def _restore(self) -> deque[entries.Generation]:
        """Bring the optimizer to its last checkpoint; returns what the ledger holds since then."""
        found = self.record.checkpoint()
        if found is None:
            self._intake = Intake(self.record, self.optimizer, self.spec, self.observers)
            return deque(self.record.history())
        payload, after = found
        self._restored = True
        state = load_state(payload)
        self.optimizer = optimizer_from_state(state["optimizer"])
        self._intake = Intake(self.record, self.optimizer, self.spec, self.observers, after)
        self.progress.restore(state["progress"])
        self._asked = state["asked"]
        under_way = []
        for number, trials, points, *rest in state["under_way"]:
            fidelities = rest[0] if rest else []
            self._generation(number, trials, points, fidelities)
            seeds = [derive_seed(self.spec.seed, trial) for trial in trials]
            numbers = self._numbers(points)
            known = entries.Generation(number, trials, numbers, len(trials), fidelities=fidelities)
            under_way.append((known, seeds))
        return deque(self.record.history(after, under_way))

    def _ask_again(self, recorded: entries.Generation) -> Generation | None:
        """A generation that the ledger holds: the optimizer is asked for it as it was then, unless it still knows."""
        if (known := self._under_way.get(recorded.number)) is not None:
            known.told |= recorded.told
            return known
        self._intake.replay(recorded.asked_at)
        fidelity, wanted = self.spec.fidelity, recorded.wanted
        ids, x, fidelities = proposed(self.optimizer, fidelity, wanted, closing=recorded.closing)
        points = self.space.decode(x)
        same = np.array_equal(self._numbers(points), recorded.parameters, equal_nan=True)
        if (ids, fidelities) != (list(recorded.trials), list(recorded.fidelities)) or not same:
            raise CorruptionError(
                f"generation {recorded.number} cannot be replayed: the optimizer now asks for other points than the "
                "ledger holds. Was the study written by another version? Run it anew with --new."
            )
        generation = self._generation(recorded.number, ids, points, fidelities)
        generation.told |= recorded.told
        return self._unless_empty(generation)

    def _replay_async(self, history: Sequence[entries.Generation]) -> None:
        """Ask and tell in the order of the ledger."""
        events: list[tuple[int, entries.Generation, Trial | None]] = []
        for each in history:
            events += [(each.asked_at, each, None)] if each.asked_at >= 0 else []
            events += [(at, each, each.told[number]) for number, at in each.told_at.items()]
        for at, recorded, trial in sorted(events, key=lambda event: event[0]):
            self._intake.replay(at)
            if trial is None:
                if (generation := self._ask_again(recorded)) is not None:
                    generation.told.clear()
            else:
                generation = self._under_way[recorded.number]
                generation.told[trial.number] = trial
                self._tell_if_whole(generation)

    def _parameters(self, run: Run) -> dict[str, Any]:
        """The parameters of a run, without its fidelity."""
        fidelity = self.spec.fidelity
        return {name: value for name, value in run.parameters.items() if fidelity is None or name != fidelity.name}

    def _numbers(self, points: Sequence[dict[str, Any]]) -> Array:
        return np.array([self.space.to_numbers(point) for point in points]).reshape(-1, self.space.dimensions)


def _trial(run: Run, parameters: dict[str, Any], outcomes: Sequence[Outcome]) -> Trial:
    merged = merge(outcomes)
    return Trial(
        number=run.trial,
        parameters=parameters,
        fidelity=run.fidelity,
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
        gradients=merged.gradients,
    )
