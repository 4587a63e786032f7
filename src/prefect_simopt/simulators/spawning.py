"""How supervisors are started: when a worker needs one, and the first one ahead."""

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from prefect_simopt.simulators.devices import LATE

__all__ = ["MARK", "Spawned", "spawn", "start_ahead"]

MARK = "SIMOPT_WORKER"
"""Environment variable by which all processes of a worker are known, wherever they hide."""


@dataclass(frozen=True)
class Spawned:
    """A supervisor's process.

    Attributes:
        process: the process.
        sock: our end of its connection; when it closes, the supervisor ends.
        mark: its value of the variable `MARK`.
        environment: what it was started with.
    """

    process: "subprocess.Popen[bytes]"
    sock: socket.socket
    mark: str
    environment: Mapping[str, str]


_ahead: list[Spawned] = []


def start_ahead() -> None:
    """Start a supervisor while this process imports what it takes to tell it what to do; `spawn` hands it out."""
    _ahead.append(_start(os.environ))


def spawn(environment: Mapping[str, str]) -> Spawned:
    """A supervisor in the given environment, but for `LATE` variables, which it has to set itself."""
    while _ahead:
        spawned = _ahead.pop()
        names = {*environment, *spawned.environment} - LATE
        same = all(environment.get(name) == spawned.environment.get(name) for name in names)
        if same and spawned.process.poll() is None:
            return spawned
        spawned.sock.close()
        spawned.process.wait()
    return _start(environment)


def _start(environment: Mapping[str, str]) -> Spawned:
    mark = secrets.token_hex(8)
    ours, its = socket.socketpair()
    with its:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "prefect_simopt.simulators.supervisor", str(its.fileno())],
            pass_fds=[its.fileno()],
            env={**environment, MARK: mark},
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    return Spawned(process, ours, mark, dict(environment))
