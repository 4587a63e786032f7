"""The mapped task that evaluates batches, and the compute that hands it to the search.

A task run costs Prefect about 3 ms in the flow's process and 5 to 18 ms in its server. So a task run that began with a
short batch goes on with the batches that follow, of later generations too, until it holds about a second of work:
tracking costs the same share of the time however short a trial is. A batch of long trials is a task run of its own.

Simulators do not wait for Prefect: a batch is given to the compute at once, and its task run, which takes a tenth of a
second to begin, follows it. A compute that starts flow runs of its own needs the task run first, as their parent.
"""

import contextvars
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self

from prefect import task, unmapped
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import TaskRunContext
from prefect.exceptions import Pause
from prefect.futures import PrefectFuture
from prefect.runtime import task_run
from prefect.states import Cancelled, Completed, Failed

from prefect_simopt.compute import Compute
from prefect_simopt.counts import Counts
from prefect_simopt.tasks.quiet import hush
from prefect_simopt.trial import Outcome, Run

__all__ = ["Batch", "TrackedCompute", "evaluate"]

TASK_SECONDS = 1.0  # work that a task run holds
TASK_RATE = 10.0  # task runs a second: at twice as many Prefect's recorder falls behind, and then drops some
BURST = 200  # task runs that may be ahead of that rate
OUTSTANDING = 500  # task runs at once: many more and the server's event queue drops some


hush()


class Batch:
    """Runs on their way through Prefect. No dataclass, so that Prefect does not search it for futures.

    Attributes:
        runs: what is to be evaluated.
        outcomes: resolves to what came of it.
        ahead: whether it is evaluated without waiting for a task run.
        taken: whether a task run has it.
    """

    def __init__(self, runs: Sequence[Run], outcomes: "Future[list[Outcome]] | None" = None) -> None:
        self.runs = runs
        self.ahead, self.taken = outcomes is not None, False
        self.outcomes: Future[list[Outcome]] = Future() if outcomes is None else outcomes


