"""Damage of every kind is found, named with its trial, never used, and mended or dropped: a resume ends the same."""

import random
import shutil
from pathlib import Path

import pytest
from play import bowl_folder, make_spec, objects, play, run

from prefect_simopt.errors import CorruptionError, LeaseError, StoreError
from prefect_simopt.record import Record
from prefect_simopt.repair import repair
from prefect_simopt.sink import TrialSink
from prefect_simopt.storage import StudyLocation
from prefect_simopt.study import open_study
from prefect_simopt.verify import verify

SPEC = make_spec(24)
UNCHECKED = ("lease/", "tmp/", "logs/", "ledger/arrays.json")  # nothing in them is a result


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> StudyLocation:
    location = bowl_folder(tmp_path_factory.mktemp("whole"))
    play(location, SPEC)
    return location


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> StudyLocation:
    """A study that was killed, with outcomes that wait."""
    location = bowl_folder(tmp_path_factory.mktemp("part"))
    play(location, SPEC, 16)
    return location


def copy(location: StudyLocation, folder: Path) -> StudyLocation:
    shutil.copytree(location.url, folder / "bowl")
    return bowl_folder(folder)


def flip(path: Path, position: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[position % len(data)] ^= 1 << bit
    path.write_bytes(data)


def kinds() -> list[str]:
    return [
        "ledger/000000.jsonl",
        "zarr.json",
        "status/zarr.json",
        "status/c/0",
        "metrics/c/0/0",
        "parameters/c/0/0",
        "digests/c/0/0/0",
        "parameter/c/0",
        "trial/c/0",
        "fields/zarr.json",
        "fields/ez/zarr.json",
        "fields/ez/c/6/0/0",
        "fields/x/zarr.json",
        "fields/x/c/0",
        "fields/y/c/0",
        "outcomes/zarr.json",
        "checkpoints/*.bin",
        "outcomes/*-*.jsonl",
    ]


@pytest.fixture(params=["whole", "part"])
def study(request: pytest.FixtureRequest) -> StudyLocation:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("pattern", kinds())
def test_a_flipped_bit_is_found_and_repaired(pattern, study, whole, tmp_path) -> None:
    expected = open_study(whole.url).fingerprint()
    chooser = random.Random(pattern)
    paths = sorted(Path(study.url).glob(pattern))
    assert paths or (study, pattern) == (whole, "outcomes/*-*.jsonl"), "the layout has changed"
    for turn in range(6 if paths else 0):
        location = copy(study, tmp_path / str(turn))
        path = Path(location.url) / chooser.choice(paths).relative_to(study.url)
        flip(path, chooser.randrange(1 << 30), chooser.randrange(8))
        key = str(path.relative_to(location.url))
        found = verify(location)
        assert [finding for finding in found if finding.path == key], (key, found)
        assert repair(location)
        assert verify(location) == []
        play(location, SPEC)
        assert open_study(location.url).fingerprint() == expected
        assert verify(location) == []


def test_every_object_that_is_lost_is_missed(whole, tmp_path) -> None:
    expected = open_study(whole.url).fingerprint()
    keys = [key for key in objects(whole) if not key.startswith(UNCHECKED) and key != "zarr.json"]
    for turn, key in enumerate(sorted(keys)[:: 1 if len(keys) < 50 else 3]):
        location = copy(whole, tmp_path / str(turn))
        (Path(location.url) / key).unlink()
        if key.startswith("ledger/0"):  # the next test
            continue
        assert [finding.path for finding in verify(location)] == [key]
        repair(location)
        assert verify(location) == []
        play(location, SPEC)
        assert open_study(location.url).fingerprint() == expected


@pytest.mark.parametrize("lost", ["ledger/000000.jsonl", "ledger"])
def test_without_its_ledger_a_study_is_not_begun_anew(whole, tmp_path, lost) -> None:
    location = copy(whole, tmp_path)
    path = Path(location.url, lost)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    before = objects(location)
    assert [(finding.path, finding.repairable) for finding in verify(location)] == [("ledger", False)]
    for attempt in (lambda: play(location, SPEC), lambda: repair(location)):
        with pytest.raises(CorruptionError, match="the ledger is gone"):
            attempt()
    assert {key for key in objects(location) if not key.startswith(UNCHECKED)} == {
        key for key in before if not key.startswith(UNCHECKED)
    }


def test_damage_names_its_trial(study, tmp_path) -> None:
    location = copy(study, tmp_path)
    folder = Path(location.url)
    flip(folder / "fields/ez/c/6/0/0", 40, 3)
    ledger = folder / "ledger/000000.jsonl"
    assert [finding.trials for finding in verify(location)] == [(6,)]
    with pytest.raises(CorruptionError, match="field ez of trial 6"):
        open_study(location.url).fields["ez"][6]
    data = ledger.read_bytes()
    flip(ledger, data.index(b'"metrics"', data.index(b'"id":"trial/9"')) + 12, 2)
    assert [finding.trials for finding in verify(location)] == [(9,)]
    flip(folder / "status/c/0", 30, 1)
    assert "trial 9" in str(verify(location)[0])


def test_a_waiting_outcome_that_is_damaged_is_not_used(part, tmp_path) -> None:
    location = copy(part, tmp_path)

    play(location, SPEC, 16)
    record = Record.open(location, spec=SPEC, provenance={})
    from test_record import asked

    asked(record, SPEC, 4)
    outcomes = [run(SPEC, TrialSink(location, 24), number) for number in (16, 17)]
    record.close("interrupted")
    path = next(Path(location.url).glob("outcomes/00000017-*.jsonl"))
    flip(path, path.read_bytes().index(b"value") + 8, 1)
    assert [finding.trials for finding in verify(location)] == [(17,)]
    record = Record.open(location, spec=SPEC, provenance={})
    assert record.collect() == outcomes[:1]
    record.close("interrupted")


def test_a_damaged_ledger_stops_a_resume_before_anything_runs(part, tmp_path) -> None:
    location = copy(part, tmp_path)
    ledger = Path(location.url) / "ledger/000000.jsonl"
    flip(ledger, len(ledger.read_bytes()) // 2, 0)
    ran: list[int] = []
    with pytest.raises(CorruptionError, match="simopt verify --repair"):
        play(location, SPEC, None, ran.append)
    assert ran == []


def test_damaged_arrays_are_never_used_by_a_resume(whole, part, tmp_path) -> None:
    location = copy(part, tmp_path)
    for name in ("status/c/0", "metrics/c/0/0", "parameters/c/0/0", "digests/c/0/0/0"):
        flip(Path(location.url) / name, 25, 4)
    with pytest.raises(CorruptionError):
        _ = open_study(location.url).counts
    play(location, SPEC)
    assert open_study(location.url).fingerprint() == open_study(whole.url).fingerprint()
    assert verify(location) == []


def test_a_record_beyond_mending_costs_its_own_trial_only(whole, tmp_path) -> None:
    location = copy(whole, tmp_path)
    ledger = Path(location.url) / "ledger/000000.jsonl"
    data = ledger.read_bytes()
    at = data.index(b'"metrics"', data.index(b'"id":"trial/9"'))
    ledger.write_bytes(data[:at] + b"#" * 20 + data[at + 20 :])
    assert repair(location)[0].trials == (9,)
    assert verify(location) == []
    assert open_study(location.url).state == "interrupted"
    ran: list[int] = []
    play(location, SPEC, None, ran.append)
    assert ran == [9]
    assert open_study(location.url).fingerprint() == open_study(whole.url).fingerprint()


def test_where_more_is_lost_the_ledger_ends(whole, tmp_path) -> None:
    location = copy(whole, tmp_path)
    ledger = Path(location.url) / "ledger/000000.jsonl"
    data = ledger.read_bytes()
    at = data.index(b'"parameters"', data.index(b'"id":"generation/3"'))
    ledger.write_bytes(data[:at] + b"#" * 20 + data[at + 20 :])
    repair(location)
    assert verify(location) == []
    assert open_study(location.url).counts["total"] == 12
    ran: list[int] = []
    play(location, SPEC, None, ran.append)
    assert sorted(ran) == list(range(12, 24))
    assert open_study(location.url).fingerprint() == open_study(whole.url).fingerprint()


def test_a_ledger_whose_end_was_cut_off_is_missed(whole, tmp_path) -> None:
    location = copy(whole, tmp_path)
    ledger = Path(location.url) / "ledger/000000.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join(lines[:-6]))
    assert "its end is missing" in str(verify(location)[0])
    play(location, SPEC)
    assert open_study(location.url).fingerprint() == open_study(whole.url).fingerprint()
    assert verify(location) == []


def test_a_torn_last_line_is_no_damage(part, tmp_path) -> None:
    location = copy(part, tmp_path)
    ledger = Path(location.url) / "ledger/000000.jsonl"
    ledger.write_bytes(ledger.read_bytes()[:-40])
    assert [finding for finding in verify(location) if finding.path.startswith("ledger/0")] == []


def test_a_study_that_is_being_written_can_be_verified_but_not_repaired(part, tmp_path) -> None:
    location = copy(part, tmp_path)
    record = Record.open(location, spec=SPEC, provenance={})
    assert verify(location) == []
    flip(Path(location.url) / "fields/ez/c/6/0/0", 40, 3)
    assert [finding.trials for finding in verify(location)] == [(6,)]
    with pytest.raises(LeaseError):
        repair(location)
    record.close("interrupted")


def test_damage_is_repaired_wherever_it_is(make_location) -> None:
    location, undisturbed = make_location(), make_location()
    play(location, SPEC)
    play(undisturbed, SPEC)
    storage = location.storage()
    for key in ("fields/ez/c/6/0/0", "status/c/0", "ledger/000000.jsonl"):
        data = bytearray(storage.read(key))
        data[len(data) // 2] ^= 4
        storage.write(key, bytes(data))
    assert repair(location)
    assert verify(location) == []
    ran: list[int] = []
    play(location, SPEC, None, ran.append)
    assert ran == [6]
    again, expected = (open_study(each.url, each.options).fingerprint() for each in (location, undisturbed))
    assert again == expected


def test_nothing_there_is_no_study(tmp_path) -> None:
    with pytest.raises(StoreError, match="there is no study"):
        verify(StudyLocation(str(tmp_path / "nothing")))
