"""Mends what can be mended, and drops what cannot, so that a resume runs it again.

A flipped bit in the ledger is flipped back, since the chain proves which one it was. A record of a trial that is
beyond that is replaced by one that says so, and the trial counts as not ended. Where another kind of record is beyond
mending, the ledger ends there. Arrays follow from the ledger and are written anew. A trial whose field is damaged
counts as not ended. Damaged outcomes and checkpoints are removed.
"""

import re
from collections.abc import Mapping, Sequence

from prefect_simopt.errors import CorruptionError
from prefect_simopt.lease import Lease
from prefect_simopt.ledger import Ledger, Line, decode_line, encode_line, record_head, scan, segments, timestamp
from prefect_simopt.mending import mend
from prefect_simopt.outcomes import FOLDER, decode_outcomes, encode_outcomes
from prefect_simopt.storage import Storage, StudyLocation
from prefect_simopt.study import Study
from prefect_simopt.verify import Examination, Finding, examine
from prefect_simopt.view import View, holds_trials, standing_of

__all__ = ["repair"]


def repair(study: Study | StudyLocation) -> list[Finding]:
    """Mend or drop whatever `verify` finds.

    Returns:
        What was damaged.

    Raises:
        LeaseError: somebody is writing the study.
        CorruptionError: the very first record is gone, or the ledger as a whole, and with it the question.
    """
    location = study.location if isinstance(study, Study) else study
    storage = location.storage()
    lease = Lease(storage)
    try:
        findings: list[Finding] = []
        lost: dict[int, int] = {}
        while (seen := examine(storage, changing=False)).lines:
            findings += [finding for finding in seen.findings if finding not in findings]
            _mend_ledger(storage, seen.lines[0], lost)
        findings += [finding for finding in seen.findings if finding not in findings]
        if seen.contents.seq < 0 and holds_trials(storage):
            raise CorruptionError(
                f"{storage.url}: the ledger is gone, and the study cannot be repaired without it; put back the folder "
                "`ledger` from a copy, or ask under another name"
            )
        if findings:
            _drop(storage, seen, findings, lost)
    finally:
        lease.release()
    return findings


def _mend_ledger(storage: Storage, line: Line, lost: dict[int, int]) -> None:
    """Mend the first damaged line, or put something in its place, or end the ledger before it."""
    data = storage.read(line.key) or b""
    lines = list(scan(segments(storage)))
    at = next(i for i, each in enumerate(lines) if (each.key, each.start) == (line.key, line.start))
    before = lines[at - 1].record if at else None
    after = lines[at + 1] if at + 1 < len(lines) else None
    follows = after.record["prev"] if after is not None and after.record is not None else None
    end = line.start + len(line.raw)
    if decode_line(line.raw) is not None:  # the line itself is whole: records before it are missing
        mended = None
    else:
        mended = mend(line.raw, follows)
        if mended is None and after is not None and after.record is None and after.key == line.key:
            # Perhaps a flipped bit made an end of a line within one: then both halves look damaged.
            mended = mend(data[line.start : after.start + len(after.raw)], None)
            end = after.start + len(after.raw) if mended is not None else end
        trial = _trial(line.raw)
        if mended is None and before is not None and trial is not None:
            entry = {"activity": "lost", "id": f"lost/{trial}", "generated": {"sha256": follows}}
            mended = encode_line(line.seq, record_head(before, lines[at - 1].raw), timestamp(), entry)
            lost[trial] = line.seq
    if mended is not None:
        storage.write(line.key, data[: line.start] + mended + b"\n" + data[end + 1 :])
        return
    if before is None:
        raise CorruptionError(f"{storage.url}: the ledger's first record is lost; the study cannot be repaired")
    storage.write(line.key, data[: line.start])
    storage.delete(list(dict.fromkeys(each.key for each in lines[at:] if each.key != line.key)))


def _drop(storage: Storage, seen: Examination, findings: Sequence[Finding], lost: Mapping[int, int]) -> None:
    """Remove what is damaged outside the ledger, say so in the ledger, and write the arrays anew."""
    contents, told_at = seen.contents, dict(seen.contents.told_at)
    dropped: dict[int, int] = {trial: told_at.get(trial, seq) for trial, seq in lost.items()}
    coordinates: list[str] = []
    removed = [finding.path for finding in findings if finding.path in contents.checkpoints]
    for finding in findings:
        folder, _, rest = finding.path.partition("/")
        if folder == "fields" and finding.trials:
            dropped |= {trial: told_at[trial] for trial in finding.trials}
            removed.append(finding.path)
        elif folder == "fields" and (dim := rest.removesuffix("/c/0")) in contents.coordinates:
            # One of the trials that it belongs to is run again, and writes it again.
            field = contents.coordinates[dim][1]
            trial = max(trial for trial, fields in contents.fields.items() if field in fields)
            dropped[trial] = told_at[trial]
            removed.append(finding.path)
            coordinates.append(dim)
        elif folder == FOLDER:
            _keep_good_outcomes(storage, finding.path)
    storage.delete(removed)
    ledger = Ledger(storage)
    entries = list(ledger.replay())
    entry = {
        "activity": "repair",
        "id": f"repair/{ledger.seq + 1}",
        "used": {
            "trials": list(dropped),
            "told": list(dropped.values()),
            "coordinates": coordinates,
            "checkpoints": [path for path in removed if path in contents.checkpoints],
        },
        "generated": {"findings": [str(finding) for finding in findings]},
    }
    ledger.append([entry])
    spec = contents.view.spec
    view = View(storage, spec, contents.view.hierarchy.attributes, fresh=False)
    view.apply([*entries, entry])
    view.flush({**standing_of(storage), "seq": ledger.seq})


def _keep_good_outcomes(storage: Storage, key: str) -> None:
    good, _ = decode_outcomes(storage.read(key) or b"")
    if good:
        storage.write(key, encode_outcomes(good))
    else:
        storage.delete([key])


def _trial(raw: bytes) -> int | None:
    match = re.search(rb'"id":"(?:trial|attempt)/(\d+)["\.]', raw)
    return int(match[1]) if match else None
