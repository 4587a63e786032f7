"""A study in a folder, and `simopt` as a user calls it."""

import os
import subprocess
import sys

import pytest
import yaml
from command_line import SIMOPT, SIMULATOR, STUDY, Answer

from prefect_simopt.cli import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a study in it."""
    here = tmp_path / "here"
    here.mkdir()
    (here / "simulator.py").write_text(SIMULATOR)
    (here / "study.yaml").write_text(yaml.safe_dump(STUDY))
    monkeypatch.chdir(here)
    return here


@pytest.fixture
def simopt(folder, capfd, monkeypatch):
    """`simopt` in this process."""

    def call(*words):
        words = [str(word) for word in words]
        monkeypatch.setattr(sys, "argv", ["simopt", *words])
        capfd.readouterr()
        try:
            code = main(words)
        except SystemExit as end:
            code = end.code
        return Answer(code, *capfd.readouterr())

    return call


@pytest.fixture
def start(folder):
    """`simopt` as a process of its own, left running."""
    started = []

    def call(*words):
        environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
        process = subprocess.Popen(
            [SIMOPT, *words], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        started.append(process)
        return process

    yield call
    for process in started:
        process.kill()
        process.communicate()
