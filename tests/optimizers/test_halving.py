"""Successive halving: who goes on, what the optimizer is told, and whether it pays on functions of the literature."""

import numpy as np
import pytest

from prefect_simopt.fidelity import Fidelity
from prefect_simopt.optimizers import dump_state, load_state, make_optimizer, optimizer_from_state
from prefect_simopt.optimizers.halving import Halving
from prefect_simopt.space import Categorical, Float, Int, Space

SPACE = Space([Float("x", 0, 1), Float("y", 0, 1, when={"c": "a"}), Categorical("c", ["a", "b"]), Int("n", 0, 400)])
FIDELITY = Fidelity(name="resolution", low=10, high=80)
COSTS = [FIDELITY.cost(value) for value in FIDELITY.values]
OPTIMIZERS = ["pso", "ga", "sa", "de", "cma", "random", "sobol", "lhs", "grid"]


def halving(name, space=SPACE, seed=7, batch=9):
    return Halving(make_optimizer(name, space, seed=seed, batch=batch), len(COSTS), FIDELITY.eta, space.dimensions)


def rough(x, levels):
    """Worse and shifted at low levels."""
    error = (len(COSTS) - 1 - np.asarray(levels)) / 4
    return ((x - 0.6 - 0.1 * error[:, None]) ** 2).sum(axis=1) - error


def test_levels():
    assert FIDELITY.values == [10, 28, 80]
    assert COSTS == [0.125, 0.35, 1.0]
    assert Fidelity(name="r", low=10, high=80, eta=2).values == [10, 20, 40, 80]
    assert Fidelity(name="r", low=10, high=80, levels=3, log=False).values == [10, 45, 80]
    assert Fidelity(name="r", low=1, high=3, levels=9).values == [1, 2, 3]
    assert Fidelity(name="r", low=0.5, high=1, type="float", exponent=3).cost(0.5) == 0.125


def test_of_nine_three_go_on_and_of_those_one():
    search, before = halving("random"), np.empty(0)
    for expected, level in ((9, 0), (3, 1), (1, 2), (9, 0)):
        assert search.step() == (expected, level)
        ids, x = search.ask(9)
        assert [search.levels[key] for key in ids.tolist()] == [level] * expected
        values = x[:, 0]
        if level:
            assert sorted(values) == sorted(before)[:expected]
        before = values
        search.tell(ids, values)


def test_a_failed_or_infeasible_point_does_not_go_on_before_others():
    search = halving("random")
    ids, x = search.ask(9)
    values, violations = np.arange(9.0), np.array([0, 0, 0, 0, 0, 1, 0, 0, 0.0])
    values[:5] = np.nan
    search.tell(ids, values, violations)
    again, on = search.ask(9)
    assert on.tolist() == x[6:].tolist()
    search.tell(again, np.full(3, np.nan))
    assert search.step() == (9, 0)


def test_it_closes_with_the_best_that_were_not_at_the_top():
    search = halving("random")
    for _ in range(7):
        ids, x = search.ask(9)
        search.tell(ids, x[:, 0])
    seen = x[:, 0].min()
    ids, at_top = search.close(4)
    assert [search.levels[key] for key in ids.tolist()] == [2] * 4
    assert at_top[:, 0].min() == seen
    search.tell(ids, at_top[:, 0])
    assert set(search.close(9)[1][:, 0]).isdisjoint(at_top[:, 0])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_order_and_parts_of_tells_make_no_difference_and_a_restored_one_goes_on_exactly(name):
    one, other, rng = halving(name), halving(name), np.random.default_rng(1)
    for step in range(14):
        asked = [each.close(3) if step == 9 else each.ask(5 if step % 4 == 3 else 9) for each in (one, other)]
        (ids, x), (same_ids, same_x) = asked
        assert ids.tolist() == same_ids.tolist()
        assert x.tobytes() == same_x.tobytes()
        values = rough(x, [one.levels[key] for key in ids.tolist()])
        values[step % 5 :: 5] = np.nan
        violations = np.maximum(x[:, 0] - 0.9, 0)
        one.tell(ids, values, violations)
        shuffled = rng.permutation(len(ids))
        for part in np.array_split(shuffled, 3):
            other.tell(ids[part], values[part], violations[part])
            data = dump_state(other.state())
            other = optimizer_from_state(load_state(data))
            assert dump_state(other.state()) == data
        assert dump_state(one.state()) == dump_state(other.state())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_result_at_a_time(name):
    search, rng, reached = halving(name), np.random.default_rng(0), 0
    pending = dict(zip(*map(list, search.ask(7)), strict=True))
    for _ in range(120):
        key = int(rng.choice(list(pending)))
        level = search.levels[key]
        reached += level == len(COSTS) - 1
        search.tell([key], rough(pending.pop(key)[None, :], [level]))
        pending.update(zip(*map(list, search.ask(1)), strict=True))
        assert set(pending) == set(search.levels)
        assert len(pending) == 7
    assert reached >= 5


