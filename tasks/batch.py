"""What the flow `evaluate` does in a pod: one batch, with its lines and its progress shown in Prefect."""

import threading
from typing import Any
from uuid import UUID

from httpx import HTTPError
from prefect.artifacts import create_progress_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.client.schemas.objects import State
from prefect.exceptions import PrefectException
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed

from prefect_simopt.blocks.resolve import store_options
from prefect_simopt.errors import SimoptError, SimulatorError
from prefect_simopt.remote import evaluate_batch
from prefect_simopt.storage import StudyLocation
from prefect_simopt.tasks.pace import Logger, PrintedLines

__all__ = ["UNUSABLE", "run_batch"]

UNUSABLE = "SimulatorBroken"
"""Name of the state of a flow run whose simulator cannot be started: another try would not help."""
_PERIOD = 5.0  # seconds between two updates of the progress


def run_batch(study: str, batch: str, block: str | None) -> State[Any]:
    """Run a batch that is written down in a study's store.

    Args:
        study: URL of the study.
        batch: key of the batch.
        block: StudyStore block that holds the credentials; None for this machine's own.

    Returns:
        Completed with the counts, whatever came of the simulators; Failed when they could not be run.
    """
    teller = _Teller(get_run_logger())
    try:
        report = evaluate_batch(StudyLocation(study, store_options(block)), batch, teller)
    except SimulatorError as error:
        return Failed(name=UNUSABLE, message=str(error))
    except SimoptError as error:
        return Failed(message=str(error))
    finally:
        teller.end()
    if report.deserted:
        return Completed(message=f"{report}; its study's flow is gone, so the rest was left")
    return Completed(message=str(report))


class _Teller(PrintedLines):
    """Puts what simulators print into the flow run's log, and how far they are into an artifact."""

    def __init__(self, logger: Logger) -> None:
        super().__init__(logger)
        self._ended = threading.Event()
        self._fraction: tuple[int, float] | None = None
        self._thread: threading.Thread | None = None

    def progress(self, trial: int, fraction: float) -> None:
        """A simulator said how far it is."""
        with self._lock:
            self._fraction = trial, fraction
            if self._thread is None:
                target = self._context.copy().run
                self._thread = threading.Thread(target=target, args=(self._show,), name="simopt-progress", daemon=True)
                self._thread.start()

    def end(self) -> None:
        """Show no more."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(_PERIOD)

    def _show(self) -> None:
        try:
            artifact, shown = None, None
            while not self._ended.wait(0.0 if artifact is None else _PERIOD):
                if self._fraction is None or self._fraction == shown:
                    continue
                trial, fraction = shown = self._fraction
                text = f"trial {trial}"
                if artifact is None:
                    artifact = UUID(str(create_progress_artifact(100 * fraction, description=text)))
                else:
                    with get_client(sync_client=True) as client:
                        client.update_artifact(artifact, ArtifactUpdate(data=100 * fraction, description=text))
        except (HTTPError, PrefectException) as error:  # the batch goes on unseen
            self._logger.warning("progress is not shown: Prefect's API does not answer (%s)", error)
