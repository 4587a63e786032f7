"""Calls of the simulator on the supervisor's side: those that its host has, and those that come next."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Call", "CallQueue"]


@dataclass
class Call:
    """One call of the simulator: a run, or the runs of a block.

    Attributes:
        serial: the flow's number for it.
        runs: as documents.
        number: counted up in the order in which hosts get calls; None until one has it.
    """

    serial: int
    runs: list[dict[str, Any]]
    number: int | None = None

    @property
    def wanted(self) -> list[dict[str, Any]]:
        """The runs whose outcomes are wanted."""
        return [run for run in self.runs if run["wanted"]]


class CallQueue:
    """The calls that the host has, and batches of calls that it gets next.

    Attributes:
        given: the calls that the host has, in the order in which it makes them.
    """

    def __init__(self) -> None:
        self.given: deque[Call] = deque()
        self._waiting: deque[list[Call]] = deque()
        self._number = 0

    def put(self, batch: Iterable[Call]) -> None:
        """Take a batch; it waits for the one before."""
        self._waiting.append(list(batch))

    def take_out(self, serials: Sequence[int]) -> list[list[int]]:
        """Forget the batches with these calls, as far as they wait; returns the serial numbers of each."""
        found = [batch for batch in self._waiting if batch[0].serial in serials]
        for batch in found:
            self._waiting.remove(batch)
        return [[call.serial for call in batch] for batch in found]

    def give_next(self) -> list[Call]:
        """The next batch for a host that has done with the one before: numbered; empty where there is none."""
        if self.given or not self._waiting:
            return []
        self.given += self._waiting.popleft()
        return self._numbered()

    def give_again(self) -> list[Call]:
        """What the last host has left undone, for a new one: numbered anew."""
        return self._numbered()

    def _numbered(self) -> list[Call]:
        for call in self.given:
            call.number = self._number
            self._number += 1
        return list(self.given)

    def split(self, call: Call) -> None:
        """Put the wanted runs of a block, which the host no longer has, in front: each as a call of its own."""
        self.given.extendleft(Call(call.serial, [run]) for run in reversed(call.wanted))