class _TaskTally:
    """What one task run did."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.first = self.last = -1
        self.generations = (-1, -1)

    def add(self, runs: Sequence[Run], outcomes: Sequence[Outcome]) -> None:
        if self.first < 0:
            self.first, self.generations = runs[0].trial, (runs[0].generation, runs[0].generation)
        self.last, self.generations = runs[-1].trial, (self.generations[0], runs[-1].generation)
        self.counts.add(outcomes)

    @property
    def name(self) -> str:
        """The trials, as in `generation 3, trials 48-63`."""
        return f"{_range('generation', *self.generations)}, {_range('trial', self.first, self.last)}"

    def state(self) -> State[Any]:
        """Failed when all runs failed: so that a long trial that failed is seen at a glance."""
        counts = self.counts
        if counts.failed and not counts.complete:
            return Failed(message=f"{counts.failed} failed; {counts.message}")
        if not counts.complete:
            return Cancelled(message="stopped before a trial had ended")
        return Completed(message=str(counts))


def _range(word: str, first: int, last: int) -> str:
    return f"{word} {first}" if first == last else f"{word}s {min(first, last)}-{max(first, last)}"


def _name() -> str:
    tally = _TaskTally()
    tally.add(task_run.parameters["batch"].runs, [])
    return tally.name


@task(task_run_name=_name, cache_policy=NO_CACHE, persist_result=False)
def evaluate(batch: Batch, compute: "TrackedCompute") -> State[Any]:
    """Evaluate a batch and, when it was short, those that follow.

    Args:
        batch: what this task run begins with.
        compute: where batches come from and go to.

    Returns:
        Completed with the counts as its message; Failed when every run failed; Cancelled when none had ended.
    """
    tally = compute.work(batch)
    if (context := TaskRunContext.get()) is not None:
        context.task_run.name = tally.name  # goes to the server with the final state
    return tally.state()


class TrackedCompute:
    """Runs the batches given to it as `evaluate` task runs of the flow run that it is created in.

    Every future resolves, also when Prefect fails to run a task: the batch is then evaluated untracked.

    Args:
        compute: where simulators run; closing it is up to its owner.
        trials_per_task: `auto`, or a number: then each batch is one task run, as long as Prefect keeps up.

    Attributes:
        workers: those of `compute`.
        batch_seconds: those of `compute`: what Prefect costs is spread over a task run's batches.
        fill_batches: as for `compute`.
        started: task runs started so far.
    """

    def __init__(self, compute: Compute, trials_per_task: int | Literal["auto"] = "auto") -> None:
        self.compute = compute
        self.workers, self.batch_seconds = compute.workers, compute.batch_seconds
        self.fill_batches = compute.fill_batches
        self.started = 0
        self._one_batch = trials_per_task != "auto"
        self._opened = time.monotonic()
        self._ahead = not getattr(compute, "needs_task_run", False)
        self._queue: deque[Batch] = deque()
        self._active: set[PrefectFuture[Any]] = set()
        self._working = 0
        self._finished = self._cancelled = False
        self._changed = threading.Condition()
        # Task runs belong to the flow run of the context that they are submitted from.
        context = contextvars.copy_context()
        self._starter = threading.Thread(target=context.run, args=(self._start,), name="simopt-tasks", daemon=True)

    def __enter__(self) -> Self:
        self._starter.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            with self._changed:
                self._queue.clear()
        self.close()

    def submit(self, runs: Sequence[Run]) -> Future[list[Outcome]]:
        """Start a batch; returns at once."""
        batch = Batch(runs, self.compute.submit(runs) if self._ahead else None)
        with self._changed:
            self._queue.append(batch)
            self._changed.notify_all()
        return batch.outcomes

    def cancel(self, grace: float = 5.0) -> None:
        """Start nothing more and give running simulators `grace` seconds."""
        with self._changed:
            self._cancelled = True
            waiting = self._dropped()
        self.compute.cancel(grace)
        for batch in waiting:
            batch.outcomes.set_result([])

    def _dropped(self) -> list[Batch]:
        """Take what has not begun out of the queue."""
        waiting = [batch for batch in self._queue if not batch.ahead]
        for batch in waiting:
            self._queue.remove(batch)
        return waiting

    def close(self) -> None:
        """Wait until every batch has been in a task run, and all task runs have ended."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()
        if self._starter.is_alive():
            self._starter.join()
        for future in list(self._active):
            future.wait()

    def work(self, batch: Batch | None) -> _TaskTally:
        """Evaluate batches, beginning with this one: what a task run does."""
        tally = _TaskTally()
        end = time.monotonic() + max(TASK_SECONDS, self._limit() / TASK_RATE)
        try:
            while batch is not None:
                tally.add(batch.runs, self._evaluate(batch))
                batch = self._next(end)
        finally:
            with self._changed:
                self._working -= 1
                self._changed.notify_all()
        return tally

    def _evaluate(self, batch: Batch) -> list[Outcome]:
        batch.taken = True
        if batch.ahead:
            return batch.outcomes.result()
        try:
            outcomes = self.compute.submit(batch.runs).result()
        except BaseException as error:
            batch.outcomes.set_exception(error)
            raise
        batch.outcomes.set_result(outcomes)
        return outcomes

    def _next(self, end: float) -> Batch | None:
        """The next batch of a task run that is to end at `end`, waiting for it; None when it should end."""
        with self._changed:
            while self._goes_on() and (self._finished or time.monotonic() < end):
                if batch := self._pop():
                    return batch
                if self._finished:
                    break
                self._changed.wait(end - time.monotonic())
        return None

    def _pop(self) -> Batch | None:
        """The next batch; one that was cancelled before it began needs no task run."""
        while self._queue:
            batch = self._queue.popleft()
            done = batch.ahead and batch.outcomes.done()
            if not done or batch.outcomes.exception() is not None or batch.outcomes.result():
                return batch
        return None

    def _goes_on(self) -> bool:
        """Whether a task run may take another batch."""
        ahead = self.started > BURST + TASK_RATE * (time.monotonic() - self._opened)
        return ahead or not self._one_batch

    def _limit(self) -> int:
        """Task runs at the same time."""
        return min(self.workers, OUTSTANDING)

    def _start(self) -> None:
        """Start task runs as long as there is work for them: what the starter's thread does."""
        while True:
            with self._changed:
                while not (self._queue and self._working < self._limit()):
                    if self._finished and not self._queue:
                        return
                    self._changed.wait()
                room = self._limit() - self._working
                batches = [batch for _ in range(room) if (batch := self._pop()) is not None]
                self._working += len(batches)
                self.started += len(batches)
            if not batches:
                continue
            try:
                futures = evaluate.map(batches, compute=unmapped(self))
            except Pause:  # the flow run is suspended, and the search is about to be stopped
                with self._changed:
                    self._queue.extendleft(reversed(batches))
                    self._working -= len(batches)
                    waiting = self._dropped() if self._cancelled else []
                for batch in waiting:
                    batch.outcomes.set_result([])
                return
            except Exception as error:  # noqa: BLE001 - whatever ails Prefect, the search goes on
                logging.getLogger(__name__).warning(
                    "Prefect did not start a task run (%s); its batch is evaluated untracked", error
                )
                for batch in batches:
                    self._untracked(batch)
                continue
            for batch, future in zip(batches, futures, strict=True):
                self._active.add(future)
                future.add_done_callback(partial(self._ended, batch=batch))

    def _ended(self, future: PrefectFuture[Any], batch: Batch) -> None:
        self._active.discard(future)
        self._untracked(batch)

    def _untracked(self, batch: Batch) -> None:
        """Evaluate a batch whose task run ended before it began."""
        if not batch.taken:
            self.work(batch)
