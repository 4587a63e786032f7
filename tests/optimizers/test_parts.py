"""The parts that optimizers share: ranking, lattice, repair, placement."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_simopt.errors import SpecError
from prefect_simopt.optimizers.lattice import Lattice, latin_hypercube, reflect
from prefect_simopt.optimizers.placement import Placement
from prefect_simopt.optimizers.ranking import better, order, rankable
from prefect_simopt.optimizers.repair import Repair, feasible_point
from prefect_simopt.space import Categorical, Float, Int, Space

MIXED = Space([
    Float("x", -5, 5), Float("s", 0, 1, step=0.25), Int("i", 1, 30), Int("l", 1, 1000, log=True),
    Int("h", 0, 41, step=4), Categorical("c", ["a", "b", "c"]), Float("one", 0, 1, step=2),
])  # fmt: skip
DISCRETE = Space(MIXED.parameters[1:])
numbers = st.floats(-1e300, 1e300) | st.sampled_from([np.nan, np.inf, -np.inf, 0.0])
distances = st.floats(0, 1e300) | st.sampled_from([np.nan, np.inf, -1.0, 0.0])


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def rank(value: float, violation: float) -> tuple[float, float, float]:
    """Deb's rules for one trial, spelled out."""
    if not np.isfinite(value):
        return (2, 0, 0)
    return (0, value, 0) if violation <= 0 else (1, np.inf if np.isnan(violation) else violation, value)


@given(st.lists(st.tuples(numbers, distances), min_size=2, max_size=8))
def test_ranking_follows_the_rules(trials: list[tuple[float, float]]) -> None:
    values, violations = rankable(*np.array(trials).T)
    ranks = [rank(*trial) for trial in trials]
    assert [ranks[i] for i in order(values, violations)] == sorted(ranks)
    wins = better(values[:-1], violations[:-1], values[1:], violations[1:])
    assert wins.tolist() == [a < b for a, b in itertools.pairwise(ranks)]


def test_several_objectives_fail_together() -> None:
    values, violations = rankable(np.array([[1.0, np.nan], [1.0, 2.0]]), np.array([0.0, 0.5]))
    assert np.isinf(values[0]).all()
    assert values[1].tolist() == [1.0, 2.0]
    assert violations.tolist() == [np.inf, 0.5]


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=9))
def test_reflection_folds_into_the_cube(x: list[float]) -> None:
    folded = reflect(np.array(x))
    assert ((folded >= 0) & (folded <= 1)).all()
    assert np.allclose(np.cos(np.pi * folded), np.cos(np.pi * np.array(x)))


def test_latin_hypercube_has_one_point_in_every_slice() -> None:
    x = latin_hypercube(50, 7, generator())
    assert (np.sort(np.floor(x * 50), axis=0) == np.arange(50)[:, None]).all()


@given(st.integers(0, 2**32))
@settings(max_examples=30)
def test_cells_and_coordinates_belong_together(seed: int) -> None:
    lattice, x = Lattice(DISCRETE), DISCRETE.snap(generator(seed).random((40, DISCRETE.dimensions)))
    cells = lattice.cells(x)
    assert (cells < DISCRETE.levels).all()
    for i, parameter in enumerate(DISCRETE.parameters):
        assert (lattice.coordinates(i, cells[:, i]) == x[:, i]).all()
        values = parameter.decode(x[:, i]).tolist()
        if isinstance(parameter, Categorical):
            assert cells[:, i].tolist() == [parameter.choices.index(value) for value in values]
        else:
            assert np.allclose(np.argsort(cells[:, i], kind="stable"), np.argsort(values, kind="stable"))


def test_a_jump_goes_to_another_value_and_reaches_all_of_them() -> None:
    lattice, rng = Lattice(MIXED), generator()
    x = MIXED.snap(np.tile(rng.random(MIXED.dimensions), (20_000, 1)))
    everywhere = np.ones(x.shape, dtype=bool)
    jumped = MIXED.snap(lattice.jump(x, everywhere, rng))
    many = MIXED.levels > 1
    assert (jumped[:, many] != x[:, many]).all()
    assert (jumped[:, ~many] == x[:, ~many]).all()
    assert len(np.unique(jumped[:, 5])) == 2  # both of the other categories, equally often
    assert abs(np.mean(jumped[:, 5] == np.unique(jumped[:, 5])[0]) - 0.5) < 0.02
    for i in (1, 2, 3, 4):  # neighbours on both sides, and far away
        cells = lattice.cells(jumped)[:, i] - lattice.cells(x)[0, i]
        assert {-1, 1} <= set(cells.tolist()) or lattice.cells(x)[0, i] in (0, MIXED.levels[i] - 1)
        assert np.abs(cells).max() >= MIXED.levels[i] // 4
    assert (lattice.jump(x, ~everywhere, rng) == x).all()


def test_random_rounding_is_right_on_average() -> None:
    space = Space([Int("i", 0, 9), Categorical("c", ["a", "b"])])
    lattice, rng = Lattice(space), generator()
    x = np.tile([0.05 + 0.33, 0.3], (50_000, 1))  # a third of the way from the middle of cell 3 to that of cell 4
    rounded = space.snap(lattice.dither(x, rng))
    assert set(lattice.cells(rounded)[:, 0].tolist()) == {3, 4}
    assert abs(rounded[:, 0].mean() - 0.38) < 1e-3
    assert (rounded[:, 1] == 0.25).all()


