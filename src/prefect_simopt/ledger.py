"""The ledger: an append-only, hash-chained record of what happened, in segments of JSON lines.

Every line is one record and carries `seq`, its number, `prev`, the SHA-256 of the line before it, and `crc`, the
CRC-32 of its own text before that entry. The chain proves that nothing was changed or taken out, and the checksum says
which line of a broken chain is the damaged one.
"""

import hashlib
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from prefect_simopt.errors import CorruptionError, LeaseError
from prefect_simopt.storage import Storage

__all__ = [
    "GENESIS",
    "Ledger",
    "Line",
    "Segment",
    "decode_line",
    "encode_line",
    "find_record",
    "newest_records",
    "newest_segments",
    "record_head",
    "scan",
    "segments",
    "timestamp",
]

FOLDER = "ledger"
GENESIS = "0" * 64
"""`prev` of the first record."""
_RECORDS = 8192  # records after which a new segment begins
_BYTES = 4 << 20  # bytes after which a new segment begins
_BYTES_REWRITTEN = 256 << 10  # the same where a segment is written as a whole at each append
_AT_ONCE = 16  # segments held in memory
_NAME = re.compile(r"\d{6,}\.jsonl")
_CRC = len(b',"crc":"00000000"}')


@dataclass(frozen=True)
class Segment:
    """One object of the ledger.

    Attributes:
        key: of the object.
        data: its bytes.
    """

    key: str
    data: bytes


@dataclass(frozen=True)
class Line:
    """One line of the ledger, looked at.

    Attributes:
        key: of the segment that it is in.
        start: of the line in the segment, in bytes.
        raw: its bytes, without the line's end.
        seq: number that the record should have.
        record: what it says; None when it is damaged.
        ended: whether the line's end is there; a kill leaves the last line without.
        problem: what is wrong with it; empty when nothing is.
        newest: whether its segment is the last one.
        head: what the next record should give as `prev`.
    """

    key: str
    start: int
    raw: bytes
    seq: int
    record: dict[str, Any] | None
    ended: bool = True
    problem: str = ""
    newest: bool = True
    head: str = ""

    @property
    def torn(self) -> bool:
        """Whether it is a last line that a kill cut short: never acknowledged, so nothing is lost with it."""
        return self.newest and self.record is None and not self.ended and decode_line(self.raw[:-1]) is None


