"""What the ledger comes to for the study's writer, beyond the arrays: attempts, batches, requests and time."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from prefect_simopt.entries import Entry, number_of

__all__ = ["Tally"]


class Tally:
    """Counts of one study, as far as its ledger has been read.

    Args:
        run: id of the writer's own run.
        replicates: runs for each trial.

    Attributes:
        batches: how many batches there have been: the number of the next one.
        earlier: provenance of the run before the writer's own; empty when there was none.
        seconds: that earlier runs took, together.
        taken_up: tokens of the requests that were taken up.
    """

    def __init__(self, run: str, replicates: int) -> None:
        self._run, self._replicates = run, replicates
        self.batches = 0
        self.earlier: Mapping[str, Any] = {}
        self.seconds = 0.0
        self.taken_up: set[str] = set()
        self._failed: dict[tuple[int, int], int] = {}  # the last failed attempt of each run that has not ended
        self._begun = self._last = ""  # times of the run that is being read

    def failed_attempt(self, trial: int, replicate: int) -> int:
        """Number of the last failed attempt of a run that has not ended; -1 when there is none."""
        return self._failed.get((trial, replicate), -1)

    def apply(self, entries: Iterable[Entry]) -> None:
        """Take ledger entries into account, in their order; those of the writer's own run have no time yet."""
        for entry in entries:
            kind = entry["activity"]
            if kind == "trial":
                self.batches = max(self.batches, entry["generated"].get("batch", -1) + 1)
                if self._failed:
                    for replicate in range(self._replicates):
                        self._failed.pop((number_of(entry), replicate), None)
            elif kind == "attempt":
                generated = entry["generated"]
                if generated["status"] == "failed":
                    run = number_of(entry), generated.get("replicate", 0)
                    self._failed[run] = generated.get("attempt", 0)
            elif kind == "request":
                self.taken_up.add(entry["used"]["token"])
            elif kind == "run":
                self._add_run(entry)
            if kind != "repair":  # of which the time since the last run is no part of any run
                self._last = entry.get("at", self._last)

    def _add_run(self, entry: Entry) -> None:
        """A run began, or ended. One that was killed ended with the last record before the next one began."""
        if "used" not in entry:
            return
        if self._begun:
            took = datetime.fromisoformat(self._last) - datetime.fromisoformat(self._begun)
            self.seconds += max(took.total_seconds(), 0.0)
        self._begun = entry.get("at", "")
        if entry["id"] != self._run:
            self.earlier = entry["used"]
