"""The quadratic model: its regression, its minimizers, what it keeps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_simopt.optimizers.lattice import Lattice
from prefect_simopt.optimizers.model import QuadraticModel, trust_region_step
from prefect_simopt.space import Categorical, Float, Int, Space

CUBE = Space([Float(f"x{i}", 0, 1) for i in range(4)])
MIXED = Space([*CUBE.parameters, Int("i", 0, 1), Categorical("c", ["a", "b"])])
CENTER = np.array([0.3, 0.6, 0.5, 0.4])


def bowl(x: np.ndarray) -> np.ndarray:
    """A rotated, ill-conditioned quadratic with its minimum at CENTER."""
    away = x[:, :4] - CENTER
    return (away**2 * [1, 10, 100, 1000]).sum(axis=1) + 5 * away[:, 0] * away[:, 1]


def taught(space: Space, n: int, *, violations: np.ndarray | None = None, noise: float = 0.0) -> QuadraticModel:
    rng = np.random.default_rng(3)
    model = QuadraticModel(Lattice(space), 16, 0.2)
    x = space.snap(rng.random((n, space.dimensions)))
    values = bowl(x) * (1 + noise * rng.standard_normal(n))
    for part in np.array_split(np.arange(n), n // 16):
        model.learn(part, x[part], values[part], np.zeros(len(part)) if violations is None else violations[part])
    return model


def suggest(model: QuadraticModel, n: int) -> np.ndarray:
    return model.suggest(n, np.random.default_rng(0))


def test_the_minimum_of_a_quadratic_is_found_at_once() -> None:
    model = taught(CUBE, 160)
    model._radius = 3.0
    assert np.abs(suggest(model, 1)[0] - CENTER).max() < 1e-4


def test_noise_moves_it_little() -> None:
    model = taught(CUBE, 160, noise=0.1)
    model._radius = 3.0
    assert np.abs(suggest(model, 1)[0] - CENTER)[1:].max() < 0.2
    assert bowl(suggest(model, 1))[0] < np.sort(bowl(model._x))[3]


def test_too_few_trials_give_no_model() -> None:
    model = QuadraticModel(Lattice(CUBE), 16, 0.2)
    x = np.random.default_rng(0).random((9, 4))
    model.learn(np.arange(9), x, bowl(x), np.zeros(9))
    assert model.wanted(1) == 0
    assert len(suggest(model, 2)) == 0


def test_discrete_coordinates_stay_those_of_the_best_trial() -> None:
    model = taught(MIXED, 400)
    best = model._x[np.argmin(model._values)]
    points = suggest(model, 4)
    assert len(points) == 4
    assert (points[:, 4:] == best[4:]).all()
    assert (points[:, :4] != best[:4]).any()


def test_nothing_but_discrete_coordinates_is_no_place_for_a_model() -> None:
    model = QuadraticModel(Lattice(Space([Int("i", 0, 9)])), 16, 0.2)
    model.learn(np.arange(4), np.full((4, 1), 0.55), np.arange(4.0), np.zeros(4))
    assert model.wanted(1) == 0


def test_infeasible_and_failed_trials_are_left_out() -> None:
    rng, violations = np.random.default_rng(1), np.zeros(160)
    violations[rng.random(160) < 0.3] = 1.0
    model = taught(CUBE, 160, violations=violations)
    model._values[model._violations > 0] = -1e9
    model._radius = 3.0
    assert np.abs(suggest(model, 1)[0] - CENTER).max() < 1e-4


@pytest.mark.parametrize("values", [np.zeros(64), np.full(64, np.inf), np.linspace(-1, 1, 64) * 1.7e308])
def test_values_that_say_nothing_give_no_points_and_no_warning(values: np.ndarray) -> None:
    model = QuadraticModel(Lattice(CUBE), 16, 0.2)
    model.learn(np.arange(64), np.random.default_rng(0).random((64, 4)), values, np.zeros(64))
    assert len(suggest(model, 2)) in (0, 2)


def test_the_same_point_over_and_over_gives_no_points() -> None:
    """Noise gives different values to trials that have converged to one place."""
    model, rng = taught(CUBE, 160), np.random.default_rng(2)
    model.learn(np.arange(200, 264), np.tile(CENTER, (64, 1)), -1 - rng.random(64), np.zeros(64))
    assert len(suggest(model, 2)) == 0


def test_what_is_kept_is_bounded_and_holds_the_best() -> None:
    model = taught(CUBE, 1600)
    assert len(model._x) == len(model._values) <= 3 * 15 + 32
    assert model._values.min() == bowl(np.random.default_rng(3).random((1600, 4))).min()


def test_forecasts_of_a_quadratic_are_ranked_rightly() -> None:
    model, rng = taught(CUBE, 160), np.random.default_rng(5)
    x = rng.random((16, 4))
    model.forecast(np.arange(500, 516), x, np.full(16, -1))
    assert not model.learn(np.arange(500, 516), x, bowl(x), np.zeros(16)).any()
    assert model.tau > 0.99


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=6), st.floats(0.01, 3))
def test_a_trust_region_step_beats_any_other_of_its_length(pairs: list[tuple[float, float]], radius: float) -> None:
    h, g = np.sort([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])
    step = trust_region_step(h, g, radius)
    assert np.sqrt(step @ step) <= radius * (1 + 1e-6)
    if abs(g[0]) < 1e-3 * max(
        1.0, np.abs(g).max()
    ):  # the hard case: any of its minimizers lies beyond what rounding finds
        return
    others = np.random.default_rng(0).standard_normal((200, len(g)))
    others *= radius * np.random.default_rng(1).random((200, 1)) / np.sqrt((others**2).sum(axis=1, keepdims=True))
    best = (others @ g + 0.5 * others**2 @ h).min()
    assert step @ g + 0.5 * step**2 @ h <= best + 1e-5 * (1 + abs(best))
