"""Every optimizer in any space, with any values: nothing but the promised errors."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefect_simopt.errors import SpecError
from prefect_simopt.optimizers import dump_state, load_state, make_optimizer, optimizer_from_state
from prefect_simopt.space import Categorical, Float, Int, Space

KINDS = [
    lambda name, n: Float(name, -(10.0**n), 10.0**n),
    lambda name, n: Float(name, 10.0**-n, 10.0**n, log=True),
    lambda name, n: Float(name, 0, 1, step=2.0 / n),
    lambda name, n: Int(name, -n, n**3, step=n),
    lambda name, n: Int(name, 1, 10**n, log=True),
    lambda name, n: Categorical(name, list(range(n + 1))),
]
RELATIONS = ["{a} + {b} <= 3", "{a} < {b} + 1", "{a} * {b} >= 0.1", "sqrt({a}) <= 2", "exp({b}) >= 0.5 * {a}"]
NAMES = ["pso", "ga", "sa", "de", "cma", "random", "sobol", "lhs", "grid", "gradient"]


@st.composite
def spaces(draw: Any) -> Space:
    kinds = draw(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(1, 6)), min_size=1, max_size=5))
    parameters = [kind(f"p{i}", n) for i, (kind, n) in enumerate(kinds)]
    places = draw(st.permutations(range(len(parameters))))  # each may depend on those before it
    for at, place in enumerate(places):
        above = [parameters[each] for each in places[:at] if parameters[each].levels]
        if above and draw(st.booleans()):
            parent = draw(st.sampled_from(above))
            values = [parent.decode(np.array([x])).tolist()[0] for x in draw(st.lists(st.floats(0, 1), min_size=1))]
            parameters[place] = parameters[place].model_copy(update={"when": {parent.name: tuple(values)}})
    names = st.sampled_from([parameter.name for parameter in parameters])
    lines = draw(st.lists(st.sampled_from(RELATIONS), max_size=1))
    return Space(parameters, [line.format(a=draw(names), b=draw(names)) for line in lines])


@pytest.mark.parametrize("name", NAMES)
@given(space=spaces(), seed=st.integers(0, 2**32), batch=st.integers(1, 9))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_promises_hold_anywhere(name: str, space: Space, seed: int, batch: int) -> None:
    rng = np.random.default_rng(seed)
    optimizer, pending = make_optimizer(name, space, seed=seed, batch=batch), dict[int, np.ndarray]()
    for _ in range(6):
        try:
            ids, x = optimizer.ask(int(rng.integers(0, 20)))
        except SpecError as error:
            assert error.problems[0].path == "relations"  # noqa: PT017 - any other error is a failure
            return
        assert (space.snap(x) == x).all()
        assert (space.violation(x) == 0).all()
        pending.update(zip(ids.tolist(), x, strict=True))
        assert len({row.tobytes() for row in pending.values()}) == len(pending)
        told = [key for key in pending if rng.random() < 0.6]
        values = rng.standard_normal(len(told)) * 10.0 ** rng.integers(-300, 308)
        values[rng.random(len(told)) < 0.2] = np.nan
        optimizer.tell(told, values, rng.choice([0, 0, 1e-300, 1e300, np.inf, np.nan], size=len(told)))
        for key in told:
            del pending[key]
        data = dump_state(optimizer.state())
        optimizer = optimizer_from_state(load_state(data))
        assert dump_state(optimizer.state()) == data
