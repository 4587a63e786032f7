"""What is done for batches whose supervisor was killed."""

import os
import socket
import time
from collections.abc import Sequence

from prefect_simopt.outcomes import OutcomeSink, find_outcomes
from prefect_simopt.simulators.batch import Batch
from prefect_simopt.storage import StudyLocation
from prefect_simopt.trial import Outcome, Reason, Run, Status

__all__ = ["recover"]


def recover(batches: Sequence[Batch], location: StudyLocation) -> None:
    """Give batches the outcomes that their supervisor wrote but did not tell, and that of the run it was killed in.

    The first run without an outcome is taken to be that one; those behind it have not begun, and stay in `calls`.

    Raises:
        StoreError: the store cannot be read or written.
    """
    written = find_outcomes(location.storage(), [run for batch in batches for run in batch.runs])
    for batch in batches:
        for serial, runs in list(batch.calls.items()):
            wanted = [run for run in runs if run.wanted and (run.trial, run.replicate) not in batch.outcomes]
            found = [written[key] for run in wanted if (key := (run.trial, run.replicate)) in written]
            culprit = len(found) < len(wanted)
            if culprit:
                there = {(outcome.trial, outcome.replicate) for outcome in found}
                found += _killed([run for run in wanted if (run.trial, run.replicate) not in there], location)
            batch.end(serial, found)
            if culprit:
                return


def _killed(runs: Sequence[Run], location: StudyLocation) -> list[Outcome]:
    """Outcomes, made durable, of runs whose supervisor was killed."""
    message = "the process that ran the simulator was killed from outside"
    outcomes = [
        Outcome(run.trial, Status.FAILED, run.replicate, reason=Reason.KILLED, message=message, attempt=run.attempt,
                started=time.time(), worker=f"{socket.gethostname()}:{os.getpid()}")
        for run in runs
    ]  # fmt: skip
    OutcomeSink(location).put_outcomes(outcomes)
    return outcomes
