"""The public test classes hold for what we bring ourselves, and find what is wrong."""

import random

import pytest

from prefect_simopt.optimizers import make_optimizer, optimizer_from_state
from prefect_simopt.testing import OptimizerTests, SimulatorTests

WOBBLY = """
import os

def steady(x, context):
    return x + context.seed

def wobbly(x):
    return x + int.from_bytes(os.urandom(4), "big")

def empty(x):
    return float("nan") if x > 1 else x
"""


class TestPSO(OptimizerTests):
    def make(self, space, seed):
        return make_optimizer("pso", space, seed=seed)

    def restore(self, state):
        return optimizer_from_state(state)


class TestSobol(TestPSO):
    def make(self, space, seed):
        return make_optimizer("sobol", space, seed=seed)


@pytest.mark.slow
class TestCoating(SimulatorTests):
    simulator = {"entrypoint": "prefect_simopt.simulators.coating:simulate"}  # noqa: RUF012
    space = [{"name": "t1", "low": 20, "high": 300}, {"name": "t2", "low": 20, "high": 300}]  # noqa: RUF012
    points = [{"t1": 90.0, "t2": 120.0}, {"t1": 20.0, "t2": 300.0}]  # noqa: RUF012
    objectives = [{"metric": "reflectance"}]  # noqa: RUF012


@pytest.mark.parametrize(
    ("function", "test"),
    [
        ("wobbly", "test_the_same_point_and_seed_give_the_same"),
        ("empty", "test_points_are_completed_with_finite_metrics"),
    ],
)
def test_a_bad_simulator_is_found_out(tmp_path, monkeypatch, function, test):
    (tmp_path / "sims.py").write_text(WOBBLY)
    monkeypatch.chdir(tmp_path)

    def contract(name):
        parts = {"simulator": {"entrypoint": f"sims.py:{name}"}, "space": [{"name": "x", "low": 0, "high": 2}]}
        return type("Contract", (SimulatorTests,), {**parts, "points": [{"x": 0.5}, {"x": 1.5}]})()

    getattr(contract("steady"), test)(tmp_path / "good")
    with pytest.raises(AssertionError):
        getattr(contract(function), test)(tmp_path / "bad")


def test_a_bad_optimizer_is_found_out():
    class Forgetful(TestPSO):
        def restore(self, state):
            again = optimizer_from_state(state)
            again.ask(random.randint(1, 3))
            return again

    with pytest.raises(AssertionError):
        Forgetful().test_a_restored_one_goes_on_exactly()
