"""Runs that a killed flow leaves behind: they end, what they found is used, and they spoil nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from prefect_simopt.simulators.processes import marked

SIMOPT = str(Path(sys.executable).with_name("simopt"))
SIMULATOR = """\
import os, time
import numpy as np
from prefect_simopt import Result

def noted(x):
    with open("calls", "a") as file:
        file.write(f"{x!r}\\n")
        first = file.tell() < 30
    while first and not os.path.exists("go"):
        time.sleep(0.01)
    return Result({"value": x}, {"noise": np.frombuffer(os.urandom(8000))})
"""


@pytest.fixture
def study(tmp_path):
    document = {
        "name": "noise",
        "simulator": {"entrypoint": "simulator.py:noted"},
        "space": [{"name": "x", "low": 0, "high": 1}],
        "optimizer": "random",
        "budget": {"trials": 6},
        "compute": {"workers": 1, "timeout": 60},
        "cache": False,
    }
    (tmp_path / "simulator.py").write_text(SIMULATOR)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(document))
    return tmp_path


def run(folder, mark="none"):
    command = [SIMOPT, "run", "study.yaml", "--untracked", "--json"]
    return subprocess.Popen(
        command, cwd=folder, env={**os.environ, "SIMOPT_ORPHANS": mark}, stdout=subprocess.DEVNULL, text=True
    )


def wait_for(condition, seconds=90):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def kill_in_first_run(folder):
    """A flow is killed while its first run is in progress."""
    flow = run(folder, mark=str(folder))
    wait_for((folder / "calls").exists)
    time.sleep(0.05)
    flow.send_signal(signal.SIGKILL)
    flow.wait()


def verify(folder):
    answer = subprocess.run(
        [SIMOPT, "verify", "studies/noise"], cwd=folder, capture_output=True, text=True, check=False
    )
    return answer.returncode, answer.stdout + answer.stderr


def test_what_an_orphan_found_is_used(study):
    kill_in_first_run(study)
    (study / "go").touch()
    wait_for(lambda: not marked("SIMOPT_ORPHANS", str(study)))
    assert run(study).wait() == 0
    calls = (study / "calls").read_text().splitlines()
    assert len(calls) == len(set(calls)) == 6
    assert verify(study)[0] == 0


def test_an_orphan_that_ends_late_spoils_nothing(study):
    """The run is done again by the next flow before the orphan ends; each would give the trial another field."""
    kill_in_first_run(study)
    assert run(study).wait() == 0
    assert marked("SIMOPT_ORPHANS", str(study))
    (study / "go").touch()
    wait_for(lambda: not marked("SIMOPT_ORPHANS", str(study)))
    assert verify(study) == (0, "noise: every digest and the ledger's chain are as written\n")
