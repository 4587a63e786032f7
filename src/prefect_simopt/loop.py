"""The whole search, over any compute: ask, evaluate, record, tell, checkpoint, and pick up what an earlier run left.

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

from prefect_simopt import entries
from prefect_simopt.arbitration import Arbiter
from prefect_simopt.cache import Cache
from prefect_simopt.compute import Compute
from prefect_simopt.evaluation import Evaluation, StopRequest
from prefect_simopt.generation import Generation
from prefect_simopt.intake import Intake
from prefect_simopt.levels import afforded
from prefect_simopt.optimizers.linear import one_thread
from prefect_simopt.progress import SLACK, Ending, Observer, Progress
from prefect_simopt.record import Record
from prefect_simopt.search_state import SearchState
from prefect_simopt.spec import StudySpec
from prefect_simopt.trial import Outcome, Trial

__all__ = ["Ending", "Observer", "Progress", "Search"]

RECORD_SECONDS = 1.0  # trials of a long generation are recorded at least this often
CHECKPOINT_SECONDS = 1.0  # replaying the tells since the last checkpoint never takes longer than about this
PAUSE_SECONDS = 0.5  # between two looks for a request to go on
_log = logging.getLogger("prefect_simopt")


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
        self._state = SearchState(self.spec, self.record.attempts)
        self._evaluation = Evaluation(
            self.spec.compute, self.compute, self.batch_rows, self.record.attempted, self.stop
        )
        self._evaluation.batches = self.record.batches
        self._arbiter = Arbiter(self.record.location, self.record.capacity, self.record.fields)
        self._flush = self.flush or self.record.flush
        self._fresh = 0  # number of the first generation that no earlier run of the study has begun
        self._restored = False  # from a checkpoint
        self._used_up = Ending.EXHAUSTED  # what is, when there is nothing more to ask for
        self._pending: dict[int, Trial] = {}  # trials taken on that have not ended
        self._waiting: dict[tuple[int, int], Outcome] = {}  # of runs that ended while nobody watched
        self._clock = self._checkpointed = time.monotonic()

    @property
    def progress(self) -> Progress:
        """How far the search is."""
        return self._state.progress

    def run(self) -> Ending:
        """Search until the budget or a request ends it; picks up where an earlier run of the same study stopped.

        Raises:
            StoreError: the store failed for good. Everything recorded so far is whole; run it again to go on.
        """
        history = self._restore()
        self._fresh = self._state.asked + sum(each.asked_at >= 0 for each in history)
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
        for name in ("numpy.ma", "numcodecs"):  # the first one for `numpy.unique`
            import_module(name)
        with one_thread():  # finds the libraries
            pass

    def _run_generations(self, history: deque[entries.Generation]) -> Ending:
        """A generation at a time: the optimizer sees it as a whole, in the order of trial numbers."""
        size = self._state.size
        while (ending := self._ending() if history else self._heed()) is None:
            generation = self._ask_again(history.popleft()) if history else self._ask(size)
            if generation is None:
                return self._used_up
            if self._state.tell_if_whole(generation):
                continue  # replayed
            for observer in self.observers:
                observer.generation_started(generation.number, len(generation.asked))
            self._take_on(generation)
            self._save()  # what came before, now that the simulators have work
            for trial in self._trials():
                generation.told[trial.number] = trial
            if not self._state.tell_if_whole(generation):
                return Ending.INTERRUPTED
            self._announce(generation.number)
        return ending

    def _run_async(self, history: deque[entries.Generation]) -> Ending:
        """Steady state: a new point is asked as soon as one returns."""
        self._replay_async(history)
        for generation in list(self._state.under_way.values()):
            self._take_on(generation)
        while True:
            ending = self._fill(wait=True)
            if not self._state.under_way:
                return ending or self._used_up
            for trial in self._trials(at_once=True):
                generation = self._state.under_way[trial.generation]
                generation.told[trial.number] = trial
                self._state.tell_if_whole(generation)
                self._fill()
                self._announce(trial.generation)
                self._save()
            if self.stop.requested:
                return Ending.INTERRUPTED

    def _fill(self, *, wait: bool = False) -> Ending | None:
        """Ask for as many points as compute has room for; tells why the search is over, if it is."""
        while (ending := self._heed(wait=wait)) is None and not self._intake.paused:
            if len(self._state.under_way) >= self.compute.workers or not (more := self._ask(1)):
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
        if wait and self._intake.paused and not self._state.under_way and self._ending() is None:
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
        outstanding = sum(len(each.asked) for each in self._state.under_way.values())
        left = self._intake.budget.trials - self.progress.told - outstanding
        size, closing = afforded(self._state.optimizer, self.spec.fidelity, size, left, self._cost_left())
        if size <= 0:
            self._used_up = Ending.BUDGET
            return None
        generation = self._state.ask(size, closing=closing)
        # Also when there was nothing to give: looking for it has used up random numbers.
        self.record.asked(
            generation.number,
            list(generation.asked),
            self._state.numbers(generation),
            generation.seeds,
            size,
            generation.fidelities,
            closing=closing,
        )
        return generation if generation.asked else None

    def _cost_left(self) -> float:
        """What trials that are asked for from now on may cost, in trials at the highest fidelity."""
        if self._intake.budget.cost is None:
            return math.inf
        waiting = [trial for each in self._state.under_way.values() for trial in each.asked.values()]
        spent = sum(map(self.progress.ranking.scale.cost, waiting))
        return self._intake.budget.cost - self.progress.cost - spent + SLACK

    def _take_on(self, generation: Generation) -> None:
        """Give a generation to the compute, but for what is known of it."""
        keys = [(run.trial, run.replicate) for run in generation.runs]
        ready = [self._waiting.pop(key) for key in keys if key in self._waiting and key[0] not in generation.told]
        if self.cache is not None:
            known = generation.told.keys() | {outcome.trial for outcome in ready}
            hits = (self.cache.lookup(run) for run in generation.runs if run.trial not in known)
            ready += [outcome for outcome in hits if outcome is not None]
        left = {number: trial for number, trial in generation.asked.items() if number not in generation.told}
        self._pending |= left
        self._arbiter.take_on(left, again=generation.number < self._fresh)
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
            ended = self._pending.pop(outcome.trial).ended(groups.pop(outcome.trial))
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

    def _announce(self, number: int) -> None:
        self.progress.seconds = time.monotonic() - self._clock
        for observer in self.observers:
            observer.generation_completed(number, self.progress)

    def _save(self) -> None:
        """Bring the arrays and the checkpoint up to date, where that is due."""
        self._flush()
        # What was told of a generation under way would be missing beyond the checkpoint.
        between = not any(each.told for each in self._state.under_way.values())
        if between and time.monotonic() - self._checkpointed > CHECKPOINT_SECONDS:
            self._checkpoint()

    def _checkpoint(self) -> None:
        self.record.save_checkpoint(self._state.dump())
        self._checkpointed = time.monotonic()

    def _restore(self) -> deque[entries.Generation]:
        """Bring the state to its last checkpoint; returns what the ledger holds since then."""
        after = -1
        if (found := self.record.checkpoint()) is not None:
            payload, after = found
            self._restored = True
            self._state.restore(payload)
        self._intake = Intake(self.record, self._state.optimizer, self.spec, self.observers, after)
        return deque(self.record.history(after, self._state.recorded()))

    def _ask_again(self, recorded: entries.Generation) -> Generation | None:
        """A generation that the ledger holds: the optimizer is asked for it as it was then, unless it still knows."""
        if recorded.number not in self._state.under_way:
            self._intake.replay(recorded.asked_at)
        generation = self._state.ask_again(recorded)
        return generation if generation.asked else None

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
                generation = self._state.under_way[recorded.number]
                generation.told[trial.number] = trial
                self._state.tell_if_whole(generation)
