"""Lines and events at a rate that people and Prefect's server can bear."""

import logging
import threading
import time
from contextvars import copy_context

__all__ = ["Logger", "Pace", "PrintedLines"]

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]
_LINES = 20.0  # a second: of what simulators print
_LONGEST = 2000  # characters of a line


class Pace:
    """Lets through so many a second, with bursts of one second's worth, and counts the rest.

    Args:
        rate: how many a second.

    Attributes:
        skipped: how many were not let through since `missed` was last called.
    """

    def __init__(self, rate: float) -> None:
        self._rate, self._room, self._at = rate, max(rate, 1.0), time.monotonic()
        self.skipped = 0

    def allows(self) -> bool:
        """Whether one more may pass."""
        now = time.monotonic()
        self._room = min(self._room + (now - self._at) * self._rate, max(self._rate, 1.0))
        self._at = now
        if self._room < 1.0:
            self.skipped += 1
            return False
        self._room -= 1.0
        return True

    def missed(self) -> int:
        """How many were not let through since the last call."""
        skipped, self.skipped = self.skipped, 0
        return skipped


class PrintedLines:
    """Shows what simulators print in a flow run's log: some lines a second; all of them are kept with the trial.

    Args:
        logger: of the flow run; its context is the one of the thread that creates this.
    """

    def __init__(self, logger: Logger) -> None:
        self._logger, self._lines = logger, Pace(_LINES)
        self._lock, self._context = threading.Lock(), copy_context()

    def log(self, trial: int, line: str) -> None:
        """A simulator printed a line; called from any thread."""
        with self._lock:
            if not self._lines.allows():
                return
            also = self._lines.missed()
        more = f" ({also} lines before it are left out here)" if also else ""
        # Prefect sends a line to the run that the context names.
        self._context.copy().run(self._logger.info, "trial %d: %s%s", trial, line.rstrip()[:_LONGEST], more)
