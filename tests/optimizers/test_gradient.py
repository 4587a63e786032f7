"""Gradient descent: every property of an optimizer, with gradients and without, and that it descends."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from optimizer_contract import SPACES, OptimizerContract

from prefect_simopt.optimizers import dump_state, load_state, make_optimizer, optimizer_from_state
from prefect_simopt.optimizers.gradient import Gradient
from prefect_simopt.optimizers.lbfgs import newton_step
from prefect_simopt.optimizers.make import make_config
from prefect_simopt.space import Categorical, Float, Int, Space


class TestWithoutGradients(OptimizerContract):
    """They may be missing: all that is left then is to start again."""

    config = "gradient"


class Bowl(Gradient):
    """Is told the gradient of the bowl of the contract with every value, and of how far x[0] is above 0.8."""

    def tell(self, ids: Any, values: Any, violations: Any = None, gradients: Any = None) -> None:
        rows = [self._pending.get(key) for key in np.asarray(ids).ravel().tolist()]
        if rows and all(row is not None for row in rows):
            x = np.array(rows)
            above = np.zeros_like(x)
            above[:, 0] = x[:, 0] > 0.8
            gradients = np.stack([2 * (x - 0.7), above], axis=1)
        super().tell(ids, values, violations, gradients)


class _WithGradients(OptimizerContract):
    @pytest.fixture(autouse=True)
    def findable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))

    def make(self, space: Space, seed: int = 7, objectives: int = 1, batch: int = 16) -> Any:
        return Bowl(make_config(self.config), space, seed=seed, objectives=objectives, batch=batch)

    def test_objectives(self) -> None:
        with pytest.raises(ValueError, match="gradient takes one objective, not 2"):
            self.make(SPACES["mixed"], objectives=2)


class TestLBFGSB(_WithGradients):
    config: ClassVar = {"type": "gradient"}


class TestAdam(_WithGradients):
    config: ClassVar = {"type": "gradient", "method": "adam"}


def rosenbrock(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values and gradients at z, shape (n, d)."""
    rise, short = z[:, 1:] - z[:, :-1] ** 2, 1 - z[:, :-1]
    slope = np.zeros_like(z)
    slope[:, :-1] = -400 * z[:, :-1] * rise - 2 * short
    slope[:, 1:] += 200 * rise
    return (100 * rise**2 + short**2).sum(axis=1), slope


def searched(config: dict[str, Any], trials: int, d: int = 4, again: bool = False) -> float:
    """The best value on Rosenbrock's valley in [-5, 5]^d."""
    optimizer, best = make_optimizer({"type": "gradient", **config}, [Float(f"x{i}", -5, 5) for i in range(d)]), np.inf
    for _ in range(trials // optimizer.batch):
        ids, x = optimizer.ask(optimizer.batch)
        values, slopes = rosenbrock(10 * x - 5)
        optimizer.tell(ids, values, None, np.stack([10 * slopes, 0 * slopes], axis=1))
        best = min(best, values.min())
        if again:
            optimizer = optimizer_from_state(load_state(dump_state(optimizer.state())))
    return float(best)


def test_it_descends_a_valley() -> None:
    assert searched({}, 800) < 1e-12
    assert searched({"starts": 1}, 200) < 1e-6
    assert searched({"method": "adam"}, 1600) < 5


def test_it_descends_exactly_as_far_when_restored_after_every_tell() -> None:
    for config in ({}, {"method": "adam", "starts": 3}):
        assert searched(config, 480, again=True) == searched(config, 480)


def test_a_bound_holds_and_discrete_parameters_stay_with_their_start() -> None:
    space = Space([Float("x", 0, 1), Float("y", 0, 1), Int("n", 0, 9), Categorical("c", ["a", "b"])])
    optimizer = make_optimizer({"type": "gradient", "starts": 6}, space)
    ids, start = optimizer.ask(6)
    x = start
    for _ in range(8):  # the first value falls with x down to its bound, the second is least at 0.3
        values = x[:, 0] + (x[:, 1] - 0.3) ** 2
        slope = np.stack([np.ones(6), 2 * (x[:, 1] - 0.3), np.full(6, 7.0), np.full(6, -7.0)], axis=1)
        optimizer.tell(ids, values, None, np.stack([slope, 0 * slope], axis=1))
        best = x[np.argmin(values)]
        ids, x = optimizer.ask(6)
        assert ((x[:, 2:] == start[:, 2:]).all(axis=1) | (values < 1e-9)).all()
        if values.min() < 1e-12:
            break
    assert best[0] == 0.0
    assert best[1] == pytest.approx(0.3, abs=1e-6)


@pytest.mark.parametrize("method", ["lbfgsb", "adam"])
def test_the_penalty_leads_to_the_border_of_what_constraints_allow(method: str) -> None:
    """The least value is at (0, 0); allowed is x + y >= 1, given as how far a point is from it."""
    optimizer = make_optimizer({"type": "gradient", "method": method, "starts": 4}, [Float(n, 0, 1) for n in "xy"])
    best = np.inf
    for _ in range(60):
        ids, x = optimizer.ask(4)
        values, violations = (x**2).sum(axis=1), np.maximum(1 - x.sum(axis=1), 0.0)
        slopes = np.stack([2 * x, np.where(violations[:, None] > 0, -1.0, 0.0) * np.ones_like(x)], axis=1)
        optimizer.tell(ids, values, violations, slopes)
        best = min(best, np.where(violations == 0, values, np.inf).min())
    assert 0.5 - 1e-9 < best < 0.53


def test_relations_are_descended_along() -> None:
    space = Space([Float("x", 0, 1), Float("y", 0, 1)], ["x + y >= 1"])
    optimizer = make_optimizer({"type": "gradient", "starts": 4}, space)
    best = np.inf
    for _ in range(50):
        ids, x = optimizer.ask(4)
        values = x[:, 0] ** 2 + 2 * x[:, 1] ** 2
        optimizer.tell(ids, values, None, np.stack([x * [2.0, 4.0], 0 * x], axis=1))
        best = min(best, values.min())
    assert best == pytest.approx(2 / 3, rel=0.03)


@pytest.mark.parametrize("shape", [(2, 2), (2, 1, 2), (1, 2, 2), (2, 2, 3)])
def test_gradients_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    optimizer = make_optimizer("gradient", [Float("x", 0, 1), Float("y", 0, 1)])
    ids, _ = optimizer.ask(2)
    before = dump_state(optimizer.state())
    with pytest.raises(ValueError, match=r"gradients have shape .*; 2 ids need \(2, 2, 2\)"):
        optimizer.tell(ids, [1.0, 2.0], None, np.zeros(shape))
    assert dump_state(optimizer.state()) == before


def test_the_two_loop_recursion_is_the_inverse_of_what_the_pairs_saw() -> None:
    """With d pairs along the axes of a quadratic function it is Newton's step, whatever the order of magnitude."""
    hessian = np.diag([1.0, 100.0, 1e4])
    s = np.eye(3)[None] * 0.1
    g = np.array([[3.0, -2.0, 5.0]])
    p = newton_step(g, s, s @ hessian, np.ones((1, 3), dtype=bool))
    assert p == pytest.approx(-g @ np.linalg.inv(hessian))
    held = newton_step(g, s, s @ hessian, np.array([[True, False, True]]))
    assert held == pytest.approx(np.array([[-3.0, 0.0, -5e-4]]))
    assert not newton_step(g, 0 * s, 0 * s, np.ones((1, 3), dtype=bool)).any()
