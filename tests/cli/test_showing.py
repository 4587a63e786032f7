"""`simopt show`: a study, a trial, a store."""

import json

import numpy as np
import pytest

from prefect_simopt.cli import main
from prefect_simopt.outcomes import OutcomeSink
from prefect_simopt.record import Record
from prefect_simopt.specfile import load_spec
from prefect_simopt.storage import StudyLocation
from prefect_simopt.trial import Outcome, Status

SIMULATOR = """
def simulate(x):
    print(f"mesh of {x} cells")
    if x > 2:
        raise ValueError("tangled")
    return {"drag": x}
"""
STUDY = """
name: wing
simulator: {entrypoint: "wing.py:simulate"}
space: [{name: x, type: int, low: 0, high: 5}]
objectives: [{metric: drag}]
optimizer: grid
budget: {trials: 6}
compute: {workers: 1}
store: {url: studies}
"""


@pytest.fixture
def store(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wing.py").write_text(SIMULATOR)
    (tmp_path / "study.yaml").write_text(STUDY)
    assert main(["run", "study.yaml", "--untracked", "--set", "budget.failures=1"]) == 0
    capsys.readouterr()
    return tmp_path / "studies"


def test_a_trial_is_shown_with_what_it_printed(store, capsys):
    assert main(["show", "studies/wing", "--trial", "4"]) == 0
    shown = capsys.readouterr().out
    assert "status = failed" in shown
    assert "tangled" in shown
    assert "mesh of" in shown
    assert main(["show", "studies/wing", "--trial", "1", "--json"]) == 0
    trial = json.loads(capsys.readouterr().out)
    assert trial["metrics"] == {"drag": trial["parameters"]["x"]}
    assert trial["printed"] == f"mesh of {trial['parameters']['x']} cells\n"


def test_a_trial_that_is_not_there_is_refused(store, capsys):
    assert main(["show", "studies/wing", "--trial", "6"]) == 2
    assert "it has 6, from 0" in capsys.readouterr().err


def test_a_store_shows_its_studies(store, capsys):
    assert main(["show", "studies"]) == 0
    assert capsys.readouterr().out.startswith("wing: complete, 6 trials (3 complete, 3 failed)")


def test_what_waits_to_be_recorded_is_told_apart(store, capsys):
    location = StudyLocation(str(store / "other"))
    record = Record.open(location, spec=load_spec("study.yaml", ["name=other"]), provenance={})
    record.asked(0, [0, 1], np.array([[0.0], [1.0]]), [1, 2])
    OutcomeSink(location).put_outcomes([Outcome(1, Status.COMPLETE, metrics={"drag": 1.0})])
    record.close("interrupted")
    assert main(["show", "studies/other"]) == 0
    assert "complete runs that are not recorded yet: 1; the study's next run takes them up" in capsys.readouterr().out
    assert main(["show", "studies/other", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["waiting"], shown["trials"]["total"]) == (1, 0)


def test_a_folder_without_studies_is_neither(store, capsys):
    assert main(["show", "."]) == 2
    assert "there is no study at" in capsys.readouterr().err


def test_a_changed_simulator_is_told(store, capsys):
    (store.parent / "wing.py").write_text(SIMULATOR.replace("return {", "return 0 or {"))
    assert main(["run", "study.yaml", "--untracked", "--set", "budget.failures=1", "--set", "budget.trials=7"]) == 0
    capsys.readouterr()
    assert main(["show", "studies/wing"]) == 0
    assert "2 versions of the simulator" in capsys.readouterr().out