class Ledger:
    """The ledger of one study, open for its one writer. Reads and verifies all of it once, in `replay`.

    Args:
        storage: of the study.

    Attributes:
        seq: number of the last record, -1 when there is none.
        head: SHA-256 of the last line.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.seq = -1
        self.head = GENESIS
        self._number = 0  # of the current segment
        self._size = 0
        self._first = 0  # seq of the current segment's first record
        self._data = b""  # the current segment, where it is written as a whole
        self._version: str | None = None

    def replay(self) -> Iterator[dict[str, Any]]:
        """Every record from the first, verified. Afterwards the ledger is ready for `append`.

        Raises:
            CorruptionError: a line is damaged or missing.
        """
        for line in scan(segments(self._storage)):
            if line.torn and self._storage.appends:  # elsewhere a segment is there whole or not at all
                self._storage.append(line.key, b"", line.start)
                break
            if line.record is None:
                raise CorruptionError(
                    f"{self._storage.url}: {line.problem}. Nothing was run. `simopt verify` tells more, and "
                    "`simopt verify --repair` mends it or drops what cannot be mended."
                )
            if line.start == 0:
                self._number, self._first = int(line.key.removesuffix(".jsonl").rpartition("/")[2]), line.seq
            self._size = line.start + len(line.raw) + 1
            if not line.ended:
                self._storage.append(line.key, b"\n", self._size - 1)
            self.seq, self.head = line.seq, line.head
            yield line.record
        if not self._storage.appends:
            found = self._storage.read_version(_key(self._number))
            if found is not None:
                self._data, self._version = found[0][: self._size], found[1]

    def append(self, records: Sequence[Mapping[str, Any]]) -> int:
        """Write records at the end, all of them or, after a kill, the first few.

        Args:
            records: JSON documents, without `seq`, `prev`, `at` and `crc`.

        Returns:
            The number of the last one.

        Raises:
            StoreError: nothing was appended.
            LeaseError: another process has written the ledger.
        """
        at = timestamp()
        seq, head, lines = self.seq, self.head, []
        for record in records:
            seq += 1
            line = encode_line(seq, head, at, record)
            head = hashlib.sha256(line).hexdigest()
            lines.append(line)
        data = b"\n".join(lines) + b"\n"
        limit = _BYTES if self._storage.appends else _BYTES_REWRITTEN
        if self._size and (self._size + len(data) > limit or seq - self._first >= _RECORDS):
            self._number, self._size, self._data, self._version = self._number + 1, 0, b"", None
            self._first = self.seq + 1
        if self._storage.appends:
            self._storage.append(_key(self._number), data, self._size)
        else:
            version = self._storage.replace(_key(self._number), self._data + data, self._version)
            if version is None:
                raise LeaseError(f"{self._storage.url}: another process has written the ledger; this one stops")
            self._data, self._version = self._data + data, version
        self._size += len(data)
        self.seq, self.head = seq, head
        return seq

    def after(self, seq: int) -> Iterator[dict[str, Any]]:
        """The records after number `seq`, as far as they are written.

        Raises:
            CorruptionError: a line of those segments is damaged.
        """
        if seq >= self.seq:
            return
        for line in scan(segments(self._storage, after=seq), first=None):
            if line.record is None:
                raise CorruptionError(f"{self._storage.url}: {line.problem}")
            if line.seq > seq:
                yield line.record


def timestamp() -> str:
    """The time as records give it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def encode_line(seq: int, prev: str, at: str, record: Mapping[str, Any]) -> bytes:
    """A record's line, without the line's end."""
    rest = orjson.dumps(record, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
    text = b'{"seq":%d,"prev":"%s","at":"%s",%s' % (seq, prev.encode(), at.encode(), rest)
    return b'%s,"crc":"%08x"}' % (text, zlib.crc32(text))


def decode_line(raw: bytes) -> dict[str, Any] | None:
    """The record of a line; None when its checksum does not match."""
    if raw[-_CRC:] != b',"crc":"%08x"}' % zlib.crc32(raw[:-_CRC]):
        return None
    record: dict[str, Any] = orjson.loads(raw)
    return record


def segments(storage: Storage, after: int = -1) -> Iterator[Segment]:
    """The ledger's segments in order; with `after`, only those that hold records beyond that number."""
    if after < 0:
        keys = _keys(storage)
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            yield from (Segment(key, data or b"") for key, data in zip(some, storage.read_many(some), strict=True))
        return
    found: list[Segment] = []
    for part in newest_segments(storage):
        found.append(part)
        first = decode_line(part.data.partition(b"\n")[0])
        if first is not None and first["seq"] <= after + 1:
            break
    yield from reversed(found)


def find_record(storage: Storage, identity: str) -> dict[str, Any]:
    """The last record of an activity, such as `trial/7`; empty where there is none, or it is damaged."""
    mark = f'"id":"{identity}",'.encode()
    for part in newest_segments(storage):
        at = part.data.rfind(mark)
        if at >= 0:
            start, end = part.data.rfind(b"\n", 0, at) + 1, part.data.find(b"\n", at)
            return decode_line(part.data[start:end]) or {}
    return {}


def newest_segments(storage: Storage) -> Iterator[Segment]:
    """The ledger's segments, the last one first, each read when it is asked for."""
    return (Segment(key, storage.read(key) or b"") for key in reversed(_keys(storage)))


def newest_records(storage: Storage, *marks: bytes) -> Iterator[dict[str, Any]]:
    """The records in whose text one of `marks` is, the last one first; empty where one is damaged."""
    for part in newest_segments(storage):
        for raw in reversed(part.data.splitlines()):
            if any(mark in raw for mark in marks):
                yield decode_line(raw) or {}


def scan(parts: Iterator[Segment], first: int | None = 0) -> Iterator[Line]:
    """Look at every line: its checksum, its number, and the chain.

    Args:
        parts: segments in order.
        first: number of the first record; None to take it from the first line.
    """
    seq, head = first, GENESIS if first == 0 else None  # what the next line should say; None: not known
    following = next(parts, None)
    while following is not None:
        part, following = following, next(parts, None)
        start, number = 0, 0
        while start < len(part.data):
            end = part.data.find(b"\n", start)
            raw = part.data[start : end if end >= 0 else len(part.data)]
            record, problem, number = decode_line(raw), "", number + 1
            if record is None:
                problem = f"line {number} of {part.key} (record {seq}{_about(raw)}) is damaged"
            elif (seq is not None and record["seq"] != seq) or (head is not None and record["prev"] != head):
                problem = (
                    f"the records before number {record['seq']} (line {number} of {part.key}) were taken out or changed"
                )
            if record is not None:
                seq = record["seq"]
            # The line after a damaged one starts the chain anew, so that each damage is told once.
            head = None if record is None else record_head(record, raw)
            at, whole = -1 if seq is None else seq, None if problem else record
            yield Line(part.key, start, raw, at, whole, end >= 0, problem, following is None, head or "")
            seq = None if record is None or seq is None else seq + 1
            start += len(raw) + 1


def record_head(record: Mapping[str, Any], raw: bytes) -> str:
    """What the next record gives as `prev`: a record that took the place of a lost one stands in for it."""
    stands_for = record["generated"]["sha256"] if record["activity"] == "lost" else None
    return stands_for or hashlib.sha256(raw).hexdigest()


def _about(raw: bytes) -> str:
    """Which trial a damaged line speaks of, as far as it can be read."""
    match = re.search(rb'"id":"(\w+/[\w.-]+)"', raw)
    return f", {match[1].decode().replace('/', ' ')}" if match else ""


def _keys(storage: Storage) -> list[str]:
    names = [name for name in storage.names(FOLDER) if _NAME.fullmatch(name)]
    return [f"{FOLDER}/{name}" for name in sorted(names, key=lambda name: int(name.removesuffix(".jsonl")))]


def _key(number: int) -> str:
    return f"{FOLDER}/{number:06d}.jsonl"
