"""What a search does with requests: takes them up between two generations, and again at the same places of a replay."""

import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from prefect_simopt.optimizers.base import Optimizer
from prefect_simopt.progress import Observer, RequestObserver
from prefect_simopt.record import Record
from prefect_simopt.spec import StudySpec
from prefect_simopt.steering import Request, Steering

__all__ = ["Intake"]

LOOK_SECONDS = 1.0  # between two looks for requests, at least
_SHARE = 0.05  # of the time that looking may take
_log = logging.getLogger("prefect_simopt")


class Intake:
    """Takes up requests for one search.

    Args:
        record: of the study.
        optimizer: what searches; brought to the last checkpoint.
        spec: the question.
        observers: who wants to hear of requests.
        after: number of the ledger record that the optimizer's state belongs to.

    Attributes:
        budget: the spec's, with what it was extended by.
    """

    def __init__(
        self, record: Record, optimizer: Optimizer, spec: StudySpec, observers: Sequence[Observer], after: int = -1
    ) -> None:
        self._record, self._optimizer, self._spec, self._observers = record, optimizer, spec, observers
        self._space = spec.make_space()
        self._earlier = deque(record.requested(after))
        self._next_look = 0.0
        self._steering = record.steering
        self.budget = self._steering.budget(spec.budget)

    @property
    def paused(self) -> str:
        """Who has paused the search, and when; empty while points may be asked for."""
        return self._steering.paused

    def replay(self, before: int | None = None) -> None:
        """Do again what was done in earlier runs of the study.

        Args:
            before: number of the ledger record up to which; left out: all.
        """
        while self._earlier and (before is None or self._earlier[0][0] < before):
            self._do(self._earlier.popleft()[1])

    def take_up(self, *, at_once: bool = False) -> None:
        """Do what people ask for by now.

        Args:
            at_once: look for it in any case, and not only about once a second.
        """
        self.replay()
        begun = time.monotonic()
        if at_once or begun >= self._next_look:
            for key, request in self._record.requests():
                self._take_up(key, request)
            took = time.monotonic() - begun
            self._next_look = begun + max(LOOK_SECONDS, took / _SHARE)

    def _take_up(self, key: str, request: Request) -> None:
        refused = note = ""
        try:
            steering = self._steering.after(request, self._space, self._spec.budget)
            note = self._do(request)
        except ValueError as error:  # it was checked when it was asked for; meanwhile another one has been taken up
            refused, steering = str(error), replace(self._steering, requests=self._steering.requests + 1)
        self._record.take_up(key, request, steering, refused=refused, note=note)
        self._steering, self.budget = steering, steering.budget(self._spec.budget)
        if refused:
            _log.warning("%s, which is refused: %s", request.sentence, refused)
        else:
            _log.info("%s%s", request.sentence, note and f"; {note}")
        for observer in self._observers:
            if isinstance(observer, RequestObserver):
                observer.request_taken_up(request, refused)

    def _do(self, request: Request) -> str:
        """Let the optimizer know of a request; returns what there is to say of it."""
        if request.kind == "suggest":
            points = request.content["points"]
            new = self._optimizer.suggest(self._space.snap(self._space.encode(points)))
            known = len(points) - int(new.sum())
            return f"{known} of these points are running, or have been tried" if known else ""
        if request.kind == "narrow":
            box = Steering(bounds=request.content["bounds"]).box(self._space)
            if box is not None:
                self._optimizer.narrow(box.low, box.high)
        return ""
