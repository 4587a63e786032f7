"""Signals, and two runs of one study: real processes."""

import json
import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest
from command_line import SIMOPT

from prefect_simopt.simulators.processes import descendants

SLOW = ["run", "study.yaml", "--untracked", "--json", "--set", "simulator.entrypoint=simulator.py:slow"]


def ledger(folder):
    path = folder / "studies/bowl/ledger/000000.jsonl"
    return path.read_bytes() if path.exists() else b""


def wait_for(condition, process):
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def ended(pids):
    """Whether none of them runs any more; those that nobody has reaped yet have ended too."""
    states = [stat.read_text().rpartition(")")[2].split()[0] for pid in pids
              if (stat := Path(f"/proc/{pid}/stat")).exists()]  # fmt: skip
    return set(states) <= {"Z"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_stops_resumably(start, folder, number):
    process = start(*SLOW)
    wait_for(lambda: b'"id":"trial/3"' in ledger(folder), process)
    family = descendants([process.pid])
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "once more ends at once" in err
    assert "Traceback" not in err
    assert ended(family)
    told = ledger(folder).count(b'"activity":"trial"')
    assert 0 < told < 40
    assert not list((folder / "studies/bowl/outcomes").glob("*.jsonl"))

    command = err.rpartition("To go on: ")[2].strip()  # the command that the message names
    words = shlex.split(command)
    assert words[0] == "simopt"
    resumed = subprocess.run([SIMOPT, *words[1:]], cwd=folder, capture_output=True, text=True, check=True, timeout=100)
    whole = subprocess.run(
        [SIMOPT, *SLOW, "--store", "whole"], cwd=folder, capture_output=True, text=True, check=True, timeout=100
    )
    assert json.loads(resumed.stdout)["fingerprint"] == json.loads(whole.stdout)["fingerprint"]
    trials = [line for line in ledger(folder).splitlines() if b'"activity":"trial"' in line]
    assert len(trials) == 40


def test_a_running_simulator_is_given_time_to_end(start, folder):
    process = start("run", "study.yaml", "--untracked", "--set", "simulator.entrypoint=simulator.py:slower")
    wait_for((folder / "started").exists, process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert ledger(folder).count(b'"activity":"trial"') >= 1


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_second_signal_ends_at_once(start, folder, first):
    (folder / "simulator.py").write_text("import time\ndef bowl(x, y):\n    time.sleep(600)\n")
    process = start("run", "study.yaml", "--untracked", "--set", "compute.timeout=900")
    wait_for(lambda: b'"activity":"generation"' in ledger(folder), process)
    family = descendants([process.pid])
    process.send_signal(first)
    assert "once more" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert ended(family)


def test_a_signal_before_anything_runs(start, folder):
    (folder / "simulator.py").write_text("import time\nopen('importing', 'w')\ntime.sleep(600)\ndef bowl(x, y): ...\n")
    process = start("run", "study.yaml", "--untracked")
    wait_for((folder / "importing").exists, process)
    family = descendants([process.pid])
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted. To go on: simopt run study.yaml --untracked" in err
    assert "Traceback" not in err
    assert not (folder / "studies").exists()
    assert ended(family)


def test_a_second_run_is_told_who_holds_the_study(start, simopt, folder):
    command = ["run", "study.yaml", "--untracked", "--set", "simulator.entrypoint=simulator.py:slower"]
    holder = start(*command)
    wait_for(lambda: b'"activity":"generation"' in ledger(folder), holder)
    second = simopt(*command)
    assert second.code == 2
    assert f"process {holder.pid} of " in second.err
    assert ", since 20" in second.err
    assert simopt("show", "studies/bowl", "--json").json["state"] == "running"


def test_a_dead_holders_place_is_taken_at_once(start, folder):
    command = ["run", "study.yaml", "--untracked", "--set", "simulator.entrypoint=simulator.py:slower"]
    holder = start(*command)
    wait_for(lambda: b'"activity":"generation"' in ledger(folder), holder)
    os.kill(holder.pid, signal.SIGKILL)
    heir = start(*command)  # the killed one has not even been waited for
    wait_for(lambda: ledger(folder).count(b'"wasAssociatedWith"') == 2, heir)
    heir.send_signal(signal.SIGTERM)
    heir.communicate(timeout=60)
    assert heir.returncode == 130
