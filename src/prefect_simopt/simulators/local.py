"""Simulators as processes of this machine: the flow's side."""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from itertools import count
from types import MappingProxyType
from typing import Any

from prefect_simopt.compute import Listener
from prefect_simopt.errors import SimoptError, SimulatorError, StoreError
from prefect_simopt.simulators.batch import Batch, cut
from prefect_simopt.simulators.config import CommandSimulator, PythonSimulator, SimulatorConfig
from prefect_simopt.simulators.connections import Connections
from prefect_simopt.simulators.devices import worker_environment
from prefect_simopt.simulators.dispatcher import Dispatcher
from prefect_simopt.simulators.transport import SimulatorInfo, describe
from prefect_simopt.simulators.worker import Worker, pass_on
from prefect_simopt.storage import StudyLocation
from prefect_simopt.trial import Outcome, Run

__all__ = ["LocalCompute", "SimulatorInfo"]

START_SECONDS = 600.0
BUILD_SECONDS = 7200.0  # when the program is built from source first
KILL_SECONDS = 5.0  # after its grace, a supervisor that has not ended is killed
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
        self._connections = Connections(self._hear, self._connection_failed)
        self._dispatcher = Dispatcher(self._connections.send)
        self._alive: dict[int, Worker] = {}
        self._serials = count()
        self._deaths = 0
        self._error: Exception | None = None
        self._ending = False

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
        described, self._blob = describe(self._simulator, self._function)
        self._setup = {**described, **self._terms(patience)}
        alone_first = isinstance(self._simulator, CommandSimulator)  # it checks and builds for the others
        try:
            with self._changed:
                for place in range(1 if alone_first else self.workers):
                    self._add_worker(place)
                self._connections.start()
                while self._info is None and self._error is None:
                    self._changed.wait(1.0)
                for place in range(len(self._alive), self.workers if self._error is None else 0):
                    self._add_worker(place)
                self._connections.wake()
        except BaseException:
            self.close()
            raise
        if self._info is None:
            self.close()
            assert self._error is not None  # noqa: S101
            raise self._error
        return self._info

    def _terms(self, patience: float | None) -> dict[str, Any]:
        """What supervisors are told beside the simulator itself."""
        building = isinstance(self._simulator, CommandSimulator) and self._simulator.source is not None
        return {
            "names": self._names,
            "conditional": self._conditional,
            "slopes": self._slopes,
            "required": self._required,
            "timeout": self._timeout,
            "start_seconds": patience or (BUILD_SECONDS if building else START_SECONDS),
            "listen": self._listener is not None,
            "resolved": None,
        }

    def _add_worker(self, place: int) -> None:
        own = self._simulator.environment if isinstance(self._simulator, PythonSimulator) else {}
        environment = worker_environment(place, self.workers, own, os.environ)
        worker = self._alive[place] = Worker(place, environment, self._setup, self._blob)
        if self._location is not None:
            worker.channel.send({"store": self._store()})
        self._connections.add(worker)

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
                self._connections.send(worker, {"store": self._store()})

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
                self._dispatcher.put(batch)
                self._dispatcher.dispatch(self._alive.values())
        return batch.future

    # Hearing supervisors, in the thread of the connections

    def _hear(self, worker: Worker) -> None:
        ended: list[Batch] = []
        with self._changed:
            for document, _ in worker.channel.receive():
                if "done" in document:
                    self._deaths = 0
                    ended += self._dispatcher.take_outcomes(worker, document["done"])
                elif "returned" in document:
                    self._dispatcher.take_back(worker, document["returned"])
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
            if not self._connections.settle(worker):
                ended += self._has_ended(worker)
            self._dispatcher.dispatch(self._alive.values())
        for batch in ended:
            batch.future.set_result(batch.result())

    def _connection_failed(self, error: BaseException) -> None:
        """The thread that hears supervisors is gone: nobody may wait for it."""
        with self._lock:
            self._break(SimulatorError(f"the connection to the simulators failed: {error!r}"))

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

    def _has_ended(self, worker: Worker) -> list[Batch]:
        """A supervisor is gone, as it was told to or killed; returns the batches that have ended with it."""
        worker.ended()
        if self._ending or self._error is not None:
            ended, worker.batches = worker.batches, []
        else:
            ended = self._replace(worker)
        if self._alive[worker.place] is worker:
            del self._alive[worker.place]
        self._changed.notify_all()
        return ended

    def _replace(self, worker: Worker) -> list[Batch]:
        """Start another supervisor in the place of one that was killed; returns the batches that needed no other."""
        self._deaths += 1
        if worker.crash or self._deaths > RESTARTS * self.workers:
            detail = f":\n{worker.crash}" if worker.crash else "; were they killed, or is memory short?"
            self._break(SimulatorError(f"the processes that run the simulator end at once{detail}"))
            return []
        ended: list[Batch] = []
        if self._location is not None:  # otherwise it was killed before it could be given anything
            try:
                ended = self._dispatcher.recover(worker, self._location)
            except StoreError as error:
                self._break(error)
                return []
        self._add_worker(worker.place)
        return ended

    # Ending

    def _break(self, error: SimoptError) -> None:
        """This place is broken: every batch fails with the error."""
        if self._error is None:
            self._error = error
            given = [batch for worker in self._alive.values() for batch in worker.batches]
            for batch in self._dispatcher.clear() + given:
                batch.future.set_exception(error)
            for worker in self._alive.values():
                worker.batches = []
        self._changed.notify_all()

    def cancel(self, grace: float = 5.0) -> None:
        """Start nothing more, give running simulators `grace` seconds, then kill them. Returns at once.

        Futures resolve to the outcomes that there are; a run that was killed or not started has none.
        """
        with self._lock:
            self._ending = True
            waiting = [batch for batch in self._dispatcher.clear() if batch.future.running()]
            for worker in self._alive.values():
                self._connections.send(worker, {"end": grace})
            self._connections.finish(grace + KILL_SECONDS)
        for batch in waiting:
            batch.future.set_result(batch.result())

    def kill(self) -> None:
        """Kill every process at once. It takes no lock, so that a signal handler may call it before the end."""
        self._ending = True
        for worker in list(self._alive.values()):
            worker.kill()
            worker.ended()

    def close(self) -> None:
        """End every process that this place started. Idempotent."""
        self.cancel(0.0)
        self._connections.join(3 * KILL_SECONDS)
        for worker in list(self._alive.values()):  # the thread was never started, or is stuck
            worker.kill()
            worker.ended()
        self._alive.clear()
        self._connections.close()
