"""Whatever is killed: what ended is in the store, what was killed is said to be, and no process is left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prefect_simopt.simulators import processes
from prefect_simopt.trial import Reason, Run, Status

SLEEPER = """
import os, subprocess, time
def simulate(x):
    if x == 1:
        subprocess.Popen(["sleep", "600"], start_new_session=True)
        open({flag!r}, "w").close()
        time.sleep({seconds})
    return x
"""


def until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def hosts(compute):
    return [host for worker in compute._alive.values() for host in processes.children(worker.pid)]


def supervisors(compute):
    return [worker.pid for worker in compute._alive.values()]


def kill_both(compute):
    """Supervisors stand still meanwhile, or one would tell of its host's death and begin the next run."""
    for pid in supervisors(compute):
        os.kill(pid, signal.SIGSTOP)
    for pid in hosts(compute) + supervisors(compute):
        os.kill(pid, signal.SIGKILL)


KILLS = {
    "host": lambda compute: [os.kill(pid, signal.SIGKILL) for pid in hosts(compute)],
    "host's group": lambda compute: [os.killpg(pid, signal.SIGKILL) for pid in hosts(compute)],
    "supervisor": lambda compute: [os.kill(pid, signal.SIGKILL) for pid in supervisors(compute)],
    "supervisor's group": lambda compute: [os.killpg(pid, signal.SIGKILL) for pid in supervisors(compute)],
    "both": kill_both,
}


@pytest.mark.parametrize("victim", KILLS)
@pytest.mark.parametrize("kind", ["python", "command"])
def test_killed_from_outside(place, kind, victim):
    flag = place.path / "flag"
    source = SLEEPER.format(flag=str(flag), seconds=60)
    if kind == "python":
        simulator = place.python(source)
    else:
        source += "import json, sys\njson.dump({'value': simulate(float(sys.argv[1]))}, open('metrics.json', 'w'))\n"
        simulator = place.command(source, ["{python}", "program.py", "{x}"])
    compute = place.start(simulator)
    future = compute.submit([Run(trial, {"x": float(trial)}, seed=1) for trial in range(3)])
    until(lambda: flag.exists() and len(place.outcomes()) == 1)
    KILLS[victim](compute)
    outcomes = future.result(30)
    assert [outcome.status for outcome in outcomes] == [Status.COMPLETE, Status.FAILED, Status.COMPLETE]
    assert outcomes[1].reason is Reason.KILLED
    assert place.outcomes() == {(each.trial, 0, 0): each for each in outcomes}


def test_every_run_ends_when_workers_are_killed_again_and_again(place):
    source = "import time\ndef simulate(x):\n    time.sleep(0.0005)\n    return x\n"
    compute = place.start(place.python(source), workers=2, capacity=4000)
    futures = [compute.submit([Run(20 * k + j, {"x": 1.0}, seed=1) for j in range(20)]) for k in range(150)]
    for place_of_victim in (0, 1, 0):
        time.sleep(0.15)
        os.kill(compute._alive[place_of_victim].pid, signal.SIGKILL)
    outcomes = [outcome for future in futures for outcome in future.result(60)]
    assert [outcome.trial for outcome in outcomes] == list(range(3000))
    failed = [outcome for outcome in outcomes if outcome.status is Status.FAILED]
    assert len(failed) <= 3
    assert {outcome.reason for outcome in failed} <= {Reason.KILLED}


class Flow:
    """A process that runs a study's simulators, to be killed."""

    def __init__(self, path, kind, seconds, timeout):
        self.path = path
        script = str(Path(__file__).parent / "orphans.py")
        self.process = subprocess.Popen(
            [sys.executable, script, kind, str(path), str(seconds), str(timeout)], stdout=subprocess.PIPE, text=True
        )
        words = self.process.stdout.readline().split()
        assert words[0] == "submitted"
        self.supervisors = [int(word) for word in words[1:]]

    def log(self):
        """Starts and ends, as the simulators themselves saw them."""
        log = self.path / "log"
        lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
        return {word: [int(x) for each, x in lines if each == word] for word in ("start", "end")}

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.mark.parametrize("kind", ["python", "command"])
@pytest.mark.parametrize(("seconds", "starts"), [(0.7, 2), (0.002, 30)])
def test_orphans_finish_and_write_their_outcome(place, kind, seconds, starts, monkeypatch):
    flow = Flow(place.path, kind, seconds, 30)
    until(lambda: len(flow.log()["start"]) >= starts)
    flow.kill()
    at_death = flow.log()
    until(lambda: not processes.marked("SIMOPT_TEST", os.environ["SIMOPT_TEST"]))
    log = flow.log()
    assert sorted(log["end"]) == sorted(log["start"])
    assert len(log["start"]) <= len(at_death["start"]) + 4  # a worker may have been about to begin its next one
    assert sorted(key[0] for key in place.outcomes()) == sorted(log["end"])
    assert not list((place.path / "study").rglob("tmp/*"))


@pytest.mark.parametrize("kind", ["python", "command"])
def test_orphans_end_at_their_time_limit(place, kind):
    flow = Flow(place.path, kind, 600, 1.5)
    until(lambda: len(flow.log()["start"]) >= 2)
    flow.kill()
    until(lambda: not processes.marked("SIMOPT_TEST", os.environ["SIMOPT_TEST"]))
    found = place.outcomes()
    assert {outcome.reason for outcome in found.values()} == {Reason.TIMEOUT}
    assert sorted(key[0] for key in found) == sorted(flow.log()["start"])


@pytest.mark.parametrize("kind", ["python", "command"])
def test_flow_and_supervisors_killed_together(place, kind):
    flow = Flow(place.path, kind, 0.05, 30)
    until(lambda: len(flow.log()["end"]) >= 4)
    for pid in [flow.process.pid, *flow.supervisors]:
        os.kill(pid, signal.SIGKILL)
    flow.kill()
    mark = os.environ["SIMOPT_TEST"]
    until(lambda: all(b"sleep" in _command(pid) for pid in processes.marked("SIMOPT_TEST", mark)))
    for pid in processes.marked("SIMOPT_TEST", mark):  # what a simulator started in a session of its own: see the docs
        os.kill(pid, signal.SIGKILL)
    log = flow.log()
    assert {key[0] for key in place.outcomes()} >= set(log["end"][:-2])


def _command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() or b"sleep"
    except OSError:
        return b"sleep"
