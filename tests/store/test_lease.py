"""One writer a study: refused, taken over from the dead, and stopped when it was taken over from."""

import subprocess
import sys
import threading
import time

import orjson
import pytest

from prefect_simopt import lease as module
from prefect_simopt.errors import LeaseError
from prefect_simopt.lease import KEY, Lease, is_held
from prefect_simopt.storage import StudyLocation

HOLDER = """
import sys, orjson, time
from prefect_simopt.lease import Lease
from prefect_simopt.storage import StudyLocation
lease = Lease(StudyLocation.from_json(orjson.loads(sys.argv[1])).storage())
print("held", flush=True)
time.sleep(600)
"""


def start_holder(location: StudyLocation) -> subprocess.Popen:
    document = orjson.dumps(location.to_json()).decode()
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, document], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    return holder


def elsewhere(location: StudyLocation, **changes) -> None:
    """A lease held by a process of another machine."""
    storage = location.storage()
    holder = {
        "host": "far",
        "pid": 1,
        "started": "1",
        "machine": "far x y",
        "user": "eva",
        "since": "2025-01-01",
        "token": "t",
    }
    storage.write(KEY, orjson.dumps({**holder, "ttl": 0.6, "beat": 0, **changes}))


def test_a_second_holder_is_refused_until_the_first_lets_go(location: StudyLocation) -> None:
    first = Lease(location.storage())
    assert is_held(location.storage())
    with pytest.raises(LeaseError, match=r"process \d+ of \w+ on .*, since 20.*wait until that one has ended"):
        Lease(location.storage())
    first.check()
    first.release()
    first.release()
    assert not is_held(location.storage())
    Lease(location.storage()).release()


def test_a_killed_holder_is_replaced_at_once(location: StudyLocation) -> None:
    holder = start_holder(location)
    try:
        with pytest.raises(LeaseError, match=f"process {holder.pid} of"):
            Lease(location.storage())
        holder.kill()
        time.sleep(0.2)  # killed, and not waited for: a zombie still has its id
        assert not is_held(location.storage())
        started = time.monotonic()
        Lease(location.storage()).release()
        assert time.monotonic() - started < module.TTL / 2
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def test_an_id_that_was_given_to_another_process_is_no_holder(location: StudyLocation) -> None:
    lease = Lease(location.storage())
    document = orjson.loads(location.storage().read(KEY))
    lease.release()
    location.storage().write(KEY, orjson.dumps({**document, "started": "12345"}))
    Lease(location.storage()).release()


def test_a_holder_elsewhere_that_is_silent_is_replaced(location: StudyLocation) -> None:
    elsewhere(location)
    assert is_held(location.storage())
    started = time.monotonic()
    lease = Lease(location.storage())
    assert time.monotonic() - started >= 0.6
    lease.release()


def test_a_holder_elsewhere_that_lives_is_left_alone(location: StudyLocation) -> None:
    elsewhere(location, ttl=20)
    threading.Timer(0.3, elsewhere, [location], {"ttl": 20, "beat": 1}).start()
    with pytest.raises(LeaseError, match="process 1 of eva on far, since 2025-01-01"):
        Lease(location.storage())


@pytest.mark.parametrize("damaged", [b"\xff\x00", b'{"pid": "x", "ttl": "y", "machine": 3}', b"[]"])
def test_a_damaged_lease_is_a_holder_of_whom_nothing_is_known(location: StudyLocation, monkeypatch, damaged) -> None:
    monkeypatch.setattr(module, "TTL", 0.3)
    location.storage().write(KEY, damaged)
    assert module.is_held(location.storage())
    started = time.monotonic()
    Lease(location.storage()).release()
    assert time.monotonic() - started >= 0.3


def test_a_holder_finds_out_that_it_was_replaced(location: StudyLocation) -> None:
    lease = Lease(location.storage(), ttl=0.6)
    elsewhere(location, since="2025-02-02")
    time.sleep(0.4)
    with pytest.raises(LeaseError, match="since 2025-02-02"):
        lease.check()
    lease.release()
    assert b"2025-02-02" in location.storage().read(KEY)


def test_a_heartbeat_keeps_it(location: StudyLocation) -> None:
    lease = Lease(location.storage(), ttl=0.6)
    before = location.storage().read(KEY)
    time.sleep(0.5)
    assert location.storage().read(KEY) != before
    lease.check()
    lease.release()


@pytest.mark.s3
def test_a_holder_outlives_a_server_that_is_away_for_a_while(s3_server) -> None:
    location = StudyLocation("s3://lab/leased", {**s3_server.options, "retry_seconds": 0.2})
    lease = Lease(location.storage(), ttl=2)
    s3_server.kill()
    time.sleep(1)
    s3_server.start()
    lease.check()
    lease.release()


def test_clocks_of_the_wall_do_not_matter(location: StudyLocation, monkeypatch) -> None:
    lease = Lease(location.storage())
    monkeypatch.setattr(time, "time", lambda: 4e9)
    lease.check()
    with pytest.raises(LeaseError):
        Lease(location.storage())
    lease.release()
