"""The example's program against the textbook, and its study's simulator as the spec has it."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import yaml

from prefect_simopt.simulators.config import CommandSimulator
from prefect_simopt.trial import Run

FOLDER = Path(__file__).parents[2] / "examples" / "command"


def test_a_uniform_beam_bends_as_the_textbook_says():
    beam = runpy.run_path(str(FOLDER / "beam.py"))
    deflection = beam["solve"](1000.0, np.full(10, 50.0), 20.0, 210e3, 2000.0)
    inertia = 20.0 * 50.0**3 / 12
    x = np.linspace(0, 1000.0, 11)
    assert deflection == pytest.approx(2000.0 * x**2 * (3 * 1000.0 - x) / (6 * 210e3 * inertia), rel=1e-9)


def test_the_example_runs(place):
    document = yaml.safe_load((FOLDER / "study.yaml").read_text())
    simulator = CommandSimulator(**document["simulator"], directory=str(FOLDER))
    names = [parameter["name"] for parameter in document["space"]]
    compute = place.start(simulator, names=names)
    parameters = {"root": 50.0, "tip": 50.0, "width": 20.0, "material": "steel"}
    outcome = compute.submit([Run(0, parameters, seed=1)]).result(60)[0]
    assert outcome.metrics == pytest.approx(
        {"mass": 7.85, "sag": 2000 * 1000**3 / (3 * 210e3 * 20 * 50**3 / 12), "stress": 238.8}
    )
    assert list(outcome.fields) == ["deflection"]
