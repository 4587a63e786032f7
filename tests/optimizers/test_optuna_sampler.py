"""Optuna's samplers by every property, and what is particular to them."""

import subprocess
import sys
from typing import Any, ClassVar

import numpy as np
import pytest
from optimizer_contract import SPACES, OptimizerContract, bowl

from prefect_simopt.errors import SpecError
from prefect_simopt.optimizers import dump_state, load_state, make_optimizer, optimizer_from_state
from prefect_simopt.space import Float, Space

PLANE = Space([Float("x", -5, 5), Float("y", -5, 5)])
SHORT: dict[str, Any] = {"tpe": {}, "cmaes": {}, "nsga2": {"population_size": 12}, "optuna.samplers:RandomSampler": {}}


class Contract(OptimizerContract):
    several_objectives = True

    @pytest.fixture(params=["mixed", pytest.param("conditional", marks=pytest.mark.slow)])
    def space(self, request: pytest.FixtureRequest) -> Space:
        return SPACES[request.param]

    @pytest.mark.slow  # a shorter form of it is below
    def test_state_goes_on_bit_for_bit_in_a_new_process_after_every_tell(self) -> None:
        super().test_state_goes_on_bit_for_bit_in_a_new_process_after_every_tell()

    def test_state_does_not_grow(self) -> None:
        """It does, as the docs say: by what is known of each trial."""
        optimizer, sizes = self.make(SPACES["continuous"]), []
        for _ in range(12):
            ids, x = optimizer.ask(16)
            optimizer.tell(ids, bowl(x))
            sizes.append(len(dump_state(optimizer.state())))
        assert sizes[-1] - sizes[5] < 6 * 16 * 200


class TestTPE(Contract):
    config: ClassVar = {"type": "optuna", "arguments": {"n_ei_candidates": 6}}


@pytest.mark.slow
class TestTPEInEverySpace(Contract):
    config: ClassVar = {"type": "optuna", "sampler": "tpe"}

    @pytest.fixture(params=SPACES)
    def space(self, request: pytest.FixtureRequest) -> Space:
        return SPACES[request.param]


@pytest.mark.slow
class TestNSGAII(Contract):
    config: ClassVar = {"type": "optuna", "sampler": "nsga2", "arguments": SHORT["nsga2"]}


@pytest.mark.slow
class TestCmaEs(Contract):
    config: ClassVar = {"type": "optuna", "sampler": "cmaes"}

    def test_objectives(self) -> None:
        with pytest.raises(SpecError, match="cmaes takes one objective, not 2"):
            self.make(PLANE, objectives=2)


@pytest.mark.slow
class TestGP(Contract):
    config: ClassVar = {"type": "optuna", "sampler": "gp"}

    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("torch", reason="several GB with CUDA, and no part of the extra")


def test_a_gaussian_process_without_torch_says_what_to_install() -> None:
    try:
        import torch  # noqa: F401
    except ImportError:
        with pytest.raises(SpecError, match="pip install torch") as caught:
            make_optimizer({"type": "optuna", "sampler": "gp"}, PLANE)
        assert caught.value.problems[0].path == "optimizer.sampler"
    else:
        pytest.skip("torch is installed")


@pytest.mark.parametrize("sampler", SHORT)
def test_every_sampler_goes_on_exactly_in_a_new_process(sampler: str) -> None:
    config = {"type": "optuna", "sampler": sampler, "arguments": SHORT[sampler]}
    optimizer = make_optimizer(config, SPACES["mixed"], seed=3, batch=6)
    for step in range(9):
        ids, x = optimizer.ask(4 + step % 3)
        values = bowl(x)
        values[step % 4 :: 4] = np.nan
        optimizer.tell(ids[1:], values[1:], np.maximum(x[1:, 0] - 0.8, 0))
    state = dump_state(optimizer.state())
    code = ("import sys; from prefect_simopt.optimizers import *\n"
            "again = optimizer_from_state(load_state(sys.stdin.buffer.read()))\n"
            "points = again.ask(7)[1].tobytes()\n"
            "sys.stdout.buffer.write(points + dump_state(again.state()))")  # fmt: skip
    child = subprocess.run([sys.executable, "-c", code], input=state, capture_output=True, check=True)
    assert child.stdout == optimizer.ask(7)[1].tobytes() + dump_state(optimizer.state())


@pytest.mark.parametrize(("sampler", "below"), [("tpe", 0.01), ("cmaes", 0.002)])
def test_it_searches(sampler: str, below: float) -> None:
    optimizer = make_optimizer({"type": "optuna", "sampler": sampler}, Space([Float(f"x{i}", 0, 1) for i in range(4)]))
    best = np.inf
    for step in range(16):
        ids, x = optimizer.ask(12)
        values = bowl(x)
        best = min(best, values.min())
        optimizer.tell(ids, values)
        if step % 5 == 2:  # as any time in a study
            optimizer = optimizer_from_state(load_state(dump_state(optimizer.state())))
    assert best < below


@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
def test_constraints_and_failures_are_avoided(sampler: str) -> None:
    """The value is best where it is forbidden, and where the simulator fails."""
    optimizer = make_optimizer({"type": "optuna", "sampler": sampler}, PLANE)
    allowed = []
    for _ in range(12):
        ids, x = optimizer.ask(12)
        values, violations = -x.sum(axis=1), np.maximum(x[:, 0] - 0.4, 0)
        values[x[:, 1] > 0.5] = np.nan
        optimizer.tell(ids, values, violations)
        allowed.append(np.mean((violations == 0) & ~np.isnan(values)))
    assert np.mean(allowed[-3:]) > 0.35  # of random points, a fifth


def test_optuna_is_imported_by_those_who_ask_for_it_only() -> None:
    code = ("import sys; from prefect_simopt.optimizers import make_optimizer\n"
            "make_optimizer('pso', [{'name': 'x', 'low': 0, 'high': 1}]).ask(4)\n"
            "sys.exit('optuna' in sys.modules)")  # fmt: skip
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_optuna_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SpecError, match=r"needs optuna.*pip install 'prefect-simopt\[optuna\]'"):
        make_optimizer("optuna", PLANE)


@pytest.mark.parametrize(("config", "path", "words"), [
    ({"arguments": {"candidates": 3}}, "optimizer.arguments", "unexpected keyword argument 'candidates'"),
    ({"sampler": "optuna.samplers:Nothing"}, "optimizer.sampler", "there is no sampler optuna.samplers:Nothing"),
    ({"sampler": "nowhere.at.all:Sampler"}, "optimizer.sampler", "No module named 'nowhere'"),
    ({"sampler": "bayes"}, "optimizer.sampler", "any sampler as module:Class"),
    ({"sampler": "cmaes", "arguments": {"with_margin": True}}, "optimizer.arguments", "with_margin"),
])  # fmt: skip
def test_a_wrong_configuration_is_refused(config: dict[str, Any], path: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        make_optimizer({"type": "optuna", **config}, PLANE)
    (problem,) = caught.value.problems
    assert problem.path == path
    assert words in f"{problem.message} {problem.value}"
