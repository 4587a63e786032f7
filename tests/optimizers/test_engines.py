"""What is particular to each optimizer: its equations, its sequence, its order."""

import itertools
from typing import Any

import numpy as np
import pytest
from scipy.stats import qmc

from prefect_simopt.errors import SpecError
from prefect_simopt.optimizers import make_optimizer
from prefect_simopt.space import Categorical, Float, Int, Space

PLANE = Space([Float("x", -5, 5), Float("y", -5, 5)])
SWARM = {"type": "pso", "model": False, "differential": 0}
GENES = {"type": "ga", "model": False, "differential": 0}
WALKERS = {"type": "sa", "model": False, "resampling": 0, "population": 10}


def bowl(x: np.ndarray) -> np.ndarray:
    return ((x - 0.7) ** 2).sum(axis=1)


def generation(optimizer: Any, n: int, f: Any = bowl) -> tuple[np.ndarray, np.ndarray]:
    ids, x = optimizer.ask(n)
    values = f(x)
    optimizer.tell(ids, values)
    return x, values


def test_particles_without_pulls_fly_straight_on_and_slow_down() -> None:
    optimizer = make_optimizer({**SWARM, "population": 8, "cognitive": 0, "social": 0, "inertia": 0.5}, PLANE)
    x = [generation(optimizer, 8)[0] for _ in range(5)]
    inner = np.all([(each > 0) & (each < 1) for each in x], axis=0)  # a particle at a bound stops
    assert inner.sum() > 8
    for before, now, after in zip(x, x[1:], x[2:], strict=False):
        assert np.allclose((after - now)[inner], 0.5 * (now - before)[inner], atol=1e-12)  # (1) and (3)


def test_particles_are_pulled_between_the_best_points() -> None:
    config = {**SWARM, "population": 8, "cognitive": 0, "social": 1, "inertia": 0, "velocity": 1}
    optimizer = make_optimizer(config, PLANE)
    x, values = generation(optimizer, 8)
    moved, _ = generation(optimizer, 8)
    leader = x[np.argmin(values)]
    low, high = np.minimum(x, leader), np.maximum(x, leader)
    others = np.arange(8) != np.argmin(values)
    assert ((moved >= low) & (moved <= high))[others].all()  # (1) with r2 in [0, 1)


def test_velocity_is_clamped() -> None:
    optimizer = make_optimizer({**SWARM, "population": 20, "velocity": 0.05, "social": 4}, PLANE)
    x = [generation(optimizer, 20)[0] for _ in range(6)]
    steps = np.abs(np.diff(x, axis=0))
    assert steps.max() <= 0.05 + 1e-12  # (2)
    assert steps.max() > 0.0499


def test_a_particle_keeps_its_best_and_its_place_through_failures() -> None:
    optimizer = make_optimizer({**SWARM, "population": 4}, PLANE)
    x, _ = generation(optimizer, 4)
    ids, failed = optimizer.ask(4)
    optimizer.tell(ids, np.full(4, np.nan))
    optimizer.ask(0)
    memory = optimizer.state()["memory"]
    assert (memory["best_x"] == x).all()
    assert (memory["x"] == failed).all()


def test_crossover_keeps_the_mean_and_half_of_the_coordinates() -> None:
    """Of parents at 0.4 and 0.6 in every coordinate: children lie around either, evenly."""
    space = Space([Float(f"x{i}", 0, 1) for i in range(50)])
    config = {**GENES, "population": 2, "mutation": 0, "crossover": 1, "tournament": 1, "crossover_eta": 15}
    optimizer = make_optimizer(config, space)
    optimizer.ask(2)
    state = optimizer.state()
    state["memory"] |= {"x": np.array([[0.4] * 50, [0.6] * 50]), "values": np.zeros(2), "violations": np.zeros(2)}
    state["memory"]["succeeded"] = True
    children = type(optimizer).from_state(state).ask(4000)[1]
    changed = (np.abs(children - 0.4) > 1e-9) & (np.abs(children - 0.6) > 1e-9)
    crossed = children[changed.any(axis=1)]
    assert abs(children.mean() - 0.5) < 0.01
    assert abs(changed[changed.any(axis=1)].mean() - 0.5) < 0.02
    spread = np.minimum(np.abs(crossed - 0.4), np.abs(crossed - 0.6))
    assert np.median(spread[spread > 1e-9]) < 0.01  # (1): eta 15 keeps children near their parents


@pytest.mark.parametrize(("eta", "low", "high"), [(5, 0.08, 0.16), (100, 0.005, 0.012)])
def test_mutation_has_the_spread_of_its_index(eta: float, low: float, high: float) -> None:
    """The mean size of delta is 1 / (eta + 2)."""
    config = {**GENES, "population": 2, "mutation": 1, "crossover": 0, "mutation_eta": eta}
    optimizer = make_optimizer(config, PLANE)
    optimizer.ask(2)
    state = optimizer.state()
    state["memory"] |= {"x": np.full((2, 2), 0.5), "values": np.zeros(2), "violations": np.zeros(2)}
    state["memory"]["succeeded"] = True
    children = type(optimizer).from_state(state).ask(4000)[1]
    assert low < np.abs(children - 0.5).mean() < high
    assert abs(np.abs(children - 0.5).mean() * (eta + 2) - 1) < 0.1  # (3) and (4)


def test_a_child_takes_its_parent_s_place_if_it_is_better() -> None:
    optimizer = make_optimizer({**GENES, "population": 6}, PLANE)
    told = np.array([generation(optimizer, 6)[1] for _ in range(8)])
    optimizer.ask(0)
    assert optimizer.state()["memory"]["values"].tolist() == told.min(axis=0).tolist()  # (4)
    assert len(np.unique(told.argmin(axis=0))) > 1


