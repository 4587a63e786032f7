"""What a simulator prints: bounded for the record, a trickle of it for people who watch, progress told apart."""

import re
import time
from collections.abc import Callable

__all__ = ["HEAD", "TAIL", "Capture", "Stream"]

HEAD = 16 * 1024
TAIL = 48 * 1024
_LINE = 4096  # a longer line is cut for people who watch
_PROGRESS = re.compile(rb"^SIMOPT-PROGRESS[ \t:=]+([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)[ \t]*(%?)[ \t\r]*$")
_PROGRESS_WORD = b"SIMOPT-PROGRESS"
_LINES_PER_SECOND = 200.0
_BYTES_PER_SECOND = 64 * 1024.0


class Capture:
    """Keeps the beginning and the end of what one run prints, however much lies between."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._tail = bytearray()
        self._left_out = 0

    def feed(self, data: bytes) -> None:
        """Take printed bytes."""
        room = HEAD - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if len(data) > TAIL:
            self._left_out += len(self._tail) + len(data) - TAIL
            self._tail[:] = data[-TAIL:]
            return
        self._tail += data
        if len(self._tail) > 2 * TAIL:
            self._trim()

    def _trim(self) -> None:
        excess = len(self._tail) - TAIL
        if excess > 0:
            self._left_out += excess
            del self._tail[:excess]

    def data(self) -> bytes:
        """What is kept, with a line that says how much was left out."""
        self._trim()
        if not self._left_out:
            return bytes(self._head + self._tail)
        return b"%b\n[... %d bytes left out ...]\n%b" % (bytes(self._head), self._left_out, bytes(self._tail))


def last_lines(data: bytes, lines: int = 20, characters: int = 4000) -> str:
    """The end of a text, for a message."""
    text = data[-4 * characters :].decode("utf-8", "replace").rstrip()
    return "\n".join(text.splitlines()[-lines:])[-characters:]


class Stream:
    """Passes printed lines on as they come, but never more than a person could read, and progress always.

    Args:
        log: called with the lines that are passed on.
        progress: called with a fraction between 0 and 1.
    """

    def __init__(self, log: Callable[[list[str]], None], progress: Callable[[float], None]) -> None:
        self._log, self._progress = log, progress
        self._rest = b""
        self._lines, self._bytes = _LINES_PER_SECOND, _BYTES_PER_SECOND
        self._filled = time.monotonic()
        self._dropped = 0

    def feed(self, data: bytes) -> None:
        """Take printed bytes."""
        self._refill()
        if self._lines < 1 and len(data) > _LINE and _PROGRESS_WORD not in data:  # a flood: only count
            self._dropped += data.count(b"\n")
            self._rest = data[data.rfind(b"\n") + 1 :][-_LINE:]
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-_LINE:]
        self._pass(lines)

    def end(self) -> None:
        """The run has ended: what is left is its last line."""
        rest, self._rest = self._rest, b""
        self._pass([rest] if rest else [])

    def _pass(self, lines: list[bytes]) -> None:
        shown: list[str] = []
        for line in lines:
            if line.startswith(_PROGRESS_WORD) and (match := _PROGRESS.match(line)):
                if shown:  # in the order in which they were printed
                    self._log(shown)
                    shown = []
                fraction = float(match[1]) / (100 if match[2] else 1)
                self._progress(min(max(fraction, 0.0), 1.0))
            elif self._lines < 1 or self._bytes < 0:
                self._dropped += 1
            else:
                if self._dropped:
                    shown.append(f"[{self._dropped} lines not shown]")
                    self._dropped = 0
                shown.append(line[:_LINE].decode("utf-8", "replace").rstrip("\r"))
                self._lines -= 1
                self._bytes -= len(line)
        if shown:
            self._log(shown)

    def _refill(self) -> None:
        now = time.monotonic()
        self._lines = min(_LINES_PER_SECOND, self._lines + (now - self._filled) * _LINES_PER_SECOND)
        self._bytes = min(_BYTES_PER_SECOND, self._bytes + (now - self._filled) * _BYTES_PER_SECOND)
        self._filled = now
