"""What is said of a call whose host is gone."""

import os
import re
import signal
import socket
import time
from dataclasses import dataclass
from typing import Any

from prefect_simopt.simulators.capture import last_lines
from prefect_simopt.trial import Outcome, Reason, Status

__all__ = ["STARVED", "Call", "death", "failed", "not_loaded", "without_our_frames"]

STARVED = "the kernel killed the simulator: memory ran out, of the machine or of what the container may use"
_OUR_FRAMES = re.compile(
    rb'  File "(?:[^"\n]*/prefect_simopt/simulators/(?:host|hosting|supervisor|python)\.py|<frozen runpy>)".*\n?'
    rb"|\n?Extension modules: .*\n?"
)


@dataclass
class Call:
    """One call of the simulator: a run, or the runs of a block.

    Attributes:
        number: counted up in the order in which hosts get calls.
        serial: the flow's number for it.
        runs: as documents.
    """

    number: int
    serial: int
    runs: list[dict[str, Any]]

    @property
    def wanted(self) -> list[dict[str, Any]]:
        """The runs whose outcomes are wanted."""
        return [run for run in self.runs if run["wanted"]]


def death(status: int, starved: bool = False) -> tuple[Reason, str]:
    """Why a host is gone, by the status that it left and by whether the kernel has killed for want of memory."""
    if os.WIFSIGNALED(status):
        if starved and os.WTERMSIG(status) == signal.SIGKILL:
            return Reason.MEMORY, STARVED
        number = os.WTERMSIG(status)
        name = signal.Signals(number).name if number in list(signal.Signals) else f"signal {number}"
        hint = " (so does the kernel when memory runs out)" if number == signal.SIGKILL else ""
        return Reason.KILLED, f"the simulator's process was killed by {name}{hint}"
    return Reason.EXIT, f"the simulator ended its own process with exit code {os.WEXITSTATUS(status)}"


def failed(call: Call, reason: Reason, message: str, seconds: float) -> list[Outcome]:
    """Outcomes of a call's wanted runs, all of them failed."""
    worker = f"{socket.gethostname()}:{os.getpid()}"
    return [
        Outcome(run["trial"], Status.FAILED, run["replicate"], seconds=seconds, reason=reason, message=message,
                attempt=run["attempt"], started=time.time() - seconds, worker=worker)
        for run in call.wanted
    ]  # fmt: skip


def not_loaded(status: int, late: float | None, text: bytes) -> str:
    """Why a simulator did not start: it ended, or was not done after `late` seconds."""
    if late is not None:
        what = f"the simulator was not loaded within {late:g} s"
    else:
        what = f"the simulator's process ended while it was loaded: {death(status)[1]}"
    return f"{what}; the last it printed:\n{last_lines(text)}" if text else what


def without_our_frames(text: bytes) -> bytes:
    """What a crashed Python printed, with the user's frames only."""
    return _OUR_FRAMES.sub(b"", text)
