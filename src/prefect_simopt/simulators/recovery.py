"""What is done for batches whose supervisor was killed."""

import os
import socket
from collections.abc import Sequence

from prefect_simopt.outcomes import OutcomeSink, find_outcomes
from prefect_simopt.simulators.batch import Batch
from prefect_simopt.storage import StudyLocation
from prefect_simopt.trial import Reason

__all__ = ["recover"]

_KILLED = "the process that ran the simulator was killed from outside"


def recover(batches: Sequence[Batch], location: StudyLocation) -> None:
    """Give batches the outcomes that their supervisor wrote but did not tell, and that of the run it was killed in.

    The first run without an outcome is taken to be that one; those behind it have not begun, and stay in `calls`.

    Raises:
        StoreError: the store cannot be read or written.
    """
    worker = f"{socket.gethostname()}:{os.getpid()}"
    written = find_outcomes(location.storage(), [run for batch in batches for run in batch.runs])
    for batch in batches:
        for serial, runs in list(batch.calls.items()):
            wanted = [run for run in runs if run.wanted and (run.trial, run.replicate) not in batch.outcomes]
            found = [written[key] for run in wanted if (key := (run.trial, run.replicate)) in written]
            culprit = len(found) < len(wanted)
            if culprit:
                there = {(outcome.trial, outcome.replicate) for outcome in found}
                lost = [run for run in wanted if (run.trial, run.replicate) not in there]
                found += OutcomeSink(location).put_failed(lost, Reason.KILLED, _KILLED, worker)
            batch.end(serial, found)
            if culprit:
                return
