"""The one writer of a study: holds the lease, writes the ledger, and what follows from it."""

import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from prefect_simopt.checkpoints import Checkpoints
from prefect_simopt.conflicts import refuse_conflict
from prefect_simopt.entries import (
    Entry,
    Generation,
    attempt_entry,
    field_entry,
    generation_entry,
    generations,
    request_entry,
    trial_entry,
)
from prefect_simopt.errors import CorruptionError, StoreError
from prefect_simopt.hierarchy import LAYOUT
from prefect_simopt.lease import TTL, Lease
from prefect_simopt.ledger import Ledger
from prefect_simopt.outcomes import clear_outcomes, sweep_outcomes, waiting_outcomes
from prefect_simopt.proposals import check_field
from prefect_simopt.requests import pending
from prefect_simopt.spec import StudySpec
from prefect_simopt.steering import Request, Steering
from prefect_simopt.storage import Storage, StudyLocation
from prefect_simopt.tally import Tally
from prefect_simopt.trial import Outcome, Reason, Status, Trial
from prefect_simopt.view import View, holds_trials

__all__ = ["Record"]

FLUSH_SECONDS = 1.0  # the arrays are written at most this often
_BATCH = 4096  # ledger records applied at once on opening
_log = logging.getLogger("prefect_simopt")


