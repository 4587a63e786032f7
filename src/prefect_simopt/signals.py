"""Ctrl-C and SIGTERM: the first asks the search to stop, the second ends the process at once."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect_simopt.evaluation import StopRequest

__all__ = ["INTERRUPTED", "stop_on_signals", "terminable"]

INTERRUPTED = 130
"""Exit code of an interrupted, resumable command."""


@contextmanager
def stop_on_signals(stop: "StopRequest", abandon: Callable[[], None]) -> Iterator[None]:
    """Handle SIGINT and SIGTERM inside the block; does nothing outside the main thread, which alone gets signals.

    Args:
        stop: set by the first signal.
        abandon: called by the second, before the process exits with code 130: kills what still runs.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signal module's protocol
        if stop.requested:
            abandon()
            os._exit(INTERRUPTED)
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        line = f"{name}: running simulators get {stop.grace:g} s to finish; once more ends at once\n"
        stop.set()
        with suppress(OSError):  # nobody reads it any more
            os.write(2, line.encode())  # the handler may have interrupted a print, which cannot be entered twice

    earlier: dict[int, Any] = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


@contextmanager
def terminable() -> Iterator[threading.Event]:
    """Inside the block SIGINT and SIGTERM raise `KeyboardInterrupt`, unless something else handles them.

    Yields:
        Set once one of them has come: code that is interrupted, an import for example, may turn the exception into
        one of its own.
    """
    came = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def handle(*_: object) -> None:
        came.set()
        raise KeyboardInterrupt

    earlier: dict[int, Any] = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