LINES = ["a + b <= 0.3", "a * b >= 0.9", "0.7 <= a + b <= 0.700001", "a < b", "a ** 2 + b ** 2 <= 0.25", "i <= 3",
         "a + 0.01 * i >= 1.2"]  # fmt: skip


@pytest.mark.parametrize("line", LINES)
def test_projection_moves_no_farther_than_it_must(line: str) -> None:
    space = Space([Float("a", 0, 1), Float("b", 0, 1), Int("i", 0, 99)], [line])
    repair, x = Repair(Lattice(space)), space.snap(generator().random((400, 3)))
    before = space.violation(x)
    after = repair.project(x)
    assert (space.snap(after) == after).all()
    assert (after[before == 0] == x[before == 0]).all()
    outside = before > 0
    assert (space.violation(after)[outside] < before[outside]).all()
    assert repair.allowed(after).mean() > 0.9


def test_violations_of_any_size_are_brought_inside() -> None:
    space = Space([Float("a", 0, 1), Float("b", 0, 1)], ["exp(700 * a) <= 1e100 * (1 + b)", "b > 1e-300"])
    rng = generator()
    x = Placement(space, rng).place(40, lambda rows: rng.uniform(0.9, 1.0, (len(rows), 2)))
    assert len(x) == 40
    assert (space.violation(x) == 0).all()


def test_bisection_ends_between_the_anchor_and_the_candidate() -> None:
    space = Space([Float("a", 0, 1), Float("b", 0, 1), Categorical("c", [0, 1, 5])], ["a + b + c <= 1.4"])
    repair, rng = Repair(Lattice(space)), generator()
    anchors = space.snap(np.column_stack([0.1 * rng.random((50, 2)), np.full(50, 1 / 6)]))
    x = space.snap(np.column_stack([rng.uniform(0.6, 1.0, (50, 2)), rng.random(50)]))
    x[:5], x[5:10, 2] = anchors[:5], 5 / 6
    found = repair.pull(x, anchors)
    assert repair.allowed(found).all()
    assert ((found[:, :2] >= np.minimum(anchors, x)[:, :2]) & (found[:, :2] <= np.maximum(anchors, x)[:, :2])).all()
    assert ((found[:, 2] == anchors[:, 2]) | (found[:, 2] == x[:, 2])).all()  # no category in between
    near = found[(x[:, 2] == 1 / 6) & (x[:, :2].sum(axis=1) > 1.4)]
    assert len(near) > 2
    assert np.allclose(near[:, :2].sum(axis=1), 1.4, atol=1e-5)
    lost = repair.pull(x, x)  # no anchor is allowed but the first five
    assert repair.allowed(lost).all()


@pytest.mark.parametrize("relations", [
    ["a + b <= 1e-4"], ["a ** 2 + b ** 2 <= 1e-6", "a > b"], ["i == 17", "j == 2 * i"], ["a * b >= 0.9999"],
    ["i * j == 3599"], ["abs(a - 0.123456) <= 1e-9"],
])  # fmt: skip
def test_a_needle_of_a_feasible_point_is_found(relations: list[str]) -> None:
    space = Space([Float("a", 0, 1), Float("b", 0, 1), Int("i", 1, 100), Int("j", 1, 100)], relations)
    point = feasible_point(space)
    assert space.violation(point[None, :]).tolist() == [0.0]
    assert (space.snap(point[None, :])[0] == point).all()


@pytest.mark.parametrize("relation", ["a > 2", "sqrt(-1 - a) >= 0", "a ** 2 < 0"])
def test_an_impossible_relation_names_itself(relation: str) -> None:
    with pytest.raises(SpecError, match="no point of the space was found") as caught:
        feasible_point(Space([Float("a", 0, 1)], [relation]))
    assert relation in str(caught.value)


def test_samples_of_a_thin_band_spread_over_it() -> None:
    space = Space([Float("a", 0, 1), Float("b", 0, 1)], ["0.5 <= a + b <= 0.500001"])
    rng = generator()
    x = Placement(space, rng).place(300, lambda rows: rng.random((len(rows), 2)))
    assert len(x) == len({row.tobytes() for row in x}) == 300
    assert np.histogram(x[:, 0], bins=5, range=(0, 0.5))[0].min() > 15


def test_a_repeated_candidate_is_moved_as_little_as_works() -> None:
    rng = generator()
    placement = Placement(Space([Float("a", 0, 1), Float("b", 0, 1)]), rng)
    point = np.array([0.25, 1.0])
    x = placement.place(50, lambda rows: np.tile(point, (len(rows), 1)), np.full((50, 2), 0.5))
    assert (x[0] == point).all()
    assert len({row.tobytes() for row in x}) == 50
    assert np.abs(x - point).max() < 1e-4
    placement.release(x)
    assert (placement.place(1, lambda _: point[None, :], np.full((1, 2), 0.5)) == point).all()
    assert (placement.place(1, lambda _: point[None, :], point[None, :]) != point).any()  # that is where it comes from


def test_the_last_points_of_a_finite_space_are_given_and_none_twice() -> None:
    space, rng = Space([Int("i", 0, 99), Int("j", 0, 99)], ["i + j <= 120"]), generator()
    placement = Placement(space, rng)
    x = np.concatenate([placement.place(500, lambda rows: rng.random((len(rows), 2)) / 50) for _ in range(20)])
    allowed = sum(i + j <= 120 for i in range(100) for j in range(100))
    assert len(x) == len({row.tobytes() for row in x}) == allowed
    assert (space.violation(x) == 0).all()
