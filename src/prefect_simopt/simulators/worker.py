"""A worker as the flow sees it: a supervisor's process and the connection to it."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from prefect_simopt.compute import Listener
from prefect_simopt.simulators import processes, wire
from prefect_simopt.simulators.batch import Batch
from prefect_simopt.simulators.devices import LATE
from prefect_simopt.simulators.spawning import MARK, spawn

__all__ = ["Worker", "pass_on"]


class Worker:
    """Starts a supervisor.

    Args:
        place: which of the workers, from 0.
        environment: of its processes.
        setup: what the supervisor is told at first.
        blob: the pickled function that goes with it.

    Attributes:
        channel: messages to and from the supervisor.
        ready: whether its simulator is loaded.
        batches: batches it has, the one in progress first.
        asked: whether it was asked to give back the batch that it has not begun.
        crash: the traceback that it sent when it failed itself.
    """

    def __init__(self, place: int, environment: Mapping[str, str], setup: Mapping[str, Any], blob: bytes) -> None:
        self.place = place
        self.ready = False
        self.batches: list[Batch] = []
        self.asked = False
        self.crash = ""
        spawned = spawn(environment)
        self._process, self._mark = spawned.process, spawned.mark
        self._scratch = Path(tempfile.gettempdir()) / f"simopt-{self._mark}"
        self.channel = wire.Channel(spawned.sock)
        late = {name: environment[name] for name in LATE if name in environment}
        self.channel.send({"setup": {**setup, "late": late, "scratch": str(self._scratch)}}, blob)

    @property
    def pid(self) -> int:
        """Process id of the supervisor."""
        return self._process.pid

    def kill(self) -> None:
        """Kill the supervisor; the kernel kills its host, `ended` the rest."""
        with suppress(OSError):
            os.kill(self._process.pid, signal.SIGKILL)

    def ended(self, seconds: float = 5.0) -> int:
        """Wait for the supervisor's end, kill what an untimely one leaves behind, and return its exit status."""
        self.channel.sock.close()
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            status = self._process.wait()
        if status:
            processes.shut_down(MARK, self._mark)
            shutil.rmtree(self._scratch, ignore_errors=True)
        return status


def pass_on(document: Mapping[str, Any], listener: Listener) -> None:
    """Tell a listener what a supervisor says of a running simulator."""
    if "progress" in document:
        listener.progress(*document["progress"])
    else:
        trial, lines = document["log"]
        for line in lines:
            listener.log(trial, line)
