"""Outcomes as objects of the store: what a simulator's process leaves behind before it reports.

One object holds the outcomes of a group of runs, one line each. A line carries the SHA-256 of its own outcome, so
that a damaged one is found alone. The object's name says which trials it is about: `<first>-<last>-<random>.jsonl`.
"""

import hashlib
import logging
import re
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from prefect_simopt.storage import Storage, StudyLocation
from prefect_simopt.trial import Outcome, Reason, Run, Status

__all__ = [
    "FOLDER",
    "OutcomeSink",
    "clear_outcomes",
    "decode_outcomes",
    "encode_outcomes",
    "find_outcomes",
    "outcomes_name",
    "sweep_outcomes",
    "trial_range",
    "waiting_outcomes",
]

FOLDER = "outcomes"
_NAME = re.compile(r"(\d+)-(\d+)-[0-9a-f]+\.jsonl")
_HEAD = b'{"sha256":"'
_MIDDLE = b'","outcome":'
_log = logging.getLogger("prefect_simopt")


class OutcomeSink:
    """Writes how runs came out. It needs no NumPy, so that a process that only does this starts at once.

    Args:
        location: of the study.

    Raises:
        StoreError: from every method, when the store cannot be written.
    """

    def __init__(self, location: StudyLocation) -> None:
        self._storage = location.storage()

    def put_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        """Write the outcomes of some runs, together in one object. They are durable when this returns."""
        if outcomes:
            self._storage.write(f"{FOLDER}/{outcomes_name(outcomes)}", encode_outcomes(outcomes))

    def put_failed(self, runs: Sequence[Run], reason: Reason, message: str, worker: str) -> list[Outcome]:
        """Write that runs have failed whose end nobody saw.

        Args:
            runs: all of them for the same reason.
            reason: which kind of failure.
            message: one sentence about it.
            worker: who had them.

        Returns:
            Their outcomes, which are durable.
        """
        outcomes = [
            Outcome(run.trial, Status.FAILED, run.replicate, reason=reason, message=message, attempt=run.attempt,
                    started=time.time(), worker=worker)
            for run in runs
        ]  # fmt: skip
        self.put_outcomes(outcomes)
        return outcomes

    def put_log(self, trial: int, replicate: int, attempt: int, text: bytes) -> None:
        """Keep what a run printed."""
        self._storage.write(f"logs/{trial:08d}-{replicate}-{attempt}.txt", text)


def outcomes_name(outcomes: Sequence[Outcome]) -> str:
    """A new name for the object of these outcomes."""
    trials = [outcome.trial for outcome in outcomes]
    return f"{min(trials):08d}-{max(trials):08d}-{secrets.token_hex(6)}.jsonl"


def trial_range(name: str) -> range | None:
    """The trials among which those of an object are, by its name; None for a name of another kind."""
    match = _NAME.fullmatch(name)
    return range(int(match[1]), int(match[2]) + 1) if match else None


def encode_outcomes(outcomes: Sequence[Outcome]) -> bytes:
    """The object's bytes."""
    lines = []
    for outcome in outcomes:
        body = _body(outcome.to_json())
        lines.append(_HEAD + hashlib.sha256(body).hexdigest().encode() + _MIDDLE + body + b"}\n")
    return b"".join(lines)


def decode_outcomes(data: bytes) -> tuple[list[Outcome], list[bytes]]:
    """The outcomes whose digests match, and the lines that are damaged."""
    good, damaged = [], []
    start = len(_HEAD) + 64 + len(_MIDDLE)
    for line in data.splitlines():
        body = line[start:-1]
        if line == _HEAD + hashlib.sha256(body).hexdigest().encode() + _MIDDLE + body + b"}":
            good.append(Outcome.from_json(orjson.loads(body)))
        else:
            damaged.append(line)
    return good, damaged


def find_outcomes(storage: Storage, runs: Sequence[Run]) -> dict[tuple[int, int], Outcome]:
    """Outcomes in the store of these very attempts, by trial and replicate.

    Raises:
        StoreError: the store cannot be read.
    """
    attempts = {(run.trial, run.replicate): run.attempt for run in runs}
    trials = {run.trial for run in runs}
    names = [name for name in storage.names(FOLDER) if trials.intersection(trial_range(name) or ())] if runs else []
    found = {}
    for data in storage.read_many([f"{FOLDER}/{name}" for name in names]):
        for outcome in decode_outcomes(data or b"")[0]:
            key = outcome.trial, outcome.replicate
            if attempts.get(key) == outcome.attempt:
                found[key] = outcome
    return found


def waiting_outcomes(storage: Storage, wanted: Callable[[Outcome], bool]) -> list[Outcome]:
    """The outcomes in the store, one for each run, by trial and replicate; damaged ones are left out.

    Args:
        storage: of the study.
        wanted: whether an outcome counts. Of several attempts that do, a complete one wins over failed ones, and a
            later one over earlier ones.

    Raises:
        StoreError: the store cannot be read.
    """
    found: dict[tuple[int, int], Outcome] = {}
    keys = [f"{FOLDER}/{name}" for name in storage.names(FOLDER) if trial_range(name) is not None]
    for key, data in zip(keys, storage.read_many(keys), strict=True):
        good, damaged = decode_outcomes(data or b"")
        if damaged:
            _log.warning("%s/%s is damaged in part; what it spoke of is run again", storage.url, key)
        for outcome in good:
            run = outcome.trial, outcome.replicate
            if (run not in found or _rank(outcome) > _rank(found[run])) and wanted(outcome):
                found[run] = outcome
    return [found[run] for run in sorted(found)]


def sweep_outcomes(storage: Storage, ended: Callable[[range], bool]) -> None:
    """Remove the objects whose trials have ended.

    Args:
        storage: of the study.
        ended: whether all trials of a range have.

    Raises:
        StoreError: the store cannot be written.
    """
    ranges = {name: trial_range(name) for name in storage.names(FOLDER)}
    served = [f"{FOLDER}/{name}" for name, trials in ranges.items() if trials is not None and ended(trials)]
    if served:
        storage.delete(served)


def clear_outcomes(storage: Storage) -> None:
    """Remove all outcomes, and what else waits beside them.

    Raises:
        StoreError: the store cannot be written.
    """
    storage.delete([f"{FOLDER}/{name}" for name in storage.names(FOLDER) if name != "zarr.json"])


def _rank(outcome: Outcome) -> tuple[bool, int]:
    return outcome.status is Status.COMPLETE, outcome.attempt


def _body(document: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError:  # a message or output with half a surrogate pair, which UTF-8 does not have
        readable = {
            name: value.encode(errors="replace").decode() if isinstance(value, str) else value
            for name, value in document.items()
        }
        return orjson.dumps(readable, option=orjson.OPT_SERIALIZE_NUMPY)
