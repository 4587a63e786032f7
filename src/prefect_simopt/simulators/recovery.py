"""Batches on the flow's side: how they are cut into calls, and what is done for them when a supervisor is killed."""

import os
import socket
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import groupby

from prefect_simopt.outcomes import OutcomeSink, find_outcomes
from prefect_simopt.storage import StudyLocation
from prefect_simopt.trial import Outcome, Reason, Run, Status

__all__ = ["Batch", "cut", "recover"]


@dataclass(eq=False)
class Batch:
    """Runs that one worker gets at a time.

    Attributes:
        runs: those whose outcomes are wanted.
        future: of their outcomes.
        calls: those that have not ended, by serial number.
        outcomes: those that there are, by trial and replicate.
    """

    runs: Sequence[Run]
    future: "Future[list[Outcome]]" = field(default_factory=Future)
    calls: dict[int, list[Run]] = field(default_factory=dict)
    outcomes: dict[tuple[int, int], Outcome] = field(default_factory=dict)

    def result(self) -> list[Outcome]:
        """The outcomes that there are, in the order of the runs."""
        keys = [(run.trial, run.replicate) for run in self.runs]
        return [self.outcomes[key] for key in keys if key in self.outcomes]


def cut(runs: Sequence[Run], rows: int) -> list[list[Run]]:
    """Calls of the simulator: one run each, or the blocks of `rows` rows of a generation."""
    if not rows:
        return [[run] for run in runs]
    return [list(block) for _, block in groupby(runs, lambda run: (run.generation, run.row // rows))]


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
            batch.outcomes |= {(outcome.trial, outcome.replicate): outcome for outcome in found}
            del batch.calls[serial]
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
