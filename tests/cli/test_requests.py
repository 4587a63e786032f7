"""`simopt suggest`, `narrow`, `extend`, `pause`, `resume`: what they refuse, and what a running study makes of them."""

import json
import signal
import subprocess
import time

import pytest
from command_line import SIMOPT, tree

from prefect_simopt.api import load_study

SLOW = ["run", "study.yaml", "--untracked", "--json", "--set", "simulator.entrypoint=simulator.py:slow"]
STORED = "studies/bowl"
REFUSED = {
    "outside": (["suggest", STORED, "--param", "x=9", "y=0"], "x: is outside the space"),
    "missing": (["suggest", STORED, "--param", "x=1"], "y: is missing"),
    "unknown": (["suggest", STORED, "--param", "z=1"], "NAME=VALUE with a name of the space (x, y)"),
    "a second point": (["suggest", STORED, "--param", "x=1", "y=1", "x=2"], "points[1].y: is missing"),
    "no number": (["suggest", STORED, "--param", "x=one", "y=1"], "x: must be a number"),
    "no point": (["suggest", STORED], "no point to suggest"),
    "no file": (["suggest", STORED, "--file", "none.csv"], "cannot be read"),
    "a bad file": (["suggest", STORED, "--file", "bad.csv"], "as many values as the first one has names"),
    "a bad document": (["suggest", STORED, "--file", "bad.json"], "must hold a list of objects"),
    "wider": (["narrow", STORED, "--param", "x=-9:1"], "bounds may only get narrower; they are -5 to 5 now"),
    "turned round": (["narrow", STORED, "--param", "x=2:1"], "low must not be above high"),
    "no bounds": (["narrow", STORED], "nothing to narrow"),
    "no numbers": (["narrow", STORED, "--param", "x=a:b"], "needs numbers"),
    "twice": (["narrow", STORED, "--param", "x=0:1", "x=0:2"], "is given twice"),
    "fewer": (["extend", STORED, "--trials", "30"], "is 40 now and may only grow"),
    "unlimited": (["extend", STORED, "--wall-time", "30"], "is not limited"),
    "nothing": (["extend", STORED], "nothing to extend"),
    "too many": (["extend", STORED, "--trials", "1000000000"], "less than or equal to 100000000"),
    "no study": (["pause", "studies/none"], "there is no study"),
    "no command": (["suggest"], "STUDY"),
}


@pytest.fixture
def ended(simopt):
    """A study that has ended."""
    assert simopt("run", "study.yaml", "--untracked").code == 0
    return simopt


def test_what_cannot_be_done_is_refused_and_writes_nothing(ended, folder):
    (folder / "bad.csv").write_text("x,y\n1\n")
    (folder / "bad.json").write_text("[1, 2]")
    before = tree(folder)
    for name, (words, said) in REFUSED.items():
        answer = ended(*words)
        assert (answer.code, answer.out) == (2, ""), name
        assert said in answer.err, name
        assert "Traceback" not in answer.err, name
    assert tree(folder) == before


def test_requests_to_a_study_that_rests_are_done_when_it_is_run_again(ended, folder):
    (folder / "points.csv").write_text("x,y\n0.25,1\n0.5,2\n")
    (folder / "points.json").write_text(json.dumps([{"x": 0.75, "y": 3}]))
    answer = ended("suggest", STORED, "--file", "points.csv", "--json").json
    assert (answer["state"], answer["running"], answer["kind"]) == ("pending", False, "suggest")
    assert "simopt extend" in answer["message"]
    assert ended("suggest", STORED, "--file", "points.json").code == 0
    assert ended("narrow", STORED, "--param", "x=:2", "y=0:").code == 0
    wider = ended("narrow", STORED, "--param", "x=-5:3")  # than what is asked for already
    assert wider.code == 2
    assert ended("resume", STORED, "--json").json["state"] == "unchanged"
    assert ended("extend", STORED, "--trials", "56").code == 0
    assert "pending: " in ended("show", STORED).out
    assert ended("run", "study.yaml", "--untracked", "--json").json["trials"]["total"] == 56
    trials = load_study(STORED).trials[40:]
    assert trials["x"][:3].round(9).tolist() == [0.25, 0.5, 0.75]
    assert (trials["x"] <= 2).all()
    assert (trials["y"] >= 0).all()
    shown = ended("show", STORED, "--json").json
    assert [each["kind"] for each in shown["requests"]["applied"]] == ["suggest", "suggest", "narrow", "extend"]
    assert shown["requests"]["pending"] == []
    assert "this study is finished" in ended("run", "study.yaml", "--untracked").err
    assert ended("verify", STORED).code == 0


