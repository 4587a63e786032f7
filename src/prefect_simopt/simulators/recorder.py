"""Makes outcomes durable, in groups, before anybody is told of them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from prefect_simopt.outcomes import OutcomeSink
from prefect_simopt.simulators.calls import Call
from prefect_simopt.simulators.capture import last_lines
from prefect_simopt.storage import StudyLocation
from prefect_simopt.trial import Outcome, Status

__all__ = ["Recorder"]


class Recorder:
    """Holds outcomes until they are written.

    Attributes:
        location: of the study; set before the first `write`.
    """

    def __init__(self) -> None:
        self.location: StudyLocation | None = None
        self._finished: list[tuple[int, list[Outcome]]] = []
        self._texts: list[tuple[dict[str, Any], bytes]] = []
        self._sink: tuple[StudyLocation, OutcomeSink] | None = None

    @property
    def waiting(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._finished)

    def add(self, call: Call, outcomes: Sequence[Outcome], text: bytes) -> None:
        """Take a call's outcomes and what it printed; the last lines go with those that failed."""
        given = list(outcomes)
        if text:
            self._texts.append((call.wanted[0], text))
            lines = last_lines(text)
            given = [replace(each, output=lines) if each.status is Status.FAILED else each for each in given]
        self._finished.append((call.serial, given))

    def write(self) -> list[tuple[int, list[dict[str, Any]]]]:
        """Write what waits: what runs printed, then one object of outcomes.

        Returns:
            What is durable now: pairs of a call's serial number and its outcomes, as documents.

        Raises:
            StoreError: the store cannot be written.
        """
        if not self._finished:
            return []
        assert self.location is not None  # noqa: S101
        if self._sink is None or self._sink[0] != self.location:
            self._sink = self.location, OutcomeSink(self.location)
        sink = self._sink[1]
        for run, text in self._texts:
            sink.put_log(run["trial"], run["replicate"], run["attempt"], text)
        sink.put_outcomes([outcome for _, outcomes in self._finished for outcome in outcomes])
        written = [(serial, [outcome.to_json() for outcome in outcomes]) for serial, outcomes in self._finished]
        self._finished, self._texts = [], []
        return written
