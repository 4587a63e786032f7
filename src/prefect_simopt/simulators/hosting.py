"""A host process as its supervisor sees it: started by a fork, heard through three channels, killed with its group."""

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable
from typing import Any

import orjson

from prefect_simopt.simulators import wire
from prefect_simopt.simulators.board import Board
from prefect_simopt.simulators.capture import Capture
from prefect_simopt.simulators.host import LENGTH, Wiring
from prefect_simopt.simulators.host import main as be_host

__all__ = ["HostProcess"]

_PIPE_BYTES = 1 << 20


class HostProcess:
    """Starts a host.

    Args:
        board: shared with it.
        printed: called with what it prints, as it comes, and with None at the end of each call.

    Attributes:
        pid: process id, and id of its process group.
        control: messages to and from it.
        outcomes: descriptor that is readable when a call has ended.
        capture: descriptor that is readable when it has printed something.
        texts: what each ended call printed, bounded, oldest first.
        ready: whether the simulator is loaded.
        resting: whether it has nothing to do.
    """

    def __init__(self, board: Board, printed: Callable[[bytes | None], None]) -> None:
        ours, its = socket.socketpair()
        self.outcomes, outcomes = os.pipe()
        self.capture, capture = os.pipe()
        for descriptor in (self.outcomes, self.capture):
            os.set_blocking(descriptor, False)
            with contextlib.suppress(OSError, AttributeError):
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self.texts: deque[bytes] = deque()
        self.ready = False
        self._frames = 0
        self._printed = printed
        self._marker = b"\0end:" + os.urandom(12).hex().encode() + b"\0"
        self._text, self._carry, self._data = Capture(), b"", bytearray()
        board.reset()
        # Python's threads do not survive a fork, and what they hold would stay locked: a store on S3 has such threads.
        start = self._fork if threading.active_count() == 1 else self._spawn
        self.pid = start(its, outcomes, capture, board)
        self.control = wire.Channel(ours)
        its.close()
        os.close(outcomes)
        os.close(capture)

    def _fork(self, control: socket.socket, outcomes: int, capture: int, board: Board) -> int:
        parent = os.getpid()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # NumPy's idle threads stop themselves at a fork
            pid = os.fork()
        if pid:
            with contextlib.suppress(OSError):
                os.setpgid(pid, pid)
            return pid
        try:
            signal.set_wakeup_fd(-1)
            os.setpgid(0, 0)
            kept = sorted((2, control.fileno(), outcomes, capture, board.descriptor))
            for low, high in zip(kept, [*kept[1:], 65536], strict=True):
                os.closerange(low + 1, high)
            be_host(Wiring(control, outcomes, capture, board, self._marker, parent))
        finally:
            os._exit(1)

    def _spawn(self, control: socket.socket, outcomes: int, capture: int, board: Board) -> int:
        descriptors = [control.fileno(), outcomes, capture, board.descriptor]
        words = [*map(str, descriptors), self._marker.hex(), str(os.getpid())]
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "prefect_simopt.simulators.host", *words],
            pass_fds=descriptors,
            process_group=0,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        process.returncode = 0  # the supervisor waits for it by its own means
        return process.pid

    def send(self, document: dict[str, Any], blob: bytes = b"") -> None:
        """Send a message."""
        if "calls" in document:
            self._frames += 1
        self.control.send(document, blob)

    def rested(self) -> None:
        """It said that it has done with a message of calls."""
        self._frames -= 1

    @property
    def resting(self) -> bool:
        """Whether it has nothing to do."""
        return self._frames == 0

    def read_outcomes(self) -> list[Any]:
        """The calls that have ended since: pairs of a call's number and its outcomes."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.outcomes, _PIPE_BYTES):
                self._data += data
        ended = []
        while len(self._data) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self._data)[0]
            if len(self._data) < end:
                break
            ended.append(orjson.loads(self._data[LENGTH.size : end]))
            del self._data[:end]
        if ended:
            self._read_texts(len(ended))
        return ended

    def _read_texts(self, count: int) -> None:
        """Read until the ends of `count` calls have been seen; each was written before the call's outcomes."""
        while len(self.texts) < count and self.read_capture():
            pass

    def read_capture(self, pieces: int = 4) -> bool:
        """Read a bounded part of what it printed; False when there was nothing."""
        for piece in range(pieces):
            try:
                data = os.read(self.capture, _PIPE_BYTES)
            except BlockingIOError:
                return piece > 0
            if not data:
                return False
            self._take(data)
        return True

    def _take(self, data: bytes) -> None:
        data = self._carry + data
        while (end := data.find(self._marker)) >= 0:
            self._keep(data[:end])
            self._printed(None)
            self.texts.append(self._text.data())
            self._text = Capture()
            data = data[end + len(self._marker) :]
        start = data.find(b"\0", max(len(data) - len(self._marker) + 1, 0))
        self._carry = data[start:] if start >= 0 else b""
        self._keep(data[:start] if start >= 0 else data)

    def _keep(self, data: bytes) -> None:
        if data:
            self._text.feed(data)
            self._printed(data)

    def unfinished_text(self) -> bytes:
        """What the call in progress has printed so far."""
        return self._text.data()

    def kill(self) -> None:
        """Kill it with its process group."""
        for end in (os.killpg, os.kill):
            with contextlib.suppress(OSError):
                end(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Give its descriptors back."""
        self.control.sock.close()
        os.close(self.outcomes)
        os.close(self.capture)
