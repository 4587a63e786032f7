"""One generation on a compute: cut into batches, retried where it failed, stopped when asked."""

import contextlib
import heapq
import math
import queue
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import replace

from prefect_simopt.compute import Compute
from prefect_simopt.compute_config import ComputeConfig
from prefect_simopt.trial import Outcome, Reason, Run, Status

__all__ = ["Evaluation", "StopRequest"]

Batch = Future[list[Outcome]]

WINDOW = 500  # batches outstanding at once: more would flood an orchestrator's event queue


class StopRequest:
    """Asks a search to end. Safe to set from signal handlers and other threads.

    Attributes:
        requested: whether a stop was asked for.
        grace: seconds that running simulators get to finish.
    """

    def __init__(self) -> None:
        self.requested = False
        self.grace = 5.0
        self._listeners: list[Callable[[], None]] = []

    def set(self, grace: float = 5.0) -> None:
        """Ask for the end."""
        self.grace = grace
        self.requested = True
        for listener in list(self._listeners):
            listener()

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` when a stop is asked for."""
        self._listeners.append(listener)

    def forget(self, listener: Callable[[], None]) -> None:
        """The inverse of `listen`."""
        self._listeners.remove(listener)


class Durations:
    """Mean seconds of a run, recent ones counting more: what the size of batches is chosen from."""

    def __init__(self) -> None:
        self.mean = math.nan

    def add(self, seconds: float) -> None:
        """Take a measured run into account."""
        self.mean = seconds if math.isnan(self.mean) else 0.8 * self.mean + 0.2 * seconds


class Evaluation:
    """Evaluates generations, one after another, and remembers how long runs take.

    Args:
        config: retries and batch sizes.
        compute: where runs go.
        batch_rows: rows in each call of a batch simulator, 0 for other simulators.
        attempted: told of each failed run that is run again.
        stop: ends an evaluation early.

    Attributes:
        batches: how many there have been: the number of the next one.
    """

    def __init__(
        self,
        config: ComputeConfig,
        compute: Compute,
        batch_rows: int,
        attempted: Callable[[Outcome], None],
        stop: StopRequest,
    ) -> None:
        self.config, self.compute, self.batch_rows = config, compute, batch_rows
        self.attempted, self.stop = attempted, stop
        self.durations = Durations()
        self.batches = 0
        self._kills: Counter[tuple[int, int]] = Counter()
        self._todo: deque[list[Run]] = deque()
        self._retries: list[tuple[float, int, int, Run]] = []  # when, trial, replicate: runs have no order
        self._outstanding: dict[Batch, int] = {}
        self._runs: dict[tuple[int, int], tuple[Run, Sequence[Run]]] = {}
        self._ready: deque[Outcome] = deque()
        self._ended: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()

    def add(self, runs: Sequence[Run], ready: Sequence[Outcome] = (), recorded: Collection[int] = ()) -> None:
        """Take on a generation and start it; may be called while `outcomes` is being iterated over.

        Args:
            runs: all runs of the generation, in order.
            ready: outcomes of some of them that were found in the store.
            recorded: trials whose runs have all ended and been recorded before.
        """
        by_key = {(run.trial, run.replicate): run for run in runs}
        missing = {key for key in by_key if key[0] not in recorded}
        self._runs |= {key: (by_key[key], runs) for key in missing}
        for outcome in ready:
            missing.discard((outcome.trial, outcome.replicate))
            if self._again(outcome):
                self._postpone(outcome)
            else:
                self._ready.append(outcome)
        self._todo.extend(self._blocks(runs, [run for key, run in by_key.items() if key in missing]))
        if not self.stop.requested:
            self._feed()

    def outcomes(self) -> Iterator[Outcome]:
        """Evaluate all that was added; yields each run's final outcome as they end.

        When a stop was asked for, what runs gets its grace, and the rest is dropped.
        """
        cancelled = False
        wake = lambda: self._ended.put(None)  # noqa: E731 - the same object is needed to stop listening
        self.stop.listen(wake)
        try:
            while self._ready or self._todo or self._retries or self._outstanding:
                if self.stop.requested:
                    self._todo.clear()
                    self._retries.clear()
                    if not cancelled:
                        cancelled = True
                        self.compute.cancel(self.stop.grace)
                while self._retries and self._retries[0][0] <= time.monotonic():
                    run = heapq.heappop(self._retries)[-1]
                    self._todo.extendleft(self._blocks(self._runs[run.trial, run.replicate][1], [run]))
                while self._ready:
                    outcome = self._ready.popleft()
                    self._runs.pop((outcome.trial, outcome.replicate), None)
                    yield outcome
                self._feed()  # also what was added meanwhile
                for outcome in self._wait():
                    if outcome.status is Status.COMPLETE:
                        self.durations.add(outcome.seconds)
                    if not self._again(outcome):
                        self._ready.append(outcome)
                    elif not cancelled:  # otherwise the outcome waits in the store for the next run of the study
                        self._postpone(outcome)
        finally:
            self.stop.forget(wake)

    def _blocks(self, runs: Sequence[Run], wanted: Sequence[Run]) -> Iterator[list[Run]]:
        """The smallest pieces that may be submitted: single runs, or aligned blocks of a batch simulator.

        A block always has all its rows, so that a trial is computed among the same neighbours every time.
        """
        if not self.batch_rows:
            yield from ([run] for run in wanted)
            return
        by_row = {run.row: run for run in wanted}
        for block in sorted({row // self.batch_rows for row in by_row}):
            rows = runs[block * self.batch_rows : (block + 1) * self.batch_rows]
            yield [by_row.get(run.row, replace(run, wanted=False)) for run in rows]

    def _again(self, outcome: Outcome) -> bool:
        if outcome.status is Status.COMPLETE:
            return False
        spent = outcome.attempt
        if outcome.reason is Reason.KILLED:  # kills of earlier runs of the study do not count
            spent = min(spent, self._kills[outcome.trial, outcome.replicate])
            self._kills[outcome.trial, outcome.replicate] += 1
        return spent < self.config.reruns(outcome.reason)

    def _postpone(self, outcome: Outcome) -> None:
        self.attempted(outcome)
        run, _ = self._runs[outcome.trial, outcome.replicate]
        again = replace(run, attempt=outcome.attempt + 1)
        blameless = outcome.reason in (Reason.KILLED, Reason.MEMORY)
        delay = 0.0 if blameless else self.config.retry_delay * 2.0**outcome.attempt
        heapq.heappush(self._retries, (time.monotonic() + delay, run.trial, run.replicate, again))

    def _feed(self) -> None:
        """Submit batches until the compute is busy."""
        limit = min(WINDOW, 2 * self.compute.workers)
        while self._todo and len(self._outstanding) < limit:
            batch = self._todo.popleft()
            size = self._size(len(self._todo) + 1)
            while self._todo and len(batch) < size:
                batch = batch + self._todo.popleft()
            future = self.compute.submit(batch)
            self._outstanding[future] = self.batches
            self.batches += 1
            future.add_done_callback(self._ended.put)

    def _size(self, left: int) -> int:
        """Runs in the next batch, when `left` are left."""
        if isinstance(self.config.trials_per_task, int):
            return self.config.trials_per_task
        fill, workers = self.compute.fill_batches, self.compute.workers
        if math.isnan(self.durations.mean) or (self.batch_rows and not fill):
            return math.ceil(left / max(workers - len(self._outstanding), 1)) if fill else 1
        wanted = math.ceil(self.compute.batch_seconds / max(self.durations.mean, 1e-7))
        return max(1, wanted if fill else min(wanted, math.ceil(left / workers)))

    def _wait(self) -> list[Outcome]:
        """Outcomes of the batches that have ended: at least one's, unless a retry is due or a stop was asked for."""
        outcomes: list[Outcome] = []
        if not self._outstanding and not self._retries:
            return outcomes
        timeout = max(self._retries[0][0] - time.monotonic(), 0.0) if self._retries else None
        try:
            future = self._ended.get(timeout=timeout)
            while True:
                if future is not None and future in self._outstanding:
                    number = self._outstanding.pop(future)
                    with contextlib.suppress(CancelledError):
                        outcomes += [replace(outcome, batch=number) for outcome in future.result()]
                future = self._ended.get_nowait()
        except queue.Empty:
            return outcomes
