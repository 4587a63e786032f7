"""One generation on a compute: cut into batches, retried where it failed, stopped when asked."""

import contextlib
import heapq
import math
import queue
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import replace

from prefect_simopt.compute import Compute
from prefect_simopt.spec import LocalComputeConfig
from prefect_simopt.trial import Outcome, Reason, Run, Status

__all__ = ["Evaluation", "StopRequest"]

Batch = Future[list[Outcome]]

WINDOW = 500  # batches outstanding at once: more would flood an orchestrator's event queue
RERUNS_OF_KILLED = 2  # a run killed from outside is no verdict on its parameters


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
    """

    def __init__(
        self,
        config: LocalComputeConfig,
        compute: Compute,
        batch_rows: int,
        attempted: Callable[[Outcome], None],
        stop: StopRequest,
    ) -> None:
        self.config, self.compute, self.batch_rows = config, compute, batch_rows
        self.attempted, self.stop = attempted, stop
        self.durations = Durations()
        self.batches = 0
        self._numbers: dict[Batch, int] = {}
        self._ended: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()

    def run(
        self, runs: Sequence[Run], ready: Sequence[Outcome] = (), recorded: Collection[int] = ()
    ) -> Iterator[Outcome]:
        """Evaluate a generation.

        Args:
            runs: all runs of the generation, in order.
            ready: outcomes of some of them that were found in the store.
            recorded: trials whose runs have all ended and been recorded before.

        Yields:
            The final outcome of each run that was not recorded, as they end; fewer when a stop was asked for.
        """
        retries: list[tuple[float, int, Run]] = []
        by_key = {(run.trial, run.replicate): run for run in runs}
        missing = {key for key in by_key if key[0] not in recorded}
        for outcome in ready:
            key = outcome.trial, outcome.replicate
            missing.discard(key)
            if self._again(outcome):
                self._postpone(by_key[key], outcome, retries)
            else:
                yield outcome
        todo = deque(self._blocks(runs, [run for key, run in by_key.items() if key in missing]))
        outstanding: set[Batch] = set()
        cancelled = False
        wake = lambda: self._ended.put(None)  # noqa: E731 - the same object is needed to stop listening
        self.stop.listen(wake)
        try:
            while todo or retries or outstanding:
                if self.stop.requested:
                    todo.clear()
                    retries.clear()
                    if not cancelled:
                        cancelled = True
                        self.compute.cancel(self.stop.grace)
                    if not outstanding:
                        break
                while retries and retries[0][0] <= time.monotonic():
                    todo.extendleft(self._blocks(runs, [heapq.heappop(retries)[2]]))
                self._feed(todo, outstanding)
                for outcome in self._wait(outstanding, retries[0][0] if retries else None):
                    if outcome.status is Status.COMPLETE:
                        self.durations.add(outcome.seconds)
                    if not cancelled and self._again(outcome):
                        self._postpone(by_key[outcome.trial, outcome.replicate], outcome, retries)
                    else:
                        yield outcome
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
        allowed = self.config.retries
        if outcome.reason is Reason.KILLED:
            allowed = max(allowed, RERUNS_OF_KILLED)
        return outcome.attempt < allowed

    def _postpone(self, run: Run, outcome: Outcome, retries: list[tuple[float, int, Run]]) -> None:
        self.attempted(outcome)
        again = replace(run, attempt=outcome.attempt + 1)
        delay = self.config.retry_delay * 2.0**outcome.attempt if outcome.reason is not Reason.KILLED else 0.0
        heapq.heappush(retries, (time.monotonic() + delay, again.trial * 10_000 + again.replicate, again))

    def _feed(self, todo: deque[list[Run]], outstanding: set[Batch]) -> None:
        """Submit batches until the compute is busy."""
        limit = min(WINDOW, 2 * self.compute.workers)
        while todo and len(outstanding) < limit:
            batch = todo.popleft()
            size = self._size(len(todo) + 1)
            while todo and len(batch) < size:
                batch = batch + todo.popleft()
            future = self.compute.submit(batch)
            outstanding.add(future)
            self._numbers[future] = self.batches
            self.batches += 1
            future.add_done_callback(self._ended.put)

    def _size(self, left: int) -> int:
        """Runs in the next batch, when `left` are left."""
        if isinstance(self.config.trials_per_task, int):
            return self.config.trials_per_task
        if self.batch_rows or math.isnan(self.durations.mean):
            return 1
        wanted = math.ceil(self.compute.batch_seconds / max(self.durations.mean, 1e-7))
        return max(1, min(wanted, math.ceil(left / self.compute.workers)))

    def _wait(self, outstanding: set[Batch], until: float | None) -> list[Outcome]:
        """Outcomes of the batches that have ended: at least one's, unless time is up or a stop was asked for."""
        outcomes: list[Outcome] = []
        timeout = None if until is None else max(until - time.monotonic(), 0.0)
        try:
            future = self._ended.get(timeout=timeout)
            while True:
                if future is not None and future in outstanding:
                    outstanding.discard(future)
                    number = self._numbers.pop(future)
                    with contextlib.suppress(CancelledError):
                        outcomes += [replace(outcome, batch=number) for outcome in future.result()]
                future = self._ended.get_nowait()
        except queue.Empty:
            return outcomes
