"""Simulators as processes of this machine: the flow's side."""

import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import count
from types import MappingProxyType
from typing import Any

from prefect_simopt.compute import Listener
from prefect_simopt.errors import SimoptError, SimulatorError, StoreError
from prefect_simopt.simulators.config import CommandSimulator, PythonSimulator, SimulatorConfig
from prefect_simopt.simulators.devices import worker_environment
from prefect_simopt.simulators.recovery import Batch, cut, recover
from prefect_simopt.simulators.transport import SimulatorInfo, describe
from prefect_simopt.simulators.worker import Worker, pass_on
from prefect_simopt.storage import StudyLocation
from prefect_simopt.trial import Outcome, Run

__all__ = ["LocalCompute", "SimulatorInfo"]

START_SECONDS = 600.0
BUILD_SECONDS = 7200.0  # when the program is built from source first
RESTARTS = 3  # a worker's supervisors that may die in a row without any outcome


class LocalCompute:
    """Runs simulators in processes of this machine.

    Args:
        simulator: the spec's simulator.
        space_names: names of the space's parameters.
        conditional: those that some runs do not have, and whether they are numbers.
        slopes: those by which the required metrics are to be differentiated.
        workers: how many run at the same time.
        timeout: seconds after which a call of the simulator is killed; None for no limit.
        listener: hears what simulators print and how far they are.
        function: the simulator itself, where it has no importable name.
        required_metrics: metrics without which a run has failed.
        location: of the study, unless `attach` follows.
        capacity: trials that the study has room for.

    Example:
        ```python
        compute = LocalCompute(PythonSimulator(entrypoint="bowl.py:bowl"), space_names=["x"], workers=2)
        info = compute.start()
        compute.attach(StudyLocation("studies/bowl"), capacity=100)
        outcomes = compute.submit([Run(0, {"x": 1.0}, seed=7)]).result()
        compute.close()
        ```
    """

    batch_seconds = 0.05
    fill_batches = False

    def __init__(
        self,
        simulator: SimulatorConfig,
        *,
        space_names: Sequence[str],
        workers: int,
        timeout: float | None = None,
        location: StudyLocation | None = None,
        capacity: int = 0,
        listener: Listener | None = None,
        function: Callable[..., Any] | None = None,
        required_metrics: Sequence[str] = (),
        conditional: Mapping[str, bool] = MappingProxyType({}),
        slopes: Sequence[str] = (),
    ) -> None:
        self.workers = workers
        self._simulator, self._names, self._timeout = simulator, list(space_names), timeout
        self._listener, self._function, self._required = listener, function, list(required_metrics)
        self._conditional, self._slopes = dict(conditional), list(slopes)
        self._location, self._capacity, self._token = location, capacity, ""
        self._info: SimulatorInfo | None = None
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._selector = selectors.DefaultSelector()
        self._alive: dict[int, Worker] = {}
        self._queue: deque[Batch] = deque()
        self._serials = count()
        self._deaths = 0
        self._error: Exception | None = None
        self._ending = False
        self._kill_at = float("inf")
        self._wake, self._wakened = socket.socketpair()
        self._wake.setblocking(False)
        self._wakened.setblocking(False)
        self._thread = threading.Thread(target=self._serve, name="simopt-workers", daemon=True)

    # Starting

    def start(self, patience: float | None = None) -> SimulatorInfo:
        """Start the processes and load the simulator; nothing is written.

        Args:
            patience: seconds that loading may take.

        Returns:
            What is known of it, as soon as the first worker has it.

        Raises:
            SimulatorError: it is missing or broken, or does not take the space's parameters.
        """
        building = isinstance(self._simulator, CommandSimulator) and self._simulator.source is not None
        described, self._blob = describe(self._simulator, self._function)
        self._setup = {
            **described,
            "names": self._names,
            "conditional": self._conditional,
            "slopes": self._slopes,
            "required": self._required,
            "timeout": self._timeout,
            "start_seconds": patience or (BUILD_SECONDS if building else START_SECONDS),
            "listen": self._listener is not None,
            "resolved": None,
        }
        alone_first = isinstance(self._simulator, CommandSimulator)  # it checks and builds for the others
        self._selector.register(self._wakened, selectors.EVENT_READ, None)
        try:
            with self._lock:
                for place in range(1 if alone_first else self.workers):
                    self._add_worker(place)
            self._thread.start()
            with self._changed:
                while self._info is None and self._error is None:
                    self._changed.wait(1.0)
                for place in range(len(self._alive), self.workers if self._error is None else 0):
                    self._add_worker(place)
        except BaseException:
            self.close()
            raise
        self._poke()
        if self._info is None:
            self.close()
            assert self._error is not None  # noqa: S101
            raise self._error
        return self._info

    def _add_worker(self, place: int) -> None:
        own = self._simulator.environment if isinstance(self._simulator, PythonSimulator) else {}
        environment = worker_environment(place, self.workers, own, os.environ)
        worker = self._alive[place] = Worker(place, environment, self._setup, self._blob)
        if self._location is not None:
            worker.channel.send({"store": self._store()})
        self._selector.register(worker.channel.sock, self._events(worker), worker)

    def attach(self, location: StudyLocation, capacity: int, token: str = "") -> None:
        """Say where outcomes and fields are written, before the first `submit`.

        Args:
            location: of the study.
            capacity: trials that it has room for.
            token: of the study's writer; once this process is gone, fields are only written while it has no other.
        """
        with self._lock:
            self._location, self._capacity, self._token = location, capacity, token
            for worker in self._alive.values():
                self._send(worker, {"store": self._store()})

    def _store(self) -> dict[str, Any]:
        assert self._location is not None  # noqa: S101
        return {"location": self._location.to_json(), "capacity": self._capacity, "token": self._token}

    # Running

    def submit(self, runs: Sequence[Run]) -> "Future[list[Outcome]]":
        """Start a batch on the next free worker.

        For a `batch=True` simulator give whole blocks, rows k B to (k + 1) B of a generation, with `wanted=False` for
        the runs whose outcomes are known; the last block of a generation may be shorter.

        Returns:
            A future of one outcome per wanted run, in order; fewer after `cancel`. It raises `SimulatorError` or
            `StoreError` when the simulator can no longer be started or the store no longer be written.
        """
        assert self._info is not None, "call start() first"  # noqa: S101
        batch = Batch([run for run in runs if run.wanted])
        with self._lock:
            for call in cut(runs, self._info.batch):
                if any(run.wanted for run in call):
                    batch.calls[next(self._serials)] = call
            if self._error is not None:
                batch.future.set_exception(self._error)
            elif self._ending or not batch.calls:
                batch.future.set_result([])
            else:
                batch.future.set_running_or_notify_cancel()
                self._queue.append(batch)
                self._dispatch()
        return batch.future

    def _dispatch(self) -> None:
        """Give waiting batches to free workers, then one in advance to each, so that none waits for the flow."""
        ready = [worker for worker in self._alive.values() if worker.ready]
        for load in (0, 1):
            for worker in ready:
                if self._queue and len(worker.batches) == load:
                    self._give(worker, self._queue.popleft())
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

    def _send(self, worker: Worker, document: dict[str, Any]) -> None:
        worker.channel.send(document)
        if worker.channel.unsent:
            self._selector.modify(worker.channel.sock, self._events(worker), worker)
            self._poke()

    @staticmethod
    def _events(worker: Worker) -> int:
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.channel.unsent else 0)

    # Listening, in a thread of its own

    def _poke(self) -> None:
        with suppress(OSError):
            self._wake.send(b"!")

    def _serve(self) -> None:
        try:
            self._listen()
        except BaseException as error:  # nobody may wait for a thread that has failed
            with self._lock:
                self._break(SimulatorError(f"the connection to the simulators failed: {error!r}"))
            raise

    def _listen(self) -> None:
        while True:
            with self._lock:
                if self._ending and not self._alive:
                    return
                wait = self._kill_at - time.monotonic()
            for key, _ in self._selector.select(min(max(wait, 0.0), 10.0)):
                if key.data is None:
                    with suppress(OSError):
                        self._wakened.recv(4096)
                else:
                    self._hear(key.data)
            if time.monotonic() >= self._kill_at:
                self._kill_at = float("inf")
                for worker in list(self._alive.values()):
                    worker.kill()

    def _hear(self, worker: Worker) -> None:
        ended: list[Batch] = []
        with self._changed:
            for document, _ in worker.channel.receive():
                if "done" in document:
                    self._take(worker, document["done"], ended)
                elif "returned" in document:
                    if (batch := self._batch_of(worker, document["returned"][0])) is not None:
                        worker.batches.remove(batch)
                        self._queue.appendleft(batch)
                elif "ready" in document:
                    self._is_ready(worker, document["ready"])
                elif "error" in document:
                    self._break(SimulatorError(document["error"]))
                elif "broken" in document:
                    self._break(StoreError(document["broken"]))
                elif "crash" in document:
                    worker.crash = document["crash"]
                elif self._listener is not None:
                    pass_on(document, self._listener)
            worker.channel.flush()
            if worker.channel.closed:
                self._selector.unregister(worker.channel.sock)
                self._has_ended(worker, ended)
            else:
                self._selector.modify(worker.channel.sock, self._events(worker), worker)
            self._dispatch()
        for batch in ended:
            batch.future.set_result(batch.result())

    def _take(self, worker: Worker, done: list[tuple[int, list[dict[str, Any]]]], ended: list[Batch]) -> None:
        self._deaths = 0
        for serial, documents in done:
            if (batch := self._batch_of(worker, serial)) is None:  # it has failed, with the whole place
                continue
            for document in documents:
                outcome = Outcome.from_json(document)
                batch.outcomes[outcome.trial, outcome.replicate] = outcome
            if all((run.trial, run.replicate) in batch.outcomes for run in batch.calls[serial] if run.wanted):
                del batch.calls[serial]
            if not batch.calls:
                worker.batches.remove(batch)
                ended.append(batch)

    @staticmethod
    def _batch_of(worker: Worker, serial: int) -> Batch | None:
        return next((batch for batch in worker.batches if serial in batch.calls), None)

    def _is_ready(self, worker: Worker, info: Mapping[str, Any]) -> None:
        worker.ready = True
        found = SimulatorInfo.of(info)
        if self._info is None:
            self._info = found
            self._setup["resolved"] = info.get("resolved")
            self._changed.notify_all()
        elif self._info != found:
            self._break(SimulatorError(
                "the simulator's files changed while the study ran; what is recorded is whole: run it again to go on "
                "with the files as they are now"
            ))  # fmt: skip

    def _has_ended(self, worker: Worker, ended: list[Batch]) -> None:
        """A supervisor is gone: as it was told to, or killed."""
        worker.ended()
        if self._ending or self._error is not None:
            ended += worker.batches
            worker.batches = []
        else:
            self._replace(worker, ended)
        if self._alive[worker.place] is worker:
            del self._alive[worker.place]
        self._changed.notify_all()

    def _replace(self, worker: Worker, ended: list[Batch]) -> None:
        """Start another supervisor in the place of one that was killed."""
        self._deaths += 1
        if worker.crash or self._deaths > RESTARTS * self.workers:
            detail = f":\n{worker.crash}" if worker.crash else "; were they killed, or is memory short?"
            self._break(SimulatorError(f"the processes that run the simulator end at once{detail}"))
            return
        try:
            self._recover(worker, ended)
        except StoreError as error:
            self._break(error)
        else:
            self._add_worker(worker.place)

    def _recover(self, worker: Worker, ended: list[Batch]) -> None:
        if self._location is None:  # it was killed before it could be given anything
            return
        recover(worker.batches, self._location)
        for batch in reversed(worker.batches):
            if batch.calls:
                self._queue.appendleft(batch)
            else:
                ended.append(batch)
        worker.batches = []

    # Ending

    def _break(self, error: SimoptError) -> None:
        """This place is broken: every batch fails with the error."""
        if self._error is None:
            self._error = error
            for batch in [*self._queue, *(batch for worker in self._alive.values() for batch in worker.batches)]:
                batch.future.set_exception(error)
            self._queue.clear()
            for worker in self._alive.values():
                worker.batches = []
        self._changed.notify_all()

    def cancel(self, grace: float = 5.0) -> None:
        """Start nothing more, give running simulators `grace` seconds, then kill them. Returns at once.

        Futures resolve to the outcomes that there are; a run that was killed or not started has none.
        """
        with self._lock:
            self._ending = True
            waiting = [batch for batch in self._queue if batch.future.running()]
            self._queue.clear()
            for worker in self._alive.values():
                self._send(worker, {"end": grace})
            self._kill_at = min(self._kill_at, time.monotonic() + grace + 5.0)
        for batch in waiting:
            batch.future.set_result(batch.result())
        self._poke()

    def kill(self) -> None:
        """Kill every process at once. It takes no lock, so that a signal handler may call it before the end."""
        self._ending = True
        for worker in list(self._alive.values()):
            worker.kill()
            worker.ended()

    def close(self) -> None:
        """End every process that this place started. Idempotent."""
        self.cancel(0.0)
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(15.0)
        for worker in list(self._alive.values()):  # the thread was never started, or is stuck
            worker.kill()
            worker.ended()
        self._alive.clear()
        self._selector.close()
        self._wake.close()
        self._wakened.close()
