"""The ledger: a chain that is appended to, torn by kills, and found out when it is changed."""

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_simopt import ledger as module
from prefect_simopt.errors import CorruptionError, LeaseError
from prefect_simopt.ledger import GENESIS, Ledger, decode_line, encode_line, scan, segments
from prefect_simopt.mending import mend
from prefect_simopt.storage import Storage, StudyLocation


@pytest.fixture
def storage(location: StudyLocation) -> Storage:
    return location.storage()


def reopened(storage: Storage) -> tuple[Ledger, list[dict]]:
    ledger = Ledger(storage)
    return ledger, list(ledger.replay())


def note(i: int) -> dict:
    return {"activity": "note", "id": f"note/{i}", "generated": {"text": "ä" * i}}


def test_records_read_back_chained(storage: Storage) -> None:
    ledger, records = reopened(storage)
    assert (ledger.seq, ledger.head, records) == (-1, GENESIS, [])
    assert ledger.append([note(0), note(1)]) == 1
    assert ledger.append([note(2)]) == 2
    lines = storage.read("ledger/000000.jsonl").splitlines()
    heads = [GENESIS, *(hashlib.sha256(line).hexdigest() for line in lines)]
    ledger, records = reopened(storage)
    assert [record["seq"] for record in records] == [0, 1, 2]
    assert [record["prev"] for record in records] == heads[:-1]
    assert [record["generated"]["text"] for record in records] == ["", "ä", "ää"]
    assert ledger.head == heads[-1]
    assert ledger.append([note(3)]) == 3
    assert [record["id"] for record in ledger.after(1)] == ["note/2", "note/3"]


def test_segments_rotate_and_are_read_from_where_it_is_asked(storage: Storage, monkeypatch) -> None:
    monkeypatch.setattr(module, "_RECORDS", 4)
    ledger, _ = reopened(storage)
    for i in range(10):
        ledger.append([note(i)])
    assert len([name for name in storage.names("ledger") if name.endswith(".jsonl")]) == 3
    ledger, records = reopened(storage)
    assert len(records) == 10
    for after in range(-1, 11):
        assert [record["seq"] for record in ledger.after(after)] == list(range(after + 1, 10))
    assert len(list(segments(storage, after=8))) == 1
    ledger.append([note(10), note(11), note(12)])
    assert len(reopened(storage)[1]) == 13


@pytest.mark.parametrize("cut", [1, 2, 20, 100])
def test_a_torn_last_line_is_cut_off(tmp_path, cut: int) -> None:
    storage = StudyLocation(str(tmp_path)).storage()
    ledger, _ = reopened(storage)
    ledger.append([note(0), note(1)])
    path = tmp_path / "ledger/000000.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    ledger, records = reopened(storage)
    assert len(records) == (2 if cut == 1 else 1)  # a line that lacks only its end is whole
    ledger.append([note(2)])
    ledger, records = reopened(storage)
    assert [record["id"] for record in records] == ["note/0", "note/1", "note/2"][: 3 if cut == 1 else 1] + (
        [] if cut == 1 else ["note/2"]
    )


def test_a_torn_line_where_a_segment_ends_is_cut_off(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "_RECORDS", 2)
    storage = StudyLocation(str(tmp_path)).storage()
    ledger, _ = reopened(storage)
    ledger.append([note(0), note(1)])
    with (tmp_path / "ledger/000000.jsonl").open("ab") as file:
        file.write(b'{"seq":2,"pr')
    ledger, _ = reopened(storage)
    ledger.append([note(2)])
    assert len(reopened(storage)[1]) == 3


@pytest.mark.parametrize("what", ["changed", "taken out", "swapped", "forged"])
def test_changes_are_found(storage: Storage, what: str) -> None:
    ledger, _ = reopened(storage)
    ledger.append([note(i) for i in range(5)])
    key = "ledger/000000.jsonl"
    lines = storage.read(key).splitlines(keepends=True)
    if what == "changed":
        lines[2] = lines[2].replace(b"note/2", b"note/9")
    elif what == "taken out":
        del lines[2]
    elif what == "swapped":
        lines[1], lines[2] = lines[2], lines[1]
    else:
        lines[2] = encode_line(2, decode_line(lines[2].strip())["prev"], "2020-01-01T00:00:00.000Z", note(7)) + b"\n"
    storage.write(key, b"".join(lines))
    damaged = [line for line in scan(segments(storage)) if line.record is None]
    assert damaged
    assert damaged[0].seq in (2, 3)
    with pytest.raises(CorruptionError, match="simopt verify"):
        reopened(storage)


@pytest.mark.s3
def test_on_s3_a_writer_that_was_replaced_cannot_write(s3_server) -> None:
    storage = StudyLocation("s3://lab/fenced", s3_server.options).storage()
    old, _ = reopened(storage)
    old.append([note(0)])
    new, _ = reopened(storage)
    new.append([note(1)])
    with pytest.raises(LeaseError, match="another process has written"):
        old.append([note(2)])
    assert [record["id"] for record in reopened(storage)[1]] == ["note/0", "note/1"]


TEXTS = st.text(max_size=40)


@given(text=TEXTS, where=st.integers(0), bit=st.integers(0, 7), follows=st.booleans())
def test_one_flipped_bit_is_flipped_back(text: str, where: int, bit: int, follows: bool) -> None:
    line = encode_line(5, GENESIS, "2025-01-01T00:00:00.000Z", {"activity": "trial", "id": "trial/1", "x": text})
    damaged = bytearray(line)
    damaged[where % len(line)] ^= 1 << bit
    assert decode_line(bytes(damaged)) is None
    assert mend(bytes(damaged), hashlib.sha256(line).hexdigest() if follows else None) == line


@given(text=TEXTS, bit=st.integers(0, 7))
def test_a_flipped_end_of_line_is_flipped_back(text: str, bit: int) -> None:
    first = encode_line(5, GENESIS, "2025-01-01T00:00:00.000Z", {"activity": "trial", "id": "trial/1", "x": text})
    second = encode_line(6, GENESIS, "2025-01-01T00:00:00.000Z", {"activity": "trial", "id": "trial/2", "x": text})
    flipped = bytes([ord("\n") ^ (1 << bit)])
    head = hashlib.sha256(second).hexdigest()
    assert mend(first + flipped + second, head) == first + b"\n" + second
    assert mend(second + flipped, head) == second


@given(text=TEXTS, seed=st.integers(0, 2**32), follows=st.booleans())
def test_more_flipped_bits_are_not_made_up_for(text: str, seed: int, follows: bool) -> None:
    line = encode_line(5, GENESIS, "2025-01-01T00:00:00.000Z", {"activity": "trial", "id": "trial/1", "x": text})
    damaged = bytearray(line)
    for position in random.Random(seed).sample(range(len(line)), 3):
        damaged[position] ^= 1 << (seed % 8)
    mended = mend(bytes(damaged), hashlib.sha256(line).hexdigest())
    assert mended in (None, line)
