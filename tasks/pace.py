"""Lines and events at a rate that people and Prefect's server can bear."""

import time

__all__ = ["Pace"]


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