def test_a_cost_is_extended(simopt, folder):
    words = ["run", "study.yaml", "--untracked", "--json", "--set", "budget={cost: 16}"]
    assert simopt(*words).json["trials"]["total"] == 16
    assert "--cost C` makes room" in simopt("suggest", STORED, "--param", "x=1", "y=1").out
    assert "is 16 now and may only grow" in simopt("extend", STORED, "--cost", "9").err
    assert "a cost of 32" in simopt("extend", STORED, "--cost", "32").out
    assert simopt(*words).json["trials"]["total"] == 32


def told(folder):
    path = folder / STORED / "ledger/000000.jsonl"
    return path.read_bytes().count(b'"activity":"trial"') if path.exists() else 0


def wait_for(condition, process):
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def finish(folder, store):
    words = [*SLOW, "--store", store, "--set", "budget.trials=120"]
    done = subprocess.run([SIMOPT, *words], cwd=folder, capture_output=True, text=True, check=True, timeout=150)
    return json.loads(done.stdout)


@pytest.mark.parametrize("wait", [0.0, 0.2, 1.5])
def test_killed_before_and_after_a_request_is_taken_up(start, simopt, folder, wait):
    """Whatever had been taken up is done again by a replay, and what had not is done by the next run."""
    process = start(*SLOW, "--set", "budget.trials=120")
    wait_for(lambda: told(folder) >= 20, process)
    assert simopt("suggest", STORED, "--param", "x=1.5", "y=0.5").code == 0
    assert simopt("narrow", STORED, "--param", "y=-1:1").code == 0
    time.sleep(wait)
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run(["cp", "-r", "studies", "replayed"], cwd=folder, check=True)
    subprocess.run(["rm", "-r", "replayed/bowl/checkpoints"], cwd=folder, check=True)
    answers = [finish(folder, store) for store in ("studies", "replayed")]
    assert answers[0]["fingerprint"] == answers[1]["fingerprint"]
    assert answers[0]["trials"]["complete"] == 120
    study = load_study(STORED)
    shown = simopt("show", STORED, "--json").json["requests"]
    assert [each["kind"] for each in shown["applied"]] == ["suggest", "narrow"]
    trials = study.trials
    given = trials.index[(trials["x"].round(9) == 1.5) & (trials["y"].round(9) == 0.5)]
    assert len(given) == 1
    after = trials[trials["generation"] >= trials["generation"][given[0]]]
    assert after["y"].between(-1, 1).all()
    assert simopt("verify", STORED).code == 0


def test_a_pause_holds_a_running_study_until_it_is_resumed(start, simopt, folder):
    process = start(*SLOW, "--set", "budget.trials=120")
    wait_for(lambda: told(folder) >= 10, process)
    assert simopt("pause", STORED, "--json").json["running"]
    wait_for(lambda: "paused" in simopt("show", STORED, "--json").json, process)
    before = simopt("show", STORED, "--json").json
    assert before["state"] == "running"
    assert "is paused already" in simopt("pause", STORED).out
    time.sleep(1.5)
    assert simopt("show", STORED, "--json").json["trials"] == before["trials"]
    assert "paused by" in simopt("show", STORED).out
    assert simopt("resume", STORED).code == 0
    out, err = process.communicate(timeout=150)
    assert process.returncode == 0
    assert json.loads(out)["trials"]["total"] == 120
    assert "simopt resume" in err


def test_a_paused_study_can_be_interrupted_and_stays_paused(start, simopt, folder):
    assert simopt("run", "study.yaml", "--untracked", "--set", "budget.trials=16").code == 0
    simopt("pause", STORED)
    process = start(*SLOW, "--set", "simulator.entrypoint=simulator.py:bowl")
    wait_for(lambda: "paused" in simopt("show", STORED, "--json").json, process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert told(folder) == 16
    assert simopt("resume", STORED).code == 0
    assert simopt("run", "study.yaml", "--untracked", "--json").json["trials"]["total"] == 40
