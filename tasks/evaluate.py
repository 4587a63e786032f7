"""The mapped task that evaluates batches, and the compute that hands it to the search.

A task run costs Prefect about 3 ms in the flow's process and 5 to 18 ms in its server. So a task run that began with a
short batch goes on with the batches that follow, of later generations too, until it holds about a second of work:
tracking costs the same share of the time however short a trial is. A batch of long trials is a task run of its own.
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
from prefect.futures import PrefectFuture
from prefect.runtime import task_run
from prefect.states import Completed, Failed

from prefect_simopt.compute import Compute
from prefect_simopt.trial import Outcome, Run, Status

__all__ = ["Batch", "TrackedCompute", "evaluate"]

TASK_SECONDS = 1.0  # work that a task run holds
TASK_RATE = 10.0  # task runs a second: at twice as many Prefect's recorder falls behind, and then drops some
BURST = 200  # task runs that may be ahead of that rate
OUTSTANDING = 500  # task runs at once: many more and the server's event queue drops some
SPARE_BELOW = (
    2.0  # seconds: batches shorter than this have one task run more than workers, so that none waits for Prefect
)


class _Quiet(logging.Filter):
    """Keeps the several task runs a second out of the log, which tells of generations and failed trials."""

    def filter(self, record: logging.LogRecord) -> bool:
        ours = getattr(record, "task_name", "") in ("evaluate", "record", "report")
        return not ours or (record.levelno >= logging.WARNING and not record.msg.startswith("Task run failed with"))


logging.getLogger("prefect.task_runs").addFilter(_Quiet())


class Batch:
    """Runs on their way through Prefect. No dataclass, so that Prefect does not search it for futures.

    Attributes:
        runs: what is to be evaluated.
        outcomes: resolves to what came of it.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs
        self.outcomes: Future[list[Outcome]] = Future()


class _Tally:
    """What one task run did."""

    def __init__(self) -> None:
        self.complete = self.failed = 0
        self.first = self.last = -1
        self.generations = (-1, -1)
        self.message = ""

    def add(self, runs: Sequence[Run], outcomes: Sequence[Outcome]) -> None:
        if self.first < 0:
            self.first, self.generations = runs[0].trial, (runs[0].generation, runs[0].generation)
        self.last, self.generations = runs[-1].trial, (self.generations[0], runs[-1].generation)
        for outcome in outcomes:
            if outcome.status is Status.COMPLETE:
                self.complete += 1
            else:
                self.failed += 1
                self.message = self.message or f"trial {outcome.trial}: {outcome.reason}: {outcome.message}"

    @property
    def name(self) -> str:
        """The trials, as in `generation 3, trials 48-63`."""
        return f"{_range('generation', *self.generations)}, {_range('trial', self.first, self.last)}"

    def state(self) -> State[Any]:
        """Failed when all runs failed: so that a long trial that failed is seen at a glance."""
        if self.failed and not self.complete:
            return Failed(message=f"{self.failed} failed; {self.message}")
        counts = f"{self.complete} complete" + (f", {self.failed} failed; {self.message}" if self.failed else "")
        return Completed(message=counts)


def _range(word: str, first: int, last: int) -> str:
    return f"{word} {first}" if first == last else f"{word}s {min(first, last)}-{max(first, last)}"


def _name() -> str:
    tally = _Tally()
    tally.add(task_run.parameters["batch"].runs, [])
    return tally.name


@task(task_run_name=_name, cache_policy=NO_CACHE, persist_result=False)
def evaluate(batch: Batch, compute: "TrackedCompute") -> State[Any]:
    """Evaluate a batch and, when it was short, those that follow.

    Args:
        batch: what this task run begins with.
        compute: where batches come from and go to.

    Returns:
        Completed with the counts as its message; Failed when every run failed.
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
        self._seconds = 0.0  # mean of a batch
        self._queue: deque[Batch] = deque()
        self._active: set[PrefectFuture[Any]] = set()
        self._working = 0
        self._finished = False
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
        self.close()

    def submit(self, runs: Sequence[Run]) -> Future[list[Outcome]]:
        """Start a batch; returns at once."""
        batch = Batch(runs)
        with self._changed:
            self._queue.append(batch)
            self._changed.notify_all()
        return batch.outcomes

    def cancel(self, grace: float = 5.0) -> None:
        """Start nothing more and give running simulators `grace` seconds."""
        with self._changed:
            waiting = list(self._queue)
            self._queue.clear()
        self.compute.cancel(grace)
        for batch in waiting:
            batch.outcomes.set_result([])

    def close(self) -> None:
        """Wait until all task runs have ended; there are no batches left by then."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()
        if self._starter.is_alive():
            self._starter.join()
        for future in list(self._active):
            future.wait()

    def work(self, batch: Batch | None) -> _Tally:
        """Evaluate batches, beginning with this one: what a task run does."""
        tally = _Tally()
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
        begun = time.monotonic()
        try:
            outcomes = self.compute.submit(batch.runs).result()
        except BaseException as error:
            batch.outcomes.set_exception(error)
            raise
        took = time.monotonic() - begun
        self._seconds = 0.8 * self._seconds + 0.2 * took if self._seconds else took
        batch.outcomes.set_result(outcomes)
        return outcomes

    def _next(self, end: float) -> Batch | None:
        """The next batch of a task run that is to end at `end`, waiting for it; None when it should end."""
        with self._changed:
            while self._goes_on() and (left := end - time.monotonic()) > 0:
                if self._queue:
                    return self._queue.popleft()
                self._changed.wait(left)
        return None

    def _goes_on(self) -> bool:
        """Whether a task run may take another batch."""
        ahead = self.started > BURST + TASK_RATE * (time.monotonic() - self._opened)
        return not self._finished and (ahead or not self._one_batch)

    def _limit(self) -> int:
        """Task runs at the same time."""
        spare = 0.0 < self._seconds < SPARE_BELOW
        return min(self.workers + spare, OUTSTANDING)

    def _start(self) -> None:
        """Start task runs as long as there is work for them: what the starter's thread does."""
        while True:
            with self._changed:
                while not self._finished and not (self._queue and self._working < self._limit()):
                    self._changed.wait()
                if self._finished:
                    return
                room = self._limit() - self._working
                batches = [self._queue.popleft() for _ in range(min(room, len(self._queue)))]
                self._working += len(batches)
                self.started += len(batches)
            try:
                futures = evaluate.map(batches, compute=unmapped(self))
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
        if not batch.outcomes.done():
            self.work(batch)
