"""Whether a study is what was written: every record, array, field, outcome and checkpoint.

The ledger is checked by its own chain; everything else is checked against it. For the arrays that means: what the
ledger says is written once more, into memory, and compared with what is stored.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import orjson

from prefect_simopt.arrays import CHUNK, Column
from prefect_simopt.chunks import decode
from prefect_simopt.contents import Contents
from prefect_simopt.entries import Entry
from prefect_simopt.errors import CorruptionError, StoreError
from prefect_simopt.fields import coordinate_digest, field_key, read_field
from prefect_simopt.hierarchy import study_attributes
from prefect_simopt.lease import is_held
from prefect_simopt.ledger import Line, scan, segments
from prefect_simopt.outcomes import FOLDER, decode_outcomes, trial_range
from prefect_simopt.storage import Storage, StudyLocation
from prefect_simopt.study import Study
from prefect_simopt.view import STANDING, holds_trials, standing_of

__all__ = ["Examination", "Finding", "examine", "verify"]

_BATCH = 4096  # ledger records applied at once
_AT_ONCE = 64  # objects read at once
_SHOWN = 5  # trials named in a finding's text


@dataclass(frozen=True)
class Finding:
    """One thing that is damaged.

    Attributes:
        path: the object, below the study's root.
        message: what is wrong with it.
        trials: numbers of the trials that it belongs to; empty when it belongs to the study as a whole.
        repairable: whether `repair` can do something about it.
    """

    path: str
    message: str
    trials: tuple[int, ...] = ()
    repairable: bool = True

    def __str__(self) -> str:
        named = ", ".join(str(trial) for trial in self.trials[:_SHOWN])
        more = f" and {len(self.trials) - _SHOWN} more" if len(self.trials) > _SHOWN else ""
        plural = "trial" if len(self.trials) == 1 else "trials"
        return f"{self.path}: {self.message}" + (f" ({plural} {named}{more})" if self.trials else "")


@dataclass
class Examination:
    """What was found.

    Attributes:
        findings: what is damaged.
        lines: the ledger's damaged lines.
        contents: what there should be, by the ledger up to its first damaged line.
    """

    contents: Contents
    findings: list[Finding] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)


def verify(study: Study | StudyLocation) -> list[Finding]:
    """Look at everything that a study has stored.

    While somebody writes the study, arrays are checked by their checksums alone, since their values change.

    Returns:
        What is damaged; empty when nothing is.

    Raises:
        StoreError: the store cannot be read, or there is no study.
    """
    location = study.location if isinstance(study, Study) else study
    storage = location.storage()
    return examine(storage, changing=is_held(storage)).findings


def examine(storage: Storage, *, changing: bool) -> Examination:
    """Look at everything; after a damaged line of the ledger nothing is known, so then only what comes before it.

    Args:
        storage: of the study.
        changing: whether somebody may be writing it.
    """
    standing = int(standing_of(storage).get("seq", -1))
    attributes = study_attributes(storage)
    if attributes is None:
        raise StoreError(f"there is no study at {storage.url}")
    seen = Examination(contents := Contents(storage, attributes))
    findings = seen.findings
    _follow_ledger(storage, seen, standing)
    if not seen.lines:
        if contents.seq < 0 and holds_trials(storage):
            gone = "it is gone, and with it what the arrays are checked against"
            findings.append(Finding("ledger", gone, repairable=False))
        elif standing > contents.seq:
            findings.append(Finding("ledger", f"its end is missing: records {contents.seq + 1} to {standing}"))
        elif contents.seq >= 0:  # otherwise the study was killed while it was created
            findings += _array_findings(storage, contents, lagging=standing < contents.seq, changing=changing)
        findings += _field_findings(storage, contents)
        findings += _checkpoint_findings(storage, contents)
    findings += _outcome_findings(storage)
    return seen


def _follow_ledger(storage: Storage, seen: Examination, standing: int) -> None:
    """Let the contents follow the ledger, up to its first damaged line; all damaged lines are noted.

    Args:
        storage: of the study.
        seen: what is found.
        standing: number of the ledger record up to which the stored arrays are written.
    """
    contents = seen.contents
    batch: list[Entry] = []
    for line in scan(segments(storage)):
        if line.torn:
            break
        if line.record is None:
            seen.lines.append(line)
            seen.findings.append(Finding(line.key, line.problem, _trial_of(line.raw)))
        if seen.lines:
            continue
        batch.append(line.record or {})
        if len(batch) == _BATCH or line.seq >= standing:
            contents.apply(batch)
            batch = []
        if line.seq == 0:
            contents.view.hierarchy.create()
        if line.seq == standing:
            contents.versions.clear()
            contents.view.flush({})
        elif line.seq > standing and contents.view.reshaped:
            contents.view.flush({})
    contents.apply(batch)
    contents.view.flush({})


@dataclass(frozen=True)
class _Chunk:
    """A chunk of a scalar array to be judged.

    Attributes:
        key: its object.
        column: its array.
        number: of its trials' chunk.
        allowed: bytes that it may have: as of the last flush, and as of the next one.
        lagging: whether it may also hold nothing yet for some trials.
    """

    key: str
    column: Column
    number: int
    allowed: Sequence[bytes]
    lagging: bool

    def wrong(self, found: bytes) -> tuple[int, ...]:
        """The trials of which the stored chunk says something else.

        Raises:
            CorruptionError: the checksum does not match.
        """
        shape = (CHUNK, *self.column.block)
        rows = decode(found, self.column.dtype, shape, self.key)
        states = [decode(each, self.column.dtype, shape, self.key) for each in self.allowed]
        if self.lagging:
            states.append(np.full(shape, self.column.fill, dtype=self.column.dtype))
        wrong = np.ones(CHUNK, dtype=bool)
        for state in states:
            wrong &= ~np.isclose(rows, state, rtol=0, atol=0, equal_nan=True).reshape(CHUNK, -1).all(axis=1)
        return tuple((np.flatnonzero(wrong) + self.number * CHUNK).tolist())


def _array_findings(storage: Storage, contents: Contents, *, lagging: bool, changing: bool) -> Iterator[Finding]:
    """Objects that are neither as they were at the last flush nor as a flush since would have made them."""
    keys = sorted(contents.versions.keys() - {STANDING})
    for start in range(0, len(keys), _AT_ONCE):
        some = keys[start : start + _AT_ONCE]
        for key, found in zip(some, storage.read_many(some), strict=True):
            allowed = contents.versions[key]
            if found in allowed or (found is None and (lagging or changing)):
                continue
            name, is_chunk, place = key.partition("/c/")
            column = contents.view.columns.get(name)
            if found is None:
                yield Finding(key, "is missing")
            elif is_chunk and column is not None:
                chunk = _Chunk(key, column, int(place.partition("/")[0]), allowed, lagging)
                try:
                    wrong = chunk.wrong(found)
                    if wrong and not changing:
                        yield Finding(key, "does not say what the ledger says", wrong)
                except CorruptionError:
                    first = chunk.number * CHUNK
                    told = np.flatnonzero(contents.view.status[first : first + CHUNK]) + first
                    yield Finding(key, "is damaged: its checksum does not match", tuple(told.tolist()))
            elif not (changing and _is_document(found)):
                yield Finding(key, "is not what was written")
    for name in storage.names("status/c"):
        if f"status/c/{name}" not in contents.versions and not changing:
            yield Finding(f"status/c/{name}", "tells of trials that the ledger does not know")


def _is_document(data: bytes) -> bool:
    try:
        return isinstance(orjson.loads(data), dict)
    except orjson.JSONDecodeError:
        return False


def _field_findings(storage: Storage, contents: Contents) -> Iterator[Finding]:
    for trial, digests in contents.fields.items():
        for name, digest in digests.items():
            document = contents.documents[name]
            try:
                read_field(storage, name, trial, digest, document)
            except CorruptionError as error:
                yield Finding(field_key(name, trial, len(document["shape"]) - 1), str(error), (trial,))
    for dim, (digest, _) in contents.coordinates.items():
        if dim in contents.awaited:
            continue
        try:
            if coordinate_digest(storage, dim, contents.documents[dim]) != digest:
                yield Finding(f"fields/{dim}/c/0", f"the coordinate {dim} is not what was written")
        except CorruptionError as error:
            yield Finding(f"fields/{dim}/c/0", str(error))


def _checkpoint_findings(storage: Storage, contents: Contents) -> Iterator[Finding]:
    for key, digest in contents.checkpoints.items():
        payload = storage.read(key)
        if payload is None or hashlib.sha256(payload).hexdigest() != digest:
            yield Finding(key, "is missing" if payload is None else "is damaged: its SHA-256 does not match")


def _outcome_findings(storage: Storage) -> Iterator[Finding]:
    for name in storage.names(FOLDER):
        trials = trial_range(name)
        if trials is None:
            continue
        good, damaged = decode_outcomes(storage.read(f"{FOLDER}/{name}") or b"")
        known = {outcome.trial for outcome in good}
        for line in damaged:
            about = _trial_in(line, rb'"trial":(\d+)')
            among = about if about and about[0] in trials else tuple(trial for trial in trials if trial not in known)
            yield Finding(f"{FOLDER}/{name}", "is damaged: a line's SHA-256 does not match", among)


def _trial_of(raw: bytes) -> tuple[int, ...]:
    return _trial_in(raw, rb'"id":"(?:trial|attempt)/(\d+)')


def _trial_in(raw: bytes, pattern: bytes) -> tuple[int, ...]:
    match = re.search(pattern, raw)
    return (int(match[1]),) if match else ()
