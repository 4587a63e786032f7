"""Which worker gets which batch, and when."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from prefect_simopt.simulators.batch import Batch
from prefect_simopt.simulators.recovery import recover
from prefect_simopt.simulators.worker import Worker
from prefect_simopt.storage import StudyLocation
from prefect_simopt.trial import Outcome

__all__ = ["Dispatcher"]


class Dispatcher:
    """Gives batches to workers, in the order in which they came. Its callers hold a lock.

    Args:
        send: sends a worker a message.
    """

    def __init__(self, send: Callable[[Worker, dict[str, Any]], None]) -> None:
        self._send = send
        self._waiting: deque[Batch] = deque()

    def put(self, batch: Batch) -> None:
        """Take a batch; `dispatch` gives it to a worker."""
        self._waiting.append(batch)

    def clear(self) -> list[Batch]:
        """Forget the batches that wait, and return them."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    def dispatch(self, workers: Iterable[Worker]) -> None:
        """Give waiting batches to free workers, then one in advance to each, so that none waits for the flow."""
        ready = [worker for worker in workers if worker.ready]
        for load in (0, 1):
            for worker in ready:
                if self._waiting and len(worker.batches) == load:
                    self._give(worker, self._waiting.popleft())
        if any(not worker.batches for worker in ready):  # what was given in advance is wanted elsewhere
            for worker in ready:
                if len(worker.batches) > 1 and not worker.asked:
                    worker.asked = True
                    self._send(worker, {"return": list(worker.batches[1].calls)})
                    return

    def _give(self, worker: Worker, batch: Batch) -> None:
        worker.batches.append(batch)
        worker.asked = False
        self._send(worker, {"calls": [[serial, runs] for serial, runs in batch.calls.items()]})

    def take_back(self, worker: Worker, serials: Sequence[int]) -> None:
        """A worker returned the batch of these calls, which it has not begun: it is the next to be given."""
        if (batch := _batch_of(worker, serials[0])) is not None:
            worker.batches.remove(batch)
            self._waiting.appendleft(batch)

    def take_outcomes(self, worker: Worker, done: Iterable[tuple[int, list[dict[str, Any]]]]) -> list[Batch]:
        """Take what came of a worker's calls: pairs of a serial number and outcomes; returns the batches that ended."""
        ended = []
        for serial, documents in done:
            if (batch := _batch_of(worker, serial)) is None:  # it has failed, with the whole place
                continue
            batch.end(serial, [Outcome.from_json(document) for document in documents])
            if not batch.calls:
                worker.batches.remove(batch)
                ended.append(batch)
        return ended

    def recover(self, worker: Worker, location: StudyLocation) -> list[Batch]:
        """Take back the batches of a worker whose supervisor was killed; returns those that have ended all the same.

        Raises:
            StoreError: the store cannot be read or written.
        """
        recover(worker.batches, location)
        batches, worker.batches = worker.batches, []
        self._waiting.extendleft(batch for batch in reversed(batches) if batch.calls)
        return [batch for batch in batches if not batch.calls]


def _batch_of(worker: Worker, serial: int) -> Batch | None:
    return next((batch for batch in worker.batches if serial in batch.calls), None)
