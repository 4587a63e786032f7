"""Conditional parameters in a space: where they are there, what is the same point, and how many points there are."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_simopt.errors import SpecError
from prefect_simopt.optimizers import make_optimizer
from prefect_simopt.space import Categorical, Float, Int, Space

SPACE = Space(
    [
        Float("porosity", 0, 0.9, when={"layers": [2, 3], "material": ["TiO2", "SiO2"]}),
        Categorical("material", ["TiO2", "SiO2", "Ag"]),
        Int("layers", 1, 4, when={"material": ["TiO2", "SiO2"]}),
        Float("anneal", 200, 800, step=100, when={"porosity_kind": True}),
        Categorical("porosity_kind", [True, False], when={"layers": 3}),
    ],
    relations=["porosity * layers <= 1.5"],
)
POINT = {"porosity": 0.4, "material": "TiO2", "layers": 3, "anneal": 400.0, "porosity_kind": True}


def shown(**changes):
    """Names of the parameters that there are where the others are changed so."""
    x = SPACE.encode([POINT | changes])
    return set(SPACE.decode(x)[0])


def test_a_parameter_is_there_where_all_its_conditions_hold_and_those_of_its_parents():
    assert shown() == set(POINT)
    assert shown(porosity_kind=False) == set(POINT) - {"anneal"}
    assert shown(layers=2) == {"porosity", "material", "layers"}
    assert shown(layers=1) == {"material", "layers"}
    assert shown(material="Ag") == {"material"}  # though layers is 3, which is not there


def test_points_that_differ_in_what_is_not_there_are_the_same_point():
    many = [POINT | {"material": "Ag", "porosity": p, "layers": n} for p, n in product([0.0, 0.3, 0.9], [1, 2, 4])]
    snapped = SPACE.snap(SPACE.encode(many))
    assert len({row.tobytes() for row in snapped}) == 1
    assert SPACE.decode(snapped[:1]) == [{"material": "Ag"}]


@given(st.lists(st.lists(st.floats(0, 1), min_size=5, max_size=5), min_size=1, max_size=8))
def test_a_point_is_the_same_after_a_way_through_the_store(rows):
    snapped = SPACE.snap(np.array(rows))
    assert (SPACE.snap(snapped) == snapped).all()
    for x, point in zip(snapped, SPACE.decode(snapped), strict=True):
        numbers = SPACE.to_numbers(point)
        assert [math.isnan(number) for number in numbers] == [name not in point for name in SPACE.names]
        assert SPACE.from_numbers(numbers) == point == SPACE.check(point)
        assert SPACE.decode(SPACE.encode([point])) == [point]
        assert np.allclose(SPACE.snap(SPACE.encode([point]))[0], x, atol=1e-12)


def test_a_relation_holds_where_a_parameter_in_it_is_not_there():
    tight = POINT | {"porosity": 0.9}
    assert SPACE.violation(SPACE.encode([tight])) > 0
    assert SPACE.violation(SPACE.encode([tight | {"layers": 1}])) == 0


def test_finite_points_are_counted_each_once():
    space = Space([
        Int("a", 0, 9, when={"kind": ["x", "y"]}), Categorical("kind", ["x", "y", "z"]),
        Int("b", 1, 1000, log=True, when={"a": [0, 1, 2]}), Float("c", 0, 1, step=0.25),
    ])  # fmt: skip
    assert space.size == (2 * (3 * 1000 + 7) + 1) * 5
    assert SPACE.size == math.inf
    assert Space(SPACE.parameters[1:3]).size == 9


def test_a_grid_has_each_point_once():
    space = Space([
        Float("x", 0, 1, when={"kind": "a"}), Categorical("kind", ["a", "b"]), Float("y", 0, 1, when={"kind": "b"}),
        *(Float(f"z{i}", 0, 1, when={"kind": "b", "n": 3}) for i in range(6)), Int("n", 1, 3, when={"kind": "b"}),
    ])  # fmt: skip
    grid = make_optimizer({"type": "grid", "points": 4}, space)
    found = []
    while len(points := space.decode(grid.ask(7)[1])):
        found += points
    assert len(found) == 4 + 4 * (2 + 4**6)
    assert len({tuple(point.items()) for point in found}) == len(found)


@pytest.mark.parametrize("name", ["pso", "ga", "sa", "de", "cma", "random", "sobol", "lhs"])
def test_what_has_nothing_continuous_is_not_asked_for_again(name):
    """Half of all points have `kind: plain`, which is a single one."""
    space = Space([Categorical("kind", ["plain", "rich"]), Float("x", 0, 1, when={"kind": "rich"})])
    optimizer, plain = make_optimizer(name, space), 0
    for _ in range(10):
        ids, x = optimizer.ask(8)
        assert len(ids) == 8
        plain += sum("x" not in point for point in space.decode(x))
        optimizer.tell(ids, np.array(["x" in point for point in space.decode(x)]) * 1.0)
    assert plain == 1


def test_conditions_in_a_circle_are_named():
    parameters = [Int("a", 0, 1, when={"c": 0}), Int("b", 0, 1, when={"a": 1}), Int("c", 0, 1, when={"b": 0})]
    with pytest.raises(SpecError, match=r"space\[0\]\.when: goes round in a circle: 'a'.*'c'.*'b'.*'a'"):
        Space(parameters)


def test_a_long_chain_of_conditions():
    parameters = [Int(f"p{i}", 0, 1, when={f"p{i + 1}": 1}) for i in range(3000)]
    space = Space([*parameters, Int("p3000", 0, 1)])
    assert space.conditions.order == list(range(3000, -1, -1))


@pytest.mark.parametrize(("changes", "said"), [
    ({"material": "Ag"}, "anneal: is not there: it is only where porosity_kind is True; leave it out"),
    ({"layers": 7}, "layers: is outside the space"),
    ({"material": None}, "material: must be one of 'TiO2', 'SiO2', 'Ag'"),
    ({"depth": 3}, "depth: is no parameter of the space; those are porosity, "),
])  # fmt: skip
def test_a_point_that_is_none_is_refused(changes, said):
    with pytest.raises(SpecError) as caught:
        SPACE.check(POINT | changes)
    assert said in str(caught.value)


def test_what_is_missing_depends_on_the_rest():
    with pytest.raises(SpecError) as caught:
        SPACE.check({"material": "TiO2", "layers": 2})
    assert [problem.path for problem in caught.value.problems] == ["porosity"]
    assert SPACE.check({"material": "TiO2", "layers": 4}) == {"material": "TiO2", "layers": 4}


def test_one_value_is_a_list_of_one():
    assert Int("n", 0, 1, when={"m": 3}) == Int("n", 0, 1, when={"m": [3]})
    assert Int("n", 0, 1, when={}) == Int("n", 0, 1)
