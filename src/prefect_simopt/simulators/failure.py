"""Why one run has no result, as an exception inside the simulator's process."""

from prefect_simopt.trial import Reason

__all__ = ["RunFailure"]


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
