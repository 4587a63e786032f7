"""Three numbers in memory that a supervisor shares with its host, so that short runs need no message to be watched."""

import mmap
import os
import tempfile
import time

__all__ = ["Board"]

_CALL, _STARTED, _STOP = range(3)


class Board:
    """What the host is doing right now; each number is written by one side only, in one store.

    Args:
        descriptor: of the shared file; left out: a new one.

    Attributes:
        descriptor: of the shared file, for a process that is not forked from this one.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = _shared_file() if descriptor is None else descriptor
        self._cells = memoryview(mmap.mmap(self.descriptor, mmap.PAGESIZE)).cast("d")

    def begin(self, call: int) -> None:
        """The host enters the simulator's code for a call; the time is set first, so that it is never too old."""
        self._cells[_STARTED] = time.monotonic()
        self._cells[_CALL] = call

    def leave(self) -> None:
        """The host has left the simulator's code."""
        self._cells[_STARTED] = 0.0

    @property
    def call(self) -> int:
        """The call that the host entered last."""
        return int(self._cells[_CALL])

    @property
    def started(self) -> float:
        """When it did, by the monotonic clock; 0 outside the simulator's code."""
        return self._cells[_STARTED]

    @property
    def stop(self) -> bool:
        """Whether the host shall begin no further call."""
        return self._cells[_STOP] != 0

    @stop.setter
    def stop(self, value: bool) -> None:
        self._cells[_STOP] = float(value)

    def reset(self) -> None:
        """For a new host."""
        self._cells[_STARTED] = 0.0
        self._cells[_CALL] = -1.0


def _shared_file() -> int:
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("simopt-board")
    else:
        descriptor, path = tempfile.mkstemp()
        os.unlink(path)  # noqa: PTH108
    os.ftruncate(descriptor, mmap.PAGESIZE)
    return descriptor
