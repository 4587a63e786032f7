"""Which trial's fields the others need to be like: that of the lowest number, whichever simulator was the fastest.

Trials with a field that is not settled are held back, durable but untold, until all trials before them have ended.
That is so for as long as the first trial of a study runs, and never again.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from prefect_simopt.errors import CorruptionError
from prefect_simopt.fields import field_key
from prefect_simopt.proposals import Proposal, is_settled, proposal_key, settle
from prefect_simopt.sink import TrialSink
from prefect_simopt.storage import StudyLocation
from prefect_simopt.trial import Outcome, Reason, Status, Trial

__all__ = ["Arbiter"]

Ended = tuple[Trial, Sequence[Outcome]]


class Arbiter:
    """Lets trials pass that have ended, in the order that makes the layouts of fields independent of time.

    Args:
        location: of the study.
        capacity: trials that it has room for.
        settled: fields of which trials have been told.
    """

    def __init__(self, location: StudyLocation, capacity: int, settled: Iterable[str]) -> None:
        self._location, self._capacity = location, capacity
        self._storage = location.storage()
        self._sure: dict[str, int] = dict.fromkeys(settled, -1)  # field: trials from here on were checked as they ran
        for name in self._sure:
            if not is_settled(self._storage, name):
                settle(self._storage, name, -1)
        self._running: set[int] = set()
        self._last = -1  # highest trial taken on
        self._held: dict[int, Ended] = {}
        self._rest: list[str] = []  # objects that are of no use once their trials have been told

    def take_on(self, trials: Iterable[int], *, again: bool) -> None:
        """These trials will end.

        Args:
            trials: their numbers.
            again: whether an earlier run of the study had begun them.
        """
        self._running.update(trials)
        self._last = max(self._last, *self._running) if self._running else self._last
        if again:
            self._sure = {name: max(first, self._last + 1) for name, first in self._sure.items()}

    def ended(self, trial: Trial, outcomes: Sequence[Outcome], *, at_once: bool = False) -> Iterator[Ended]:
        """A trial has ended: those that can be told now, failed where their fields do not fit.

        Args:
            trial: the one that has ended.
            outcomes: of its replicates.
            at_once: whether the order in which trials end counts, and not that of their numbers.
        """
        self._running.discard(trial.number)
        if not trial.fields and not self._held:
            yield trial, outcomes
            return
        self._held[trial.number] = trial, outcomes
        for number in sorted(self._held):
            if at_once or self._may_pass(number):
                passed, theirs = self._held.pop(number)
                yield self._judged(passed), theirs

    def told(self) -> None:
        """All that could be told has been recorded: remove what is of no use any more."""
        if self._rest:
            self._storage.delete(self._rest)
            self._rest = []

    def _may_pass(self, number: int) -> bool:
        fields = self._held[number][0].fields
        return all(name in self._sure for name in fields) or not any(other < number for other in self._running)

    def _judged(self, trial: Trial) -> Trial:
        for name, digest in trial.fields.items():
            try:
                if trial.number < self._sure.get(name, trial.number + 1):
                    given = Proposal.read(self._storage, name, trial.number)
                    if given is not None:  # otherwise it was checked when it was written
                        found = given.field(self._storage, name, trial.number, digest)
                        TrialSink(self._location, self._capacity).put_field(trial.number, name, found)
            except (ValueError, CorruptionError) as error:
                return self._failed(trial, str(error))
            if name not in self._sure:
                settle(self._storage, name, trial.number)
                self._sure[name] = self._last + 1
        self._rest += [proposal_key(name, trial.number) for name in trial.fields if trial.number < self._sure[name]]
        return trial

    def _failed(self, trial: Trial, message: str) -> Trial:
        for name in trial.fields:
            given = Proposal.read(self._storage, name, trial.number)
            if given is not None:
                key = field_key(name, trial.number, len(given.shape))
                self._rest += [key, proposal_key(name, trial.number)]
        return replace(
            trial, status=Status.FAILED, reason=Reason.BAD_FIELD, message=message, metrics={}, errors={}, fields={}
        )
