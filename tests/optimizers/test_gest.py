"""Our optimizers through the gest-api standard."""

import numpy as np
import pytest
from gest_api.vocs import VOCS

from prefect_simopt.optimizers import make_optimizer
from prefect_simopt.optimizers.gest import SimoptGenerator
from prefect_simopt.space import Float, Space

PLANE = {"x:1": [-5.0, 5.0], "y": [-5.0, 5.0]}


def test_a_search_is_the_search_of_the_optimizer_itself() -> None:
    generator = SimoptGenerator(VOCS(variables=PLANE, objectives={"f": "MAXIMIZE"}), "pso", seed=3, batch=8)
    space = Space([Float("x", -5, 5), Float("y", -5, 5)])
    optimizer = make_optimizer("pso", space, seed=3, batch=8)
    for _ in range(6):
        points, (ids, x) = generator.suggest(), optimizer.ask(8)
        assert [[point["x:1"], point["y"]] for point in points] == [list(p.values()) for p in space.decode(x)]
        assert [point["_id"] for point in points] == ids.tolist()
        values = [point["x:1"] ** 2 + point["y"] ** 2 for point in points]
        generator.ingest([{**point, "f": -value} for point, value in zip(points, values, strict=True)])
        optimizer.tell(ids, values)


def test_constraints_constants_discrete_values_and_failures() -> None:
    vocs = VOCS(
        variables={**PLANE, "n": {1, 2, 3}, "kind": {"b", "a"}, "one": {7}}, objectives={"f": "MINIMIZE"},
        constraints={"low": ["GREATER_THAN", 1.0], "high": ["LESS_THAN", 4.0], "in": ["BOUNDS", 0.0, 3.0]},
        constants={"k": 0.5},
    )  # fmt: skip
    generator, best = SimoptGenerator(vocs, "ga"), np.inf
    for step in range(20):
        results = []
        for point in generator.suggest(16):
            assert (point["one"], point["k"]) == (7, 0.5)
            assert point["n"] in (1, 2, 3)
            assert point["kind"] in ("a", "b")
            total = abs(point["x:1"]) + abs(point["y"])
            results.append({**point, "f": total + point["n"], "low": total, "high": total, "in": total})
            if 1 <= total <= 3:
                best = min(best, total + point["n"])
        results[step % 16]["f"] = float("nan")
        generator.ingest(results)
    assert 2.0 <= best < 2.3


def test_two_objectives_and_the_end_of_a_small_space() -> None:
    generator = SimoptGenerator(VOCS(variables={"i": {1, 2, 3}, "c": {"a", "b"}}, objectives={"f": "MINIMIZE"}), "ga")
    assert len(generator.suggest(4)) == 4
    with pytest.raises(ValueError, match="only 2 new points"):
        generator.suggest(4)
    assert len(generator.suggest(2)) == 2
    several = SimoptGenerator(VOCS(variables=PLANE, objectives={"f": "MINIMIZE", "g": "MAXIMIZE"}))
    several.ingest([{**point, "f": 1.0, "g": point["y"]} for point in several.suggest(5)])
    assert len(several.suggest()) == 16


@pytest.mark.parametrize(("variables", "objectives", "words"), [
    (PLANE, {}, "no objective"), (PLANE, {"f": "EXPLORE"}, "explored"),
    ({"x": "CONTEXTUAL"}, {"f": "MINIMIZE"}, "observed"),
])  # fmt: skip
def test_what_cannot_be_searched_is_refused(variables, objectives, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SimoptGenerator(VOCS(variables=variables, objectives=objectives))


def test_what_was_not_suggested_or_is_incomplete_is_refused() -> None:
    generator = SimoptGenerator(VOCS(variables=PLANE, objectives={"f": "MINIMIZE"}), "pso")
    (point,) = generator.suggest(1)
    for wrong, words in [({"x:1": 0.0, "y": 0.0, "f": 1.0}, "suggested here"), (point, "'f' is missing"),
                         ({**point, "_id": 99, "f": 1.0}, "not pending")]:  # fmt: skip
        with pytest.raises(ValueError, match=words):
            generator.ingest([wrong])
    generator.ingest([{**point, "f": 1.0}])
