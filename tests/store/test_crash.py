"""Whatever is killed, whenever: nothing that was finished is lost, nothing is run twice, the end is the same."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from play import Crash, CrashingLocation, make_spec, play

from prefect_simopt.errors import LeaseError
from prefect_simopt.record import Record
from prefect_simopt.storage import StudyLocation
from prefect_simopt.study import open_study
from prefect_simopt.trial import Outcome, Status
from prefect_simopt.verify import verify

SPEC = make_spec(16)


def fingerprint(location: StudyLocation) -> str:
    return open_study(location.url, location.options).fingerprint()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    location = StudyLocation(str(tmp_path_factory.mktemp("undisturbed") / "bowl"))
    play(location, SPEC)
    return fingerprint(location)


@pytest.mark.parametrize(
    "make_location", ["disk", pytest.param("s3", marks=[pytest.mark.s3, pytest.mark.slow])], indirect=True
)
def test_cut_off_before_every_single_change(make_location, expected: str) -> None:
    """On disk at each of its changes; on S3, where changes are slow, at some."""
    first = make_location()
    counted = CrashingLocation(first, 10**9)
    play(counted, SPEC)
    changes = 10**9 - counted.left[0]
    step = 1 if first.url.startswith("/") else 23
    for left in range(0, changes + 1, step):
        location = make_location()
        ran: list[int] = []
        cut_off(location, left, ran)
        play(location, SPEC, None, ran.append)
        assert fingerprint(location) == expected
        assert verify(location) == []
        assert sorted(ran) == list(range(16)), left


def cut_off(location: StudyLocation, left: int, ran: list[int]) -> None:
    """Run until the storage takes no further change; a run counts once its outcome is written."""
    cut = CrashingLocation(location, left)
    try:
        play(cut, SPEC, None, ran.append)
    except Crash:
        pass
    finally:
        release(location)


def release(location: StudyLocation) -> None:
    """What the end of a process does for its lease: here the process of the test lives on."""
    storage = location.storage()
    if (found := storage.read("lease/lease.json")) is not None:
        storage.write("lease/lease.json", orjson.dumps({**orjson.loads(found), "released": "now"}))


class KilledAgainAndAgain(RuleBasedStateMachine):
    """Runs of one study, each cut off after some changes, with looks at it in between."""

    make_location: Callable[[], StudyLocation]
    expected: str

    @initialize()
    def start(self) -> None:
        self.location = type(self).make_location()
        self.ran: list[int] = []
        self.told: set[int] = set()

    @rule(left=st.integers(0, 60))
    def run_until_cut_off(self, left: int) -> None:
        cut_off(self.location, left, self.ran)

    @rule()
    def run_to_the_end(self) -> None:
        play(self.location, SPEC, None, self.ran.append)
        assert fingerprint(self.location) == type(self).expected

    @invariant()
    def nothing_is_lost_or_run_twice(self) -> None:
        assert len(set(self.ran)) == len(self.ran)
        if self.location.storage().read("zarr.json") is None:
            return
        study = open_study(self.location.url, self.location.options)
        told = {number for number in range(16) if study.counts["total"] and number in study._told}
        assert told >= self.told
        self.told = told
        assert verify(self.location) == []


@pytest.mark.slow
@pytest.mark.parametrize("where", ["disk", pytest.param("s3", marks=pytest.mark.s3)])
def test_killed_again_and_again(where, tmp_path, expected, request) -> None:
    server = request.getfixturevalue("s3_server") if where == "s3" else None

    class Machine(KilledAgainAndAgain):
        count = 0

        @classmethod
        def make_location(cls) -> StudyLocation:
            cls.count += 1
            if server is None:
                return StudyLocation(str(tmp_path / str(cls.count) / "bowl"))
            return StudyLocation(f"s3://lab/machine-{tmp_path.name}-{cls.count}/bowl", server.options)

    Machine.expected = expected
    examples = 30 if server is None else 5
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=8,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
            database=None,
        ),
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_for_real_at_random_moments(make_location, tmp_path) -> None:
    """SIGKILL of the writing process; what it ran, it says itself, once the outcome was written."""
    spec, location, whole = make_spec(60), make_location(), StudyLocation(str(tmp_path / "whole" / "bowl"))
    play(whole, spec)
    kills = 30 if location.url.startswith("/") else 10
    command = [sys.executable, str(Path(__file__).with_name("killing.py")), orjson.dumps(location.to_json()).decode()]
    ended = subprocess.run([*command, "60", str(kills), "5"], capture_output=True, text=True, check=False)
    assert ended.stderr == ""
    result = orjson.loads(ended.stdout)
    assert result["killed"] > 0
    assert fingerprint(location) == fingerprint(whole)
    assert verify(location) == []
    ran = result["ran"]
    assert len(set(ran)) == len(ran)
    assert len(set(range(60)) - set(ran)) <= kills  # killed between the outcome and saying so


def test_a_writer_without_a_lease_stops(location: StudyLocation) -> None:
    record = Record.open(location, spec=SPEC, provenance={}, lease_ttl=0.4)
    storage = location.storage()
    holder = orjson.loads(storage.read("lease/lease.json"))
    storage.write("lease/lease.json", orjson.dumps({**holder, "token": "another", "host": "far", "machine": "far"}))
    time.sleep(0.3)
    before = storage.read("ledger/000000.jsonl")
    failed = Outcome(0, Status.FAILED)
    for write in (lambda: record.attempted(failed), lambda: record.save_checkpoint(b"1"), lambda: record.close("x")):
        with pytest.raises(LeaseError, match="on far"):
            write()
    assert storage.read("ledger/000000.jsonl") == before