def test_a_wrong_tell_is_refused_and_changes_nothing():
    search = halving("pso")
    ids, x = search.ask(9)
    search.tell(ids[:2], x[:2, 0])
    before = dump_state(search.state())
    for wrong in (([99], [1.0]), (ids[:1], [1.0]), ([3, 3], [1.0, 2.0]), ([3, 4], [1.0]), ([3], [[1.0]])):
        with pytest.raises(ValueError, match=r"pending|shapes"):
            search.tell(*wrong)
    assert dump_state(search.state()) == before


def hartmann(x, z):
    """K. Kandasamy et al., "Multi-fidelity Bayesian optimisation with continuous approximations", ICML (2017)."""
    weights = np.array([1, 1.2, 3, 3.2]) - 0.1 * (1 - z)
    a = np.array(
        [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
    )
    p = 1e-4 * np.array([
        [1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991], [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ])  # fmt: skip
    return -float((weights * np.exp(-(a * (x - p) ** 2).sum(axis=1))).sum())


def borehole(x, z):
    """S. Xiong, P. Z. G. Qian, C. F. J. Wu, Technometrics 55 (2013) 37-46: water from a borehole, and a cheap form."""
    low = np.array([0.05, 100, 63070, 990, 63.1, 700, 1120, 9855])
    high = np.array([0.15, 50000, 115600, 1110, 116, 820, 1680, 12045])
    rw, r, tu, hu, tl, hl, length, kw = low + x * (high - low)
    rest = 2 * length * tu / (np.log(r / rw) * rw**2 * kw) + tu / tl
    exact = 2 * np.pi * tu * (hu - hl) / (np.log(r / rw) * (1 + rest))
    return -float(z * exact + (1 - z) * 5 * tu * (hu - hl) / (np.log(r / rw) * (1.5 + rest)))


def found(function, d, name, seed, cost, *, halved, noise=0.0):
    """The best exact value among the points that were tried at the top, for so much cost."""
    rng, space = np.random.default_rng(seed), Space([Float(f"x{i}", 0, 1) for i in range(d)])
    search = make_optimizer(name, space, seed=seed, batch=16)
    search, best = Halving(search, len(COSTS), FIDELITY.eta, d) if halved else search, np.inf
    while cost > 1.0:
        level = len(COSTS) - 1
        if halved:
            ready, level = search.step()
            closing = ready * COSTS[level] > cost - 2
            ids, x = search.close(int(cost)) if closing else search.ask(ready)
            level = len(COSTS) - 1 if closing else level
        else:
            ids, x = search.ask(min(16, int(cost)))
        cost -= len(ids) * COSTS[level]
        values = np.array([function(point, FIDELITY.values[level] / 80) for point in x])
        search.tell(ids, values + noise * rng.standard_normal(len(ids)))
        best = min(best, values.min()) if level == len(COSTS) - 1 else best
    return best


@pytest.mark.parametrize(("function", "d", "noise"), [(hartmann, 6, 0.0), (hartmann, 6, 0.1), (borehole, 8, 0.0)])
@pytest.mark.parametrize("name", ["pso", "de", "cma"])
def test_it_finds_more_for_the_same_cost(function, d, noise, name):
    """Of the distance to the published optima less than half is left, in the median of seven seeds."""
    optimum = -3.32237 if function is hartmann else -309.58
    plain, halved = (
        np.median([found(function, d, name, seed, 60, halved=halved, noise=noise) for seed in range(7)]) - optimum
        for halved in (False, True)
    )
    assert -1e-3 < halved < 0.5 * plain
