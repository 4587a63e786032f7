"""What the command line says to do next, and how much of a long answer fits into a line."""

import shlex
import sys

import pytest

from prefect_simopt.cli import main
from prefect_simopt.console import again
from prefect_simopt.summary import sentence


@pytest.mark.parametrize(
    "given", [["--new", "slow-2"], ["--new=slow-2"], ["--new"]], ids=["a name", "a name with =", "the next free one"]
)
def test_the_hint_goes_on_with_the_study_that_new_has_made(monkeypatch, given):
    monkeypatch.setattr(sys, "argv", ["simopt", "run", "my study.yaml", "--untracked", *given])
    words = shlex.split(again("slow-2"))
    assert words == ["simopt", "run", "my study.yaml", "--untracked", "--set", "name=slow-2"]


def test_a_name_that_is_taken_comes_with_the_command_that_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["init", "tube"]) == 0
    command = ["run", "tube/study.yaml", "--untracked", "--set", "budget.trials=3"]
    assert main([*command, "--new", "mine"]) == 0
    monkeypatch.setattr(sys, "argv", ["simopt", *command, "--new", "mine"])
    assert main([*command, "--new", "mine"]) == 2
    error = capsys.readouterr().err
    assert "--set name=mine" in error
    assert "Traceback" not in error


def test_a_line_names_a_dozen_of_many_parameters():
    summary = {
        "name": "wide", "state": "complete", "seconds": 1.0,
        "trials": {"complete": 1, "failed": 0, "cached": 0, "total": 1},
        "best": {"trial": 0, "parameters": {f"x{i}": 0.5 for i in range(200)}, "metrics": {"value": 1.0}},
    }  # fmt: skip
    line = sentence(summary)
    assert line.endswith("x11 = 0.5 and 188 more")
