"""How many of some runs completed and how many failed, in a line for people."""

from collections.abc import Iterable
from dataclasses import dataclass

from prefect_simopt.trial import Outcome, Status

__all__ = ["Counts"]


@dataclass
class Counts:
    """Counts outcomes.

    Attributes:
        complete: runs that completed.
        failed: runs that failed.
        message: which one failed first, and why.
    """

    complete: int = 0
    failed: int = 0
    message: str = ""

    def add(self, outcomes: Iterable[Outcome]) -> None:
        """Take outcomes into account."""
        for outcome in outcomes:
            if outcome.status is Status.COMPLETE:
                self.complete += 1
            else:
                self.failed += 1
                self.message = self.message or f"trial {outcome.trial}: {outcome.reason}: {outcome.message}"

    def __str__(self) -> str:
        return f"{self.complete} complete" + (f", {self.failed} failed; {self.message}" if self.failed else "")
