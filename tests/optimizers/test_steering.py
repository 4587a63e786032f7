"""Points of people and narrower bounds, by every optimizer."""

from typing import Any

import numpy as np
import pytest
from optimizer_contract import SPACES, bowl, keys

from prefect_simopt.errors import SpecError
from prefect_simopt.optimizers import dump_state, load_state, make_optimizer, optimizer_from_state
from prefect_simopt.optimizers.box import Box
from prefect_simopt.optimizers.make import ENGINES
from prefect_simopt.space import Categorical, Float, Int, Space

NAMES = [name for name in ENGINES if name not in ("points", "generator")]
SEARCHES = ["pso", "ga", "sa", "de", "cma", "nsga2"]  # of our own
FINITE = {"grid"}


def make(name: str, space: Space, **options: Any) -> Any:
    if space not in (SPACES["mixed"], SPACES["related"]) and name not in (*SEARCHES, "random", "sobol", "lhs", "grid"):
        pytest.skip("an expensive optimizer is looked at in two spaces")
    return make_optimizer({"type": name, **({"points": 5} if name == "grid" else {})}, space, **{"batch": 8, **options})


def restored(optimizer: Any) -> Any:
    data = dump_state(optimizer.state())
    again = optimizer_from_state(load_state(data))
    assert dump_state(again.state()) == data
    return again


def points_of(space: Space, n: int, seed: int = 5) -> np.ndarray:
    """Allowed points, none of which any optimizer would find by itself."""
    return make_optimizer("random", space, seed=900 + seed).ask(n)[1]


def generation(optimizer: Any, n: int) -> np.ndarray:
    ids, x = optimizer.ask(n)
    optimizer.tell(ids, bowl(x))
    return x


@pytest.fixture(params=SPACES)
def space(request: pytest.FixtureRequest) -> Space:
    return SPACES[request.param]


