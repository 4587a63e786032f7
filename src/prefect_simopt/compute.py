"""The protocol between the loop and the places where simulators run."""

from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from prefect_simopt.storage import StudyLocation
from prefect_simopt.trial import Outcome, Run

if TYPE_CHECKING:
    from prefect_simopt.simulators.transport import SimulatorInfo

__all__ = ["Compute", "Listener", "Place"]


class Listener(Protocol):
    """What wants to hear from running simulators. Called from any thread; must return at once."""

    def progress(self, trial: int, fraction: float) -> None:
        """A simulator said how far it is, 0 to 1."""

    def log(self, trial: int, line: str) -> None:
        """A simulator printed a line."""


@runtime_checkable
class Compute(Protocol):
    """A place where simulators run.

    Runs are submitted in batches; the future of a batch resolves to one outcome per run, failures included. A future
    raises only when the place itself is broken. Outcomes are durable in the study's store before a future resolves.

    Attributes:
        workers: how many batches run at the same time.
        batch_seconds: work that a batch should hold so that what the place costs per batch is under 5 % of it.
        fill_batches: whether a batch holds that much also when workers then have nothing to do; what is not yet known
            to be short is spread over all of them.
    """

    workers: int
    batch_seconds: float
    fill_batches: bool

    def submit(self, runs: Sequence[Run]) -> "Future[list[Outcome]]":
        """Start a batch. Returns at once; batches start in the order of submission and end in any order."""

    def cancel(self, grace: float = 5.0) -> None:
        """Start nothing more, give running simulators `grace` seconds, then kill them.

        Futures resolve to the outcomes that there are; a run that was killed or not started has none.
        """

    def close(self) -> None:
        """End every process that this place started. Idempotent."""


class Place(Compute, Protocol):
    """A compute that is started for one study and ended with it."""

    def start(self) -> "SimulatorInfo":
        """Load the simulator; nothing is written.

        Raises:
            SimoptError: it is missing or broken, or the place is.
        """

    def attach(self, location: StudyLocation, capacity: int, token: str = "") -> None:
        """Say where outcomes and fields are written, before the first `submit`.

        Args:
            location: of the study.
            capacity: trials that it has room for.
            token: of the study's writer.
        """

    def kill(self) -> None:
        """End at once. It takes no lock, so that a signal handler may call it before the end."""
