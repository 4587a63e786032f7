"""Why one run, or every further one, has no result, as exceptions inside the simulator's process."""

from prefect_simopt.errors import SimulatorError
from prefect_simopt.trial import Reason

__all__ = ["RunFailure", "SimulatorChanged"]


class SimulatorChanged(SimulatorError):  # noqa: N818 - it says what happened
    """The simulator's files are no longer those that the study started with; no further run may be made of them."""


class RunFailure(Exception):  # noqa: N818 - it is the failure of a run, no error of ours
    """A run failed for a reason of its own.

    Attributes:
        reason: which kind of failure.
        message: one sentence about it.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
