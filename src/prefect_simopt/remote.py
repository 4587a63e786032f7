"""What a pod does with a batch: the simulator's own processes there, outcomes in the store, nothing else to report.

It may be begun again at any time: runs whose outcome is in the store are left out. Once the study's flow is gone, the
run in progress may end, and no other is begun.
"""

import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter

from prefect_simopt.assignment import Assignment
from prefect_simopt.compute import Listener
from prefect_simopt.counts import Counts
from prefect_simopt.errors import SimulatorError, StoreError
from prefect_simopt.lease import is_written_by
from prefect_simopt.outcomes import find_outcomes
from prefect_simopt.simulators.bundle import unpack
from prefect_simopt.simulators.config import SimulatorConfig
from prefect_simopt.simulators.container import STOP_MARGIN
from prefect_simopt.simulators.local import LocalCompute
from prefect_simopt.storage import Storage, StudyLocation

__all__ = ["Report", "evaluate_batch"]

GRACE = 5.0  # seconds that the run in progress has left when the batch is cancelled
_LEASE_SECONDS = 10.0  # between two looks at whether the study still has its writer
_config: TypeAdapter[SimulatorConfig] = TypeAdapter(SimulatorConfig)


@dataclass
class Report(Counts):
    """How a batch came out.

    Attributes:
        left: runs that were not begun, or had ended before.
        deserted: whether the study's flow was gone.
    """

    left: int = 0
    deserted: bool = False


def evaluate_batch(location: StudyLocation, key: str, listener: Listener) -> Report:
    """Run the batch that is written down under `key`.

    Args:
        location: of the study, credentials included.
        key: of the assignment.
        listener: hears what simulators print and how far they are.

    Raises:
        SimulatorError: the simulator cannot be started here, or is not the one that the flow knows.
        StoreError: the store cannot be read or written.
    """
    storage = location.storage()
    batch = Assignment.read(storage, key)
    done = find_outcomes(storage, batch.runs)
    runs = [replace(run, wanted=run.wanted and (run.trial, run.replicate) not in done) for run in batch.runs]
    wanted = sum(run.wanted for run in runs)
    report = Report(left=len(runs) - wanted)
    if not wanted:
        return report
    with tempfile.TemporaryDirectory(prefix="simopt-code-") as folder:
        unpack(storage, batch.code, Path(folder))
        compute = LocalCompute(
            _config.validate_python({**batch.simulator, "directory": folder}),
            space_names=batch.names,
            conditional=batch.conditional,
            slopes=batch.slopes,
            workers=1,
            timeout=batch.timeout + (STOP_MARGIN if batch.simulator["type"] == "container" else 0.0),
            listener=listener,
            required_metrics=batch.required,
            location=location,
            capacity=batch.capacity,
        )
        try:
            info = compute.start()
            if info.identity != batch.identity:
                raise SimulatorError(
                    "the simulator here is not the one that the flow knows: its code differs. Let the flow and the "
                    "image have the same version of it"
                )
            compute.attach(location, batch.capacity, batch.token)
            if not info.batch:
                runs = [run for run in runs if run.wanted]
            watch = _Watch(storage, batch.token, compute, batch.timeout)
            future = compute.submit(runs)
            try:
                outcomes = future.result()
            except BaseException:  # the flow run is cancelled: Prefect raises that in this thread, wherever it is
                compute.cancel(GRACE)
                end = time.monotonic() + GRACE + 1.0
                while not future.done() and time.monotonic() < end:
                    time.sleep(0.05)
                raise
            finally:
                watch.end()
        finally:
            compute.close()
    report.deserted = watch.deserted
    report.add(outcomes)
    report.left += wanted - len(outcomes)
    return report


class _Watch:
    """Looks now and then whether the study still has the writer that wants this batch."""

    def __init__(self, storage: Storage, token: str, compute: LocalCompute, grace: float) -> None:
        self.deserted = False
        self._storage, self._token, self._compute, self._grace = storage, token, compute, grace
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="simopt-lease-watch", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Look no more."""
        self._ended.set()

    def _look(self) -> None:
        while not self._ended.wait(_LEASE_SECONDS):
            with suppress(StoreError):  # a store that is away says nothing about the flow
                if not is_written_by(self._storage, self._token):
                    self.deserted = True
                    self._compute.cancel(self._grace)
                    return
