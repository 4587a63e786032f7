"""The S3 server is killed, slow, overloaded or gone, while a study runs on it."""

import json
import signal
import subprocess
import sys
import time
import uuid

import pytest
from lab import Lab, wait_for
from proxy import Proxy
from s3_server import S3Server

pytestmark = [pytest.mark.s3, pytest.mark.slow, pytest.mark.timeout(600)]
IMPATIENT = """\
import sys
from prefect_simopt.api import run_untracked
from prefect_simopt.errors import SimoptError
from prefect_simopt.specfile import load_spec
try:
    run_untracked(load_spec("study.yaml", ["store=" + sys.argv[1]]), options={"retry_seconds": 2})
except SimoptError as error:
    sys.exit(f"{type(error).__name__}, {error.begun}: {error}")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.kill()


@pytest.fixture(scope="module")
def fingerprint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return Lab(folder / "lab", **STUDY).fingerprint(folder / "store")


STUDY = {"budget": {"trials": 60}, "simulator": {"entrypoint": "simulators.py:slow"}}


@pytest.fixture
def lab(tmp_path, server):
    lab = Lab(tmp_path / "lab", **STUDY)
    reach(lab, server.port)
    return lab


@pytest.fixture
def store():
    return f"s3://lab/{uuid.uuid4().hex}"


def reach(lab, port):
    """The lab's studies find the server there."""
    lab.environment |= {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "testsecret",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }


def wait_for_trials(lab, process):
    """Until some have ended."""
    wait_for(lambda: (lab.folder / "calls").exists() and (lab.folder / "calls").stat().st_size > 30, process)


def survives(lab, process, fingerprint, store):
    code, out, errors = lab.ended(process)
    assert code == 0, errors
    assert json.loads(out)["fingerprint"] == fingerprint
    assert lab.verify(f"{store}/bowl") == ""


def test_killed_and_started_again(lab, server, store, fingerprint):
    process = lab.run(store)
    for _ in range(2):
        wait_for_trials(lab, process)
        (lab.folder / "calls").unlink()
        server.kill()
        time.sleep(1)
        server.start()
    survives(lab, process, fingerprint, store)


def test_slow(lab, server, store, fingerprint):
    process = lab.run(store)
    wait_for_trials(lab, process)
    server.process.send_signal(signal.SIGSTOP)
    time.sleep(5)
    server.process.send_signal(signal.SIGCONT)
    survives(lab, process, fingerprint, store)


@pytest.mark.parametrize("shares", [(0.1, 0.0), (0.0, 0.3), (0.05, 0.1)], ids=["dropped", "503", "both"])
def test_dropped_connections_and_503(lab, server, store, fingerprint, shares):
    proxy = Proxy(server.port)
    proxy.drops, proxy.refusals = shares
    reach(lab, proxy.port)
    process = lab.run(store)
    code, out, errors = lab.ended(process)
    proxy.close()
    assert code == 0, errors
    assert json.loads(out)["fingerprint"] == fingerprint
    assert proxy.dropped + proxy.refused > 3
    reach(lab, server.port)
    assert lab.verify(f"{store}/bowl") == ""


def test_gone_for_good(lab, server, store, fingerprint):
    (lab.folder / "impatient.py").write_text(IMPATIENT)
    process = subprocess.Popen(
        [sys.executable, "impatient.py", store], cwd=lab.folder, env=lab.environment, stderr=subprocess.PIPE, text=True
    )
    wait_for_trials(lab, process)
    server.kill()
    try:
        _, errors = process.communicate(timeout=200)
    finally:
        server.start()
    assert process.returncode == 1
    assert errors.startswith("StoreError, True: cannot ")
    assert "did not answer for 2 s" in errors
    assert "testsecret" not in errors
    assert lab.verify(f"{store}/bowl") == ""
    survives(lab, lab.run(store), fingerprint, store)