def test_walkers_accept_anything_when_hot_and_only_better_when_cold() -> None:
    for temperature, accepts in ((1000, True), (1e-9, False)):
        config = {**WALKERS, "temperature": temperature, "cooling": 0.999}
        optimizer = make_optimizer(config, PLANE)
        x, _ = generation(optimizer, 10, lambda x: np.arange(len(x)))
        worse, _ = generation(optimizer, 10, lambda x: 5.0 + np.arange(len(x)))
        optimizer.ask(0)
        assert (optimizer.state()["memory"]["x"] == (worse if accepts else x)).all()  # (2)


def test_the_step_follows_the_acceptance() -> None:
    for values, grows in ((-1.0, True), (1.0, False)):
        optimizer = make_optimizer({**WALKERS, "temperature": 1e-9, "acceptance": 0.4}, PLANE)
        generation(optimizer, 10, lambda x: 0.01 * np.arange(len(x)))
        before = optimizer.state()["memory"]["step"]
        generation(optimizer, 10, lambda x, values=values: np.full(len(x), 100 * values))
        optimizer.ask(0)
        after = optimizer.state()["memory"]["step"]
        assert np.isclose(after, before * np.exp(0.6 if grows else -0.4))  # (4)


def test_one_hypercube_over_all_points_asked() -> None:
    optimizer = make_optimizer({"type": "lhs", "points": 40}, PLANE, batch=8)
    x = np.concatenate([optimizer.ask(n)[1] for n in (8, 1, 3, 20, 8)])
    assert (np.sort(np.floor(x * 40), axis=0) == np.arange(40)[:, None]).all()
    y = optimizer.ask(40)[1]
    assert (np.sort(np.floor(y * 40), axis=0) == np.arange(40)[:, None]).all()
    assert (y != x).all()


def test_one_hypercube_a_generation_when_points_are_left_out() -> None:
    optimizer = make_optimizer("lhs", PLANE, batch=5)
    for _ in range(3):
        assert (np.sort(np.floor(optimizer.ask(5)[1] * 5), axis=0) == np.arange(5)[:, None]).all()


def test_sobol_points_are_more_even_than_random_ones() -> None:
    sobol, random = (make_optimizer(name, PLANE).ask(256)[1] for name in ("sobol", "random"))
    assert qmc.discrepancy(sobol) < 0.2 * qmc.discrepancy(random)
    cells = np.floor(sobol * 16).astype(int)
    assert len({tuple(cell) for cell in cells.tolist()}) == 256  # a net: one point in each of 16 x 16 squares


@pytest.mark.parametrize("name", ["random", "sobol", "lhs", "grid"])
def test_a_sample_does_not_depend_on_the_sizes_asked_for(name: str) -> None:
    space = Space([Float("a", 0, 1), Int("i", 0, 1000), Float("b", 1, 2)], ["a + b <= 2.5"])
    whole, parts = make_optimizer(name, space), make_optimizer(name, space)
    x = whole.ask(60)[1]
    assert (np.concatenate([parts.ask(n)[1] for n in (1, 7, 30, 22)]) == x).all()


def test_random_points_of_a_finite_space_are_uniform() -> None:
    space = Space([Int("i", 0, 9), Int("j", 0, 9)], ["i >= j"])
    first = [space.decode(make_optimizer("random", space, seed=seed).ask(1)[1])[0]["j"] for seed in range(3000)]
    shares = np.bincount(first, minlength=10) / 3000
    assert np.abs(shares - np.arange(10, 0, -1) / 55).max() < 0.025


def test_the_grid_is_the_product_in_order() -> None:
    space = Space(
        [Categorical("c", ["a", "b"]), Float("x", 1, 100, log=True), Int("i", 1, 3), Float("s", 0, 1, step=0.5)]
    )
    optimizer = make_optimizer({"type": "grid", "points": 3}, space, batch=7)
    points = []
    while len(ids_and_x := optimizer.ask(7)[1]):
        points += space.decode(ids_and_x)
    expected = itertools.product(["a", "b"], [1.0, 10.0, 100.0], [1, 2, 3], [0.0, 0.5, 1.0])
    assert [[p["c"], pytest.approx(p["x"]), p["i"], p["s"]] for p in points] == [list(each) for each in expected]
    assert len(optimizer.ask(1)[0]) == 0


def test_a_grid_of_more_points_than_fit_a_machine_word() -> None:
    space = Space([Int(f"i{k}", 0, 10**6) for k in range(9)])
    optimizer = make_optimizer("grid", space)
    optimizer.ask(3)
    state = optimizer.state()
    state["memory"]["position"] = (10**6 + 1) ** 9 - 2
    ids, x = type(optimizer).from_state(state).ask(5)
    assert ids.tolist() == [3, 4]
    assert list(space.decode(x)[-1].values()) == [10**6] * 9
    assert space.decode(x)[0]["i8"] == 10**6 - 1


def test_a_grid_that_relations_leave_empty_says_so() -> None:
    small = make_optimizer("grid", Space([Int("i", 0, 9)], ["i > 20"]))
    assert len(small.ask(4)[0]) == 0
    with pytest.raises(SpecError, match="combinations of the grid in a row"):
        make_optimizer("grid", Space([Int("i", 0, 10**6), Int("j", 0, 10**6)], ["i + j < 0"])).ask(1)


def test_sobol_refuses_what_its_numbers_do_not_cover() -> None:
    with pytest.raises(ValueError, match="sobol takes up to"):
        make_optimizer("sobol", Space([Float(f"x{i}", 0, 1) for i in range(21_202)]))