class Record:
    """The record of one study, open for writing. Use `Record.open`, or `claim` and `begin`; always `close` it.

    Attributes:
        location: where the study lives.
        created: whether this run created the study.
    """

    def __init__(self, location: StudyLocation, storage: Storage, lease: Lease, spec: StudySpec) -> None:
        self.location, self.created = location, False
        self._storage, self._lease, self._spec = storage, lease, spec
        self._ledger = Ledger(storage)
        self._run = f"run/{secrets.token_hex(4)}"
        self._tally = Tally(self._run, spec.replicates)
        self._checkpoints = Checkpoints(storage)
        self._view: View
        self._started = self._flushed = time.monotonic()
        self._begun = self._closed = False
        self._vanish: Callable[[], None] = lambda: None

    @classmethod
    def open(
        cls, location: StudyLocation, *, spec: StudySpec, provenance: Mapping[str, Any], lease_ttl: float = TTL
    ) -> Self:
        """Create a study, or take up one that is there: `claim`, then `begin`.

        Args:
            location: of the study.
            spec: the question.
            provenance: versions of the code and of packages, identity of the simulator.
            lease_ttl: seconds without a heartbeat after which others may take over.

        Raises:
            StudyConflictError: the store holds a study of this name that asks another question. Nothing was written.
            LeaseError: another process is writing it.
            CorruptionError: its ledger is damaged.
            StoreError: the store cannot be read or written.
        """
        record = cls.claim(location, spec=spec, lease_ttl=lease_ttl)
        try:
            record.begin(provenance)
        except BaseException:
            record.close("interrupted")
            raise
        return record

    @classmethod
    def claim(cls, location: StudyLocation, *, spec: StudySpec, lease_ttl: float = TTL) -> Self:
        """Become the study's writer, and write nothing: closed again before `begin`, it leaves no trace.

        Args:
            location: of the study.
            spec: the question.
            lease_ttl: seconds without a heartbeat after which others may take over.

        Raises:
            StudyConflictError: the store holds a study of this name that asks another question.
            LeaseError: another process is writing it.
            StoreError: the store cannot be read or written.
        """
        storage = location.storage()
        refuse_conflict(storage, spec)
        vanish = storage.footprint()
        record = cls(location, storage, Lease(storage, lease_ttl), spec)
        record._vanish = vanish
        return record

    def begin(self, provenance: Mapping[str, Any]) -> None:
        """Read the ledger, create what is missing, and note that a run has started.

        Args:
            provenance: versions of the code and of packages, identity of the simulator.

        Raises:
            StudyConflictError: meanwhile there is a study of this name that asks another question.
            CorruptionError: the ledger is damaged.
            StoreError: the store cannot be read or written.
        """
        storage, spec = self._storage, self._spec
        storage.clean()
        attributes = refuse_conflict(storage, spec)  # again: now nobody else can write
        now = datetime.now(UTC).isoformat(timespec="seconds")
        fresh = _attributes(spec, provenance, {"created": now, "provenance": dict(provenance)})
        self._view = View(storage, spec, fresh, fresh=attributes is None)
        if attributes is None:
            self._view.hierarchy.create()
        known = self._ledger.replay()
        while batch := list(islice(known, _BATCH)):
            self._apply(batch)
        self.created = self._ledger.seq < 0
        if self.created and holds_trials(storage):
            raise CorruptionError(
                f"{storage.url}: the ledger is gone, while the arrays hold trials; put back the folder `ledger` from a "
                "copy, or ask under another name"
            )
        if self.created:  # what simulators of a study that was removed while they ran have left here
            clear_outcomes(storage)
        self._append(self._opening(provenance))
        self._begun = True

    def _opening(self, provenance: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Entries that say what the study asks, where that is new, and that a run has started."""
        known = self._view.hierarchy.attributes
        current = known if self.created else _attributes(self._spec, provenance, known)
        agent = f"{socket.gethostname()}:{os.getpid()}"
        run = {"activity": "run", "id": self._run, "used": dict(provenance), "wasAssociatedWith": agent}
        if not self.created and current == known:
            return [run]
        kind = "study" if self.created else "revision"
        used, generated = {"spec": self._spec.digest}, {"attributes": current}
        return [{"activity": kind, "id": f"{kind}/{self._spec.name}", "used": used, "generated": generated}, run]

    @property
    def earlier(self) -> Mapping[str, Any]:
        """Provenance of the run before this one; empty when there was none."""
        return self._tally.earlier

    @property
    def batches(self) -> int:
        """How many batches there have been: the number of the next one."""
        return self._tally.batches

    @property
    def capacity(self) -> int:
        """Trials that the arrays have room for; they grow when there are more."""
        return self._view.capacity

    @property
    def fields(self) -> list[str]:
        """Names of the fields that trials which have ended have."""
        return list(self._view.fields)

    @property
    def token(self) -> str:
        """What tells this writer of the study from those before and after it."""
        return self._lease.token

    @property
    def steering(self) -> Steering:
        """What the requests that were taken up so far come to."""
        return Steering.of(self._view.hierarchy.attributes)

    def attempts(self, trial: int, replicate: int = 0) -> int:
        """How many runs of a trial that has not ended have failed so far, in earlier runs of the study too."""
        return self._tally.failed_attempt(trial, replicate) + 1

    def asked(
        self,
        generation: int,
        trials: Sequence[int],
        parameters: npt.NDArray[np.float64],
        seeds: Sequence[int],
        wanted: int | None = None,
        fidelities: Sequence[float] = (),
        *,
        closing: bool = False,
    ) -> None:
        """The optimizer asked for a generation: call this before any of it runs.

        Args:
            generation: its number.
            trials: numbers of its n trials.
            parameters: as stored numbers, shape (n, d).
            seeds: of their first replicates, n.
            wanted: how many were asked for; left out: n.
            fidelities: of its trials; none without levels of fidelity.
            closing: whether it was asked for as the last one, at the highest fidelity.
        """
        count = len(trials) if wanted is None else wanted
        self._append([generation_entry(generation, trials, parameters, seeds, count, fidelities, closing=closing)])

    def told(self, ended: Sequence[tuple[Trial, Sequence[Outcome]]]) -> None:
        """Trials have ended, with all their replicates. Doing it again changes nothing.

        Args:
            ended: each trial with the outcomes of its replicates.
        """
        entries: list[dict[str, Any]] = []
        seen = set(self._view.fields)
        for trial, outcomes in ended:
            for name in trial.fields:
                if name not in seen:
                    seen.add(name)
                    entries.append(field_entry(self._storage, name))
            if not self._view.status[trial.number]:
                if self._spec.replicates > 1:
                    entries += [attempt_entry(outcome) for outcome in outcomes]
                entries.append(trial_entry(trial, outcomes))
        self._append(entries)

    def attempted(self, outcome: Outcome) -> None:
        """A run has failed and will be run again."""
        self._append([attempt_entry(outcome)])

    def collect(self) -> list[Outcome]:
        """Outcomes that wait to be told: of runs that ended while nobody watched. Damaged ones are left out."""
        return waiting_outcomes(self._storage, self._is_news)

    def checkpoint(self) -> tuple[bytes, int] | None:
        """The latest checkpoint that can be used, and the number of the ledger record from which to go on."""
        return self._checkpoints.latest()

    def save_checkpoint(self, payload: bytes) -> None:
        """Keep the search's state as of now."""
        self._lease.check()
        self._append([self._checkpoints.write(payload, self._ledger.seq + 1)])
        self._checkpoints.sweep()

    def history(
        self, after: int = -1, under_way: Iterable[tuple[Generation, Sequence[int]]] = ()
    ) -> Iterable[Generation]:
        """Generations asked for after a ledger record, in order, each with what has ended of it.

        Args:
            after: number of the record.
            under_way: generations that had been asked for by then and had not ended, each with its trials' seeds.
        """
        return generations(self._ledger.after(after), self._spec.make_space(), under_way)

    def requests(self) -> list[tuple[str, Request]]:
        """What people ask for and is not taken up yet, in order, each with its object's key."""
        waiting: list[tuple[str, Request]] = []
        gone: list[str] = []
        for key, request in pending(self._storage):
            if request is not None and request.token not in self._tally.taken_up:
                waiting.append((key, request))
                continue
            gone.append(key)  # what a kill has left here, or what is no request
            if request is None:
                _log.warning("%s/%s is no request; it is left out", self._storage.url, key)
        if gone:
            self._storage.delete(gone)
        return waiting

    def take_up(self, key: str, request: Request, steering: Steering, *, refused: str = "", note: str = "") -> None:
        """A request is part of the study from here on: call this once the search has done what it asks for.

        Args:
            key: of its object, which goes away.
            request: the request.
            steering: what all requests come to with it.
            refused: why it was not done after all; empty when it was.
            note: what else is to be said of it.
        """
        attributes = {**self._view.hierarchy.attributes, "steering": steering.document()}
        self._append([request_entry(request, attributes, refused, note)])
        self.flush(force=True)  # who asked wants to see it
        self._storage.delete([key])

    def requested(self, after: int = -1) -> Iterable[tuple[int, Request]]:
        """The requests that were done after a ledger record, in order, each with the number of its record."""
        return [
            (entry["seq"], Request.from_json(entry["used"]))
            for entry in self._ledger.after(after)
            if entry["activity"] == "request" and not entry["generated"]["refused"]
        ]

    def flush(self, *, force: bool = False) -> None:
        """Bring the arrays up to the ledger, at most once a second unless forced; remove outcomes that were told."""
        if not force and time.monotonic() - self._flushed < FLUSH_SECONDS:
            return
        self._lease.check()
        seconds = self._tally.seconds + time.monotonic() - self._started
        self._view.flush({"seq": self._ledger.seq, "seconds": round(seconds, 3)})
        sweep_outcomes(self._storage, self._have_ended)
        self._flushed = time.monotonic()

    def close(self, state: str) -> None:
        """Say how the run ended, write everything, and let others write. Idempotent.

        Args:
            state: one word, such as `budget` or `interrupted`.
        """
        if self._closed:
            return
        self._closed = True
        if not self._begun:
            self._withdraw()
            return
        try:
            self._append([{"activity": "run", "id": self._run, "generated": {"state": state}}])
            self.flush(force=True)
        finally:
            self._lease.release()

    def _withdraw(self) -> None:
        """Let others write a study of which this run has written nothing."""
        there = True
        with suppress(StoreError):
            there = self._storage.read("zarr.json") is not None
        self._lease.release(trace=there)
        if not there:
            self._vanish()

    def _append(self, entries: Sequence[dict[str, Any]]) -> None:
        """Write to the ledger, then to what is derived from it."""
        if entries:
            self._lease.check()
            first = self._ledger.seq + 1
            self._ledger.append(entries)
            self._apply([{**entry, "seq": first + i} for i, entry in enumerate(entries)])

    def _apply(self, entries: Sequence[Entry]) -> None:
        self._tally.apply(entries)
        self._checkpoints.apply(entries)
        self._view.apply(entries)

    def _is_news(self, outcome: Outcome) -> bool:
        """Whether an outcome speaks of a trial that was asked and has not ended, is not recorded, and is whole."""
        trial, view = outcome.trial, self._view
        if trial >= view.capacity or not view.asked[trial] or view.status[trial]:
            return False
        tried = self._tally.failed_attempt(trial, outcome.replicate)
        if outcome.status is Status.FAILED and outcome.attempt <= tried:
            again = outcome.reason is Reason.KILLED or outcome.attempt < self._spec.compute.reruns(outcome.reason)
            if again or outcome.attempt < tried:  # otherwise a replicate's last, whose trial was not told yet
                return False
        try:
            for name, digest in outcome.fields.items():
                check_field(self._storage, name, trial, digest)
        except CorruptionError as error:
            _log.warning("%s; the trial is run again", error)
            return False
        return True

    def _have_ended(self, trials: range) -> bool:
        status = self._view.status
        return trials.stop <= len(status) and bool(status[trials.start : trials.stop].all())


def _attributes(spec: StudySpec, provenance: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of the root group as they should be, given what they are."""
    simulators = sorted({*known.get("simulators", ()), str(provenance.get("simulator", ""))})
    own = {"layout": LAYOUT, "name": spec.name, "spec": spec.document(), "simulators": simulators}
    return {**known, **own}
