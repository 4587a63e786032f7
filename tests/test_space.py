import contextlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_simopt.errors import SpecError
from prefect_simopt.relations import Relation, RelationSyntaxError
from prefect_simopt.space import Categorical, Float, Int, Space

PARAMETERS = {
    "float": Float("p", -3, 7.5, unit="nm"),
    "log": Float("p", 1e-3, 10, log=True),
    "step": Float("p", 0, 1, step=0.1),
    "uneven step": Float("p", 0, 1, step=0.3),
    "int": Int("p", -2, 8),
    "int step": Int("p", 1, 20, step=5),
    "int log": Int("p", 1, 1000, log=True),
    "categorical": Categorical("p", ["TiO2", 3, 2.5, True]),
    "tiny": Float("p", 1.0, math.nextafter(1.0, 2)),
    "wide": Float("p", -1e300, 1e300),
}
coordinates = st.floats(0, 1)


@pytest.mark.parametrize("parameter", PARAMETERS.values(), ids=PARAMETERS.keys())
class TestEveryParameter:
    @given(x=st.lists(coordinates, min_size=1, max_size=20))
    def test_values_stay_inside(self, parameter, x):
        values = parameter.decode(np.array(x)).tolist()
        if isinstance(parameter, Categorical):
            assert all(value in parameter.choices for value in values)
        else:
            assert all(parameter.low <= value <= parameter.high for value in values)

    @given(x=st.lists(coordinates, min_size=1, max_size=20))
    def test_encoding_inverts_decoding(self, parameter, x):
        values = parameter.decode(np.array(x)).tolist()
        again = parameter.decode(parameter.encode(values)).tolist()
        if parameter.levels:
            assert again == values
        else:
            assert again == pytest.approx(values, rel=1e-12, abs=1e-12)

    @given(x=coordinates)
    def test_snapping_twice_is_snapping_once(self, parameter, x):
        space = Space([parameter])
        once = space.snap(np.array([[x]]))
        assert (space.snap(once) == once).all()
        assert space.decode(once) == space.decode(np.array([[x]]))

    @given(x=coordinates)
    def test_stored_numbers_give_the_value_back(self, parameter, x):
        (value,) = parameter.decode(np.array([x])).tolist()
        assert parameter.from_number(parameter.to_number(value)) == value

    def test_bounds_and_all_levels_are_reached(self, parameter):
        values = parameter.decode(np.linspace(0, 1, 50_001)).tolist()
        if parameter.levels:
            assert len(set(map(repr, values))) == parameter.levels
        else:
            assert (values[0], values[-1]) == pytest.approx((parameter.low, parameter.high), rel=1e-12)


def test_levels_of_a_step_that_does_not_divide_the_range():
    assert Float("p", 0, 1, step=0.3).levels == 4
    assert Int("p", 1, 20, step=5).levels == 4


def test_a_space_is_made_again_from_its_description():
    space = Space([*(p.model_copy(update={"name": f"p{i}"}) for i, p in enumerate(PARAMETERS.values()))], ["p0 <= p1"])
    again = Space(**space.describe())
    assert again.parameters == space.parameters
    assert [relation.text for relation in again.relations] == ["p0 <= p1"]


def test_plain_values_reach_the_simulator():
    space = Space([Int("n", 1, 3), Float("x", 0, 1), Categorical("c", ["a", 2])])
    (point,) = space.decode(np.array([[0.5, 0.5, 0.9]]))
    assert {name: type(value) for name, value in point.items()} == {"n": int, "x": float, "c": int}


@pytest.mark.parametrize(
    ("parameter", "value", "said"),
    [
        (Float("x", 0, 1), 2.0, "nearest value in it is 1.0"),
        (Float("x", 0, 1), "a", "must be a number"),
        (Int("x", 0, 10), 2.5, "nearest value in it is"),
        (Categorical("x", ["a", "b"]), "c", "must be one of 'a', 'b'"),
    ],
)
def test_a_value_outside_the_space_is_refused(parameter, value, said):
    with pytest.raises(SpecError, match=said):
        parameter.check(value)


COLUMNS = {"a": np.array([0.0, 1.0, 2.0]), "b": np.array([2.0, 1.0, 0.0])}


@pytest.mark.parametrize(
    ("text", "violation"),
    [
        ("a <= 1", [0, 0, 1]),
        ("a + 2 * b <= 3", [1, 0, 0]),
        ("1 <= a", [1, 0, 0]),
        ("0 <= a <= 1", [0, 0, 1]),
        ("a == b", [2, 0, 2]),
        ("-a ** 2 >= -1", [0, 0, 3]),
        ("2 ** -a < 0.5 + 1", [0, 0, 0]),
        ("abs(a - b) <= 1", [1, 0, 1]),
        ("max(a, b) <= min(3, 2)", [0, 0, 0]),
        ("sqrt(a - 1) >= 0", [np.inf, 0, 0]),
        ("(a + b) / 2 >= 1", [0, 0, 0]),
        ("1e0 <= .5 + 5.e-1 + a*0", [0, 0, 0]),
    ],
)
def test_relations_measure_how_far_a_point_is_from_holding(text, violation):
    assert Relation.parse(text, COLUMNS).violation(COLUMNS) == pytest.approx(violation)


def test_a_strict_relation_excludes_its_boundary():
    assert (Relation.parse("a < 1", COLUMNS).violation(COLUMNS) > 0).tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a <", "expected a number"),
        ("a", "compares two sides"),
        ("a + b", "compares two sides"),
        ("1 < 2", "at least one parameter"),
        ("a @ b < 1", "'@' has no meaning"),
        ("c < 1", "'c' is no numeric parameter"),
        ("a < 1 b", "expected an operator"),
        ("(a < 1", r"expected '\)'"),
        ("abs(a, b) < 1", "takes 1 argument"),
        ("__import__('os') < 1", "'__import__' is no function|has no meaning"),
        ("a.real < 1", "has no meaning"),
        ("a; b < 1", "has no meaning"),
        ("", "expected a number"),
        ("(" * 5000 + "a" + ")" * 5000 + " < 1", "nested more than"),
        ("a" + "**a" * 5000 + " < 1", "nested more than"),
    ],
)
def test_what_is_not_in_the_grammar_is_refused_with_its_place(text, said):
    with pytest.raises(RelationSyntaxError, match=said) as caught:
        Relation.parse(text, COLUMNS)
    assert "^" in str(caught.value)


@given(st.text(max_size=60))
def test_any_text_parses_or_is_refused(text):
    with contextlib.suppress(RelationSyntaxError):
        assert Relation.parse(text, COLUMNS).violation(COLUMNS).shape == (3,)