@pytest.mark.parametrize("name", NAMES)
def test_suggested_points_come_first_and_once(name: str, space: Space) -> None:
    optimizer = make(name, space)
    generation(optimizer, 8)
    given = points_of(space, 11)
    given = given[optimizer.suggest(given)]
    optimizer = restored(optimizer)
    ids, x = optimizer.ask(8)
    assert (x == given[:8]).all()
    optimizer.tell(ids[:5], bowl(x[:5]))
    ids, x = optimizer.ask(8)
    rest = given[8:]
    assert (x[: len(rest)] == rest).all()
    assert len(x) == 8 or name in FINITE
    assert not set(keys(x)) & set(keys(given[5:8]))  # which are pending
    assert ids.tolist() == list(range(16, 16 + len(x)))
    for _ in range(3):
        assert (space.violation(generation(optimizer, 8)) == 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_point_that_is_pending_is_not_taken_twice(name: str, space: Space) -> None:
    optimizer = make(name, space)
    _, pending = optimizer.ask(3)
    fresh = points_of(space, 2)
    assert optimizer.suggest(np.concatenate([pending, fresh, fresh[:1]])).tolist() == [False] * 3 + [True] * 2 + [False]
    assert (optimizer.ask(2)[1] == fresh).all()


@pytest.mark.parametrize("name", NAMES)
def test_points_beyond_the_space_or_its_relations_are_refused(name: str) -> None:
    space = SPACES["related"]
    optimizer = make(name, space)
    good = points_of(space, 1)[0]
    before = dump_state(optimizer.state())
    for bad in ([[0.9, 0.9, 0.5, 0.5]], [good, [1.2, 0, 0, 0]], [[0.1, 0.1]], [0.1] * 4, [[np.nan] * 4]):
        with pytest.raises(ValueError, match=r"outside|shape"):
            optimizer.suggest(np.array(bad))
    assert dump_state(optimizer.state()) == before


@pytest.mark.parametrize("name", SEARCHES)
def test_a_very_good_suggestion_leads_the_search(name: str) -> None:
    """The smallest value is where nobody would look: at the bottom of a narrow hole."""
    space = Space([Float(f"x{i}", 0, 1) for i in range(4)])
    hole = np.full(4, 0.93)

    def f(x: np.ndarray) -> np.ndarray:
        away = np.abs(x - hole).max(axis=1)
        return np.where(away < 0.05, -10 + away, ((x - 0.2) ** 2).sum(axis=1))

    near = []
    for suggest in (False, True):
        optimizer, near_here = make(name, space), 0
        for step in range(40):
            if suggest and step == 4:
                optimizer.suggest(hole[None, :])
            ids, x = optimizer.ask(8)
            optimizer.tell(ids, f(x))
            near_here += int((np.abs(x - hole).max(axis=1) < 0.1).sum())
        near.append(near_here)
    assert near[0] < 3  # not by itself
    assert near[1] >= 5


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("asked", [0, 20, 100])
def test_every_point_after_narrowing_is_within_the_bounds(name: str, space: Space, asked: int) -> None:
    optimizer = make(name, space)
    while asked > 0:
        asked -= 8
        generation(optimizer, 8)
    ids, x = optimizer.ask(4)
    low, high = np.full(space.dimensions, 0.05), np.full(space.dimensions, 0.65)
    box = Box(space, low, high)
    optimizer.narrow(low, high)
    optimizer.tell(ids, bowl(x))  # of which some are outside
    optimizer = restored(optimizer)
    seen: list[bytes] = []
    for n in (8, 3, 1, 8, 8, 20, 8, 8):
        ids, x = optimizer.ask(n)
        assert box.inside(x).all()
        assert (space.violation(x) == 0).all()
        assert (space.snap(x) == x).all()
        assert len(ids) == n or name in FINITE
        optimizer.tell(ids, bowl(x))
        seen += keys(x)
    assert len(set(seen)) > 40 or name in FINITE


@pytest.mark.parametrize("name", NAMES)
def test_narrowing_twice_keeps_both_bounds_and_drops_what_was_suggested_outside(name: str) -> None:
    space = SPACES["mixed"]
    optimizer = make(name, space)
    optimizer.suggest(space.snap(np.array([[0.3] * 6, [0.9] * 6])))
    optimizer.narrow([0.2] * 6, [1.0] * 6)
    optimizer.narrow([0.0] * 6, [0.6] * 6)
    box = Box(space, [0.2] * 6, [0.6] * 6)
    x = optimizer.ask(8)[1]
    assert box.inside(x).all()
    assert (x[0] == space.snap(np.array([[0.3] * 6]))[0]).all()
    before = dump_state(optimizer.state())
    for low, high in (([0.7] * 6, [0.9] * 6), ([0.5] * 6, [0.4] * 6), ([0.1], [0.2]), ([-1] * 6, [1] * 6)):
        with pytest.raises(ValueError, match=r"leave nothing|bounds are"):
            optimizer.narrow(low, high)
    with pytest.raises(ValueError, match="narrowed"):
        optimizer.suggest(space.snap(np.array([[0.9] * 6])))
    assert dump_state(optimizer.state()) == before


@pytest.mark.parametrize("name", NAMES)
def test_a_finite_space_ends_when_its_narrower_part_is_used_up(name: str) -> None:
    space = Space([Int("i", 0, 9), Categorical("c", ["a", "b", "c"])])
    optimizer = make(name, space)
    seen = keys(generation(optimizer, 4))
    optimizer.narrow([0.41, 0.0], [0.79, 0.5])  # i from 4 to 7, c is a or b
    for _ in range(4):
        x = generation(optimizer, 4)
        assert all(4 <= point["i"] <= 7 and point["c"] != "c" for point in space.decode(x))
        seen += keys(x)
    assert len(set(seen)) == len(seen)
    within = [key for key in seen if (np.frombuffer(key) <= 0.79).all() and np.frombuffer(key)[0] > 0.41
              and np.frombuffer(key)[1] < 0.6]  # fmt: skip
    assert len(within) == 8


@pytest.mark.parametrize("name", [name for name in NAMES if name != "grid"])
def test_a_parameter_may_be_fixed(name: str) -> None:
    space = Space([Float("x", -1, 1), Float("y", 1, 100, log=True), Categorical("c", ["a", "b", "c"])])
    optimizer = make(name, space)
    generation(optimizer, 8)
    optimizer.narrow([0.0, 0.5, 0.5], [1.0, 0.5, 0.5])
    for _ in range(12):
        x = generation(optimizer, 8)
        assert (x[:, 1:] == [0.5, 0.5]).all()
        assert len(np.unique(x[:, 0])) == 8


@pytest.mark.parametrize("name", NAMES)
def test_relations_and_bounds_that_exclude_everything_are_an_error(name: str) -> None:
    space = Space([Float("a", 0, 1), Float("b", 0, 1), Float("c", 0, 1)], relations=["a + b <= 0.5"])
    optimizer = make(name, space)
    generation(optimizer, 8)
    optimizer.narrow([0.4, 0.4, 0], [1, 1, 1])
    if name == "grid":
        assert len(optimizer.ask(8)[0]) == 0
        return
    with pytest.raises(SpecError, match="satisfies"):
        optimizer.ask(8)


@pytest.mark.parametrize("name", SEARCHES)
def test_what_is_known_within_the_bounds_still_counts(name: str) -> None:
    """After narrowing around the optimum the search goes on from where it was, not from the beginning."""
    space = Space([Float(f"x{i}", 0, 1) for i in range(5)])
    optimizer, best = make(name, space), np.inf
    for _ in range(30):
        best = min(best, bowl(generation(optimizer, 8)).min())
    optimizer.narrow([0.6] * 5, [0.8] * 5)
    after = [bowl(generation(optimizer, 8)).min() for _ in range(15)]
    fresh = make_optimizer("random", space)
    fresh.narrow([0.6] * 5, [0.8] * 5)
    at_random = min(bowl(generation(fresh, 8)).min() for _ in range(15))
    assert min(after) < at_random


@pytest.mark.parametrize("name", SEARCHES)
def test_when_all_that_is_known_lies_outside_the_search_begins_within(name: str) -> None:
    space = Space([Float(f"x{i}", 0, 1) for i in range(3)])
    optimizer = make(name, space)
    for _ in range(30):
        generation(optimizer, 8)  # gathers around 0.7
    optimizer.narrow([0.0] * 3, [0.3] * 3)
    x = np.concatenate([generation(optimizer, 8) for _ in range(25)])
    assert bowl(x).min() < 3 * 0.4**2 + 0.01  # the corner next to where it would rather be
    assert len(optimizer.ask(30)[0]) == 30


@pytest.mark.parametrize("name", NAMES)
def test_steering_is_exact_through_its_state_at_any_moment(name: str) -> None:
    space = SPACES["mixed"]
    straight, saved = make(name, space), make(name, space)
    given = points_of(space, 9)
    for step in range(8):
        saved = restored(saved)
        for each in (straight, saved):
            if step in (1, 3):
                each.suggest(given[5 * step - 5 : 5 * step])
            if step in (2, 5):
                each.narrow([0.02 * step] * 6, [1 - 0.02 * step] * 6)
        (ids, x), (_, same) = straight.ask(5 + step), saved.ask(5 + step)
        assert keys(x) == keys(same)
        for each in (straight, saved):
            each.tell(ids[::2], bowl(x[::2]))


def test_given_points_are_asked_for_unless_they_are_outside() -> None:
    space = Space([Float("x", 0, 1)])
    points = [{"x": value} for value in (0.1, 0.9, 0.5, 0.5, 0.95)]
    optimizer = make_optimizer({"type": "points", "points": points}, space)
    optimizer.ask(1)
    optimizer.narrow([0.2], [0.92])
    optimizer.suggest(np.array([[0.3]]))
    assert restored(optimizer).ask(9)[1].ravel().tolist() == [0.3, 0.9, 0.5, 0.5]


def test_a_grid_keeps_its_order_behind_narrower_bounds() -> None:
    space = Space([Int("i", 0, 4), Float("x", 0, 1), Int("k", 0, 3)])
    everything, rng = make("grid", space).ask(1000)[1], np.random.default_rng(0)
    for _ in range(100):
        optimizer, low = make("grid", space), rng.random(3)
        high = low + (1 - low) * rng.random(3)
        begun = int(rng.integers(0, 102))
        left = everything[len(optimizer.ask(begun)[0]) :]
        optimizer.narrow(low, high)
        left = left[Box(space, low, high).inside(left)]
        assert (optimizer.ask(6)[1] == left[:6]).all()
        optimizer = restored(optimizer)
        optimizer.narrow(low, np.maximum(low, high - 0.2))
        left = left[6:]
        assert (optimizer.ask(1000)[1] == left[Box(space, low, np.maximum(low, high - 0.2)).inside(left)]).all()


@pytest.mark.parametrize("name", SEARCHES)
def test_more_points_than_members_may_be_asked_for_after_a_restart(name: str) -> None:
    optimizer = make_optimizer({"type": name, "population": 8}, Space([Float("x", 0, 1), Float("y", 0, 1)]))
    first = generation(optimizer, 8)
    for _ in range(200):
        ids, x = optimizer.ask(8)
        optimizer.tell(ids, np.round(bowl(x), 1))
    optimizer.narrow([0.999, 0.999], [1, 1])  # nothing that is known is left
    assert len(first) == 8
    assert len(optimizer.ask(40)[0]) == 40
