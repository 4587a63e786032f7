"""What is said of a call whose host is gone."""

import os
import re
import signal
import socket
import time
from dataclasses import dataclass

from prefect_simopt.simulators.calls import Call
from prefect_simopt.simulators.capture import last_lines
from prefect_simopt.trial import Outcome, Reason, Status

__all__ = ["STARVED", "HostExit", "death", "failed", "not_loaded", "signal_name", "without_our_frames"]

STARVED = "the kernel killed the simulator: memory ran out, of the machine or of what the container may use"
_OUR_FRAMES = re.compile(
    rb'  File "(?:[^"\n]*/prefect_simopt/simulators/(?:host|hosting|keeper|supervisor|python)\.py|<frozen runpy>)".*\n?'
    rb"|\n?Extension modules: .*\n?"
)


@dataclass(frozen=True)
class HostExit:
    """How a host ended.

    Attributes:
        status: as `os.waitpid` gives it.
        killed_for: what its supervisor killed it for, `timeout`, `start` or `end`; empty where it did not.
        killed_in: number of the call that it was killed in.
        seconds: for which the call in progress had run.
        text: what that call had printed.
    """

    status: int
    killed_for: str
    killed_in: int
    seconds: float
    text: bytes


def death(status: int, starved: bool = False) -> tuple[Reason, str]:
    """Why a host is gone, by the status that it left and by whether the kernel has killed for want of memory."""
    if os.WIFSIGNALED(status):
        if starved and os.WTERMSIG(status) == signal.SIGKILL:
            return Reason.MEMORY, STARVED
        number = os.WTERMSIG(status)
        hint = " (so does the kernel when memory runs out)" if number == signal.SIGKILL else ""
        return Reason.KILLED, f"the simulator's process was killed by {signal_name(number)}{hint}"
    return Reason.EXIT, f"the simulator ended its own process with exit code {os.WEXITSTATUS(status)}"


def signal_name(number: int) -> str:
    """What a signal is called, `SIGKILL` for example."""
    return signal.Signals(number).name if number in list(signal.Signals) else f"signal {number}"


def failed(call: Call, reason: Reason, message: str, seconds: float) -> list[Outcome]:
    """Outcomes of a call's wanted runs, all of them failed."""
    worker = f"{socket.gethostname()}:{os.getpid()}"
    return [
        Outcome(run["trial"], Status.FAILED, run["replicate"], seconds=seconds, reason=reason, message=message,
                attempt=run["attempt"], started=time.time() - seconds, worker=worker)
        for run in call.wanted
    ]  # fmt: skip


def not_loaded(end: HostExit, patience: float) -> str:
    """Why a simulator did not start: its host ended, or was killed after `patience` seconds."""
    if end.killed_for:
        what = f"the simulator was not loaded within {patience:g} s"
    else:
        what = f"the simulator's process ended while it was loaded: {death(end.status)[1]}"
    return f"{what}; the last it printed:\n{last_lines(end.text)}" if end.text else what


def without_our_frames(text: bytes) -> bytes:
    """What a crashed Python printed, with the user's frames only."""
    return _OUR_FRAMES.sub(b"", text)
