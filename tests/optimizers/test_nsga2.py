"""Several objectives: fronts, crowding, hypervolume, and what NSGA-II reaches on known fronts."""

import itertools

import numpy as np
import pytest

from prefect_simopt.hypervolume import hypervolume
from prefect_simopt.optimizers import dump_state, load_state, make_optimizer, optimizer_from_state
from prefect_simopt.optimizers.fronts import dominates, fronts, spread
from prefect_simopt.space import Categorical, Float, Int, Space


def zdt(number: int, x: np.ndarray) -> np.ndarray:
    """E. Zitzler, K. Deb, L. Thiele, Evolutionary Computation 8 (2000) 173-195, equations (7) to (9)."""
    g, a = 1 + 9 * x[:, 1:].mean(axis=1), x[:, 0]
    waves = a / g * np.sin(10 * np.pi * a)
    h = {1: 1 - np.sqrt(a / g), 2: 1 - (a / g) ** 2, 3: 1 - np.sqrt(a / g) - waves}[number]
    return np.column_stack([a, g * h])


def dtlz2(x: np.ndarray) -> np.ndarray:
    """K. Deb, L. Thiele, M. Laumanns, E. Zitzler, IEEE Congress on Evolutionary Computation (2002) 825-830."""
    radius, a, b = 1 + ((x[:, 2:] - 0.5) ** 2).sum(axis=1), x[:, 0] * np.pi / 2, x[:, 1] * np.pi / 2
    return radius[:, None] * np.column_stack([np.cos(a) * np.cos(b), np.cos(a) * np.sin(b), np.sin(a)])


# The whole front has 0.8757, 0.5423, 1.3286 and 0.8074; random search reaches 0, 0, 0.2 and 0.57.
FRONTS = [
    (lambda x: zdt(1, x), 10, 2, 0.83), (lambda x: zdt(2, x), 10, 2, 0.45), (lambda x: zdt(3, x), 10, 2, 1.2),
    (dtlz2, 7, 3, 0.73),
]  # fmt: skip


@pytest.mark.parametrize(("f", "d", "objectives", "least"), FRONTS, ids=["zdt1", "zdt2", "zdt3", "dtlz2"])
def test_known_fronts_within_2400_trials(f, d, objectives, least) -> None:
    space = Space([Float(f"x{i}", 0, 1) for i in range(d)])
    optimizer, values = make_optimizer("nsga2", space, objectives=objectives), []
    for _ in range(150):
        ids, x = optimizer.ask(16)
        values.append(f(x))
        optimizer.tell(ids, values[-1])
    assert hypervolume(np.concatenate(values), [1.1] * objectives) > least


def test_two_objectives_with_constraints_failures_and_relations_resume_exactly() -> None:
    space = Space(
        [Float("x", 0, 1), Float("y", 0, 1), Int("i", 0, 9), Categorical("c", ["a", "b", "c"])], ["x + y <= 1.5"]
    )
    optimizer = make_optimizer({"type": "nsga2", "members": 12}, space, objectives=2)
    for step in range(12):
        ids, x = optimizer.ask(9)
        assert (space.violation(x) == 0).all()
        values = np.column_stack([x[:, 0] + x[:, 2], (1 - x[:, 1]) ** 2 + x[:, 3]])
        values[step % 5 :: 5, step % 2] = np.nan
        optimizer.tell(ids[:-2], values[:-2], np.maximum(x[:-2, 0] - 0.5, 0))
        again = optimizer_from_state(load_state(dump_state(optimizer.state())))
        optimizer.tell(ids[-2:], values[-2:])
        again.tell(ids[-2:], values[-2:])
        assert dump_state(again.state()) == dump_state(optimizer.state())
        optimizer = again


def test_infeasible_points_approach_the_constraint() -> None:
    optimizer, best = make_optimizer("nsga2", Space([Float("x", 0, 1), Float("y", 0, 1)]), objectives=2), []
    for _ in range(15):
        ids, x = optimizer.ask(16)
        violations = np.abs(x - 0.3).sum(axis=1)
        optimizer.tell(ids, -x, violations)
        best.append(violations.min())
    assert min(best) < 0.02 < best[0]


def test_fronts_are_what_is_left_when_better_ones_are_taken_away() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(5, size=(60, 3)).astype(float)
    rank, left = fronts(values, np.zeros(60)), set(range(60))
    for number in range(rank.max() + 1):
        front = {
            i for i in left if not any((values[j] <= values[i]).all() and (values[j] < values[i]).any() for j in left)
        }
        assert front == set(np.flatnonzero(rank == number).tolist())
        left -= front
    assert not left


def test_constraint_domination() -> None:
    values = np.array([[9.0, 9.0], [0.0, 0.0], [1.0, 1.0], [np.inf, np.inf]])
    over = dominates(values, np.array([0.0, 2.0, 1.0, np.inf]))
    assert np.argwhere(over).tolist() == [[0, 1], [0, 2], [0, 3], [1, 3], [2, 1], [2, 3]]
    assert fronts(values, np.array([0.0, 2.0, 1.0, np.inf])).tolist() == [0, 2, 1, 3]


def test_of_a_crowd_the_ends_and_those_apart_stay() -> None:
    a = np.array([0.0, 0.1, 0.11, 0.12, 0.5, 0.5, 1.0])
    kept, room = spread(np.column_stack([a, 1 - a]), 4)
    assert a[kept].tolist() == [0.0, pytest.approx(0.11, abs=0.011), 0.5, 1.0]
    assert np.isinf(room[[0, -1]]).all()
    assert np.isfinite(room[1:-1]).all()
    assert len(spread(np.full((5, 2), np.inf), 3)[0]) == 3


@pytest.mark.parametrize("objectives", [1, 2, 3, 4, 5])
def test_hypervolume_is_the_volume_of_the_union_of_boxes(objectives: int) -> None:
    points = np.random.default_rng(objectives).integers(7, size=(6, objectives)).astype(float)
    reference = np.full(objectives, 6.0)
    total = 0.0
    for size in range(1, 7):  # inclusion and exclusion
        for some in itertools.combinations(points, size):
            total -= (-1) ** size * float(np.maximum(reference - np.max(some, axis=0), 0).prod())
    assert hypervolume(points, reference) == pytest.approx(total)


def test_hypervolume_refuses_what_makes_no_sense() -> None:
    assert hypervolume(np.empty((0, 2)), [1, 1]) == 0
    with pytest.raises(ValueError, match="shape"):
        hypervolume([[1, 2]], [1, 2, 3])
    with pytest.raises(ValueError, match="failed"):
        hypervolume([[1, np.nan]], [1, 2])
