"""Every error that a user can cause or meet, each with the way out in its message."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "ComputeError",
    "CorruptionError",
    "LeaseError",
    "NoStudyError",
    "Problem",
    "SimoptError",
    "SimulatorError",
    "SpecError",
    "StoreError",
    "StudyConflictError",
    "StudyFailedError",
    "StudyInterrupted",
]


class SimoptError(Exception):
    """Base of all errors of this package. Its message is a sentence for the person who runs the study.

    Attributes:
        begun: whether the search had begun when it was raised: trials may have been run.
    """

    begun = False


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a study spec.

    Attributes:
        path: where, as in `space[2].low`; empty for the document itself.
        message: what is wrong and what would be right.
        value: the offending value as text, empty when there is none to show.
    """

    path: str
    message: str
    value: str = ""

    def __str__(self) -> str:
        shown = f" (got {self.value})" if self.value else ""
        return f"{self.path}: {self.message}{shown}" if self.path else f"{self.message}{shown}"


class SpecError(SimoptError, ValueError):
    """The input is wrong; nothing was run. Holds every `Problem` found, and the file when there is one."""

    def __init__(self, problems: Sequence[Problem] | str, source: str = "") -> None:
        self.problems = [Problem("", problems)] if isinstance(problems, str) else list(problems)
        self.source = source
        prefix = f"{source}: " if source else ""
        super().__init__("\n".join(f"{prefix}{problem}" for problem in self.problems))


class SimulatorError(SimoptError):
    """A simulator cannot be started at all: its module, function, file or program is missing or broken."""


class ComputeError(SimoptError):
    """Simulators cannot run where the study wants them to: no worker, no node that fits, no image, no quota."""


class StoreError(SimoptError, OSError):
    """The store cannot be read or written: no permission, no space, no network, no such bucket."""


class NoStudyError(StoreError):
    """The store can be read, and there is no study of this name."""


class CorruptionError(StoreError):
    """Stored bytes are not the bytes that were written: a digest or the ledger's chain does not match."""


class LeaseError(SimoptError):
    """Another process is writing this study."""


class StudyConflictError(SimoptError):
    """The store already holds a study of this name that asks another question."""


class StudyFailedError(SimoptError):
    """The study ended without an answer: too many failures, or no feasible trial."""


class StudyInterrupted(SimoptError):  # noqa: N818 - an interruption is not an error
    """The study was asked to stop. What had ended is recorded; the same command goes on from there."""
