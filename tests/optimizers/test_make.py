"""Making optimizers from configurations and states, and states as bytes."""

import io
import pickle
from typing import Any, get_args

import numpy as np
import pytest
from pydantic import TypeAdapter

from prefect_simopt import optimizers
from prefect_simopt.errors import SpecError
from prefect_simopt.optimizers import dump_state, load_state, make_optimizer, optimizer_from_state
from prefect_simopt.optimizers.config import OptimizerConfig, PSOConfig
from prefect_simopt.optimizers.make import ENGINES
from prefect_simopt.space import Float, Int, Space

PLANE = [Float("x", -5, 5), Float("y", -5, 5)]
MODELS = get_args(get_args(OptimizerConfig)[0])
POINTS = [{"x": 0.5, "y": 1.0}, {"x": 0.5, "y": 1.0}, {"x": -5, "y": 5}]


def configuration(name: str) -> dict[str, Any]:
    needed = {"points": {"points": POINTS}, "generator": {"entrypoint": "foreign_generators:Climber"}}
    return {"type": name, **needed.get(name, {})}


def test_every_configuration_has_its_engine() -> None:
    assert [model.model_fields["type"].default for model in MODELS] == ["auto", *ENGINES]
    assert [engine.config_type for engine in ENGINES.values()] == list(MODELS)[1:]


@pytest.mark.parametrize("model", MODELS)
def test_every_field_is_a_described_entry_of_a_form(model: Any) -> None:
    assert model.model_config["extra"] == "forbid"
    for name, field in model.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name
    kind = model.model_fields["type"].default
    read = TypeAdapter(OptimizerConfig).validate_python(configuration(kind))
    assert type(read) is model
    assert TypeAdapter(OptimizerConfig).validate_json(read.model_dump_json()) == read


@pytest.mark.parametrize("config", ["pso", {"type": "pso"}, PSOConfig()])
@pytest.mark.parametrize("space", [PLANE, Space(PLANE), [parameter.model_dump() for parameter in PLANE]])
def test_all_forms_of_the_arguments_mean_the_same(config: Any, space: Any) -> None:
    assert (make_optimizer(config, space).ask(4)[1] == make_optimizer("pso", PLANE).ask(4)[1]).all()


@pytest.mark.parametrize(("config", "path"), [
    ({"type": "pso", "population": 1}, "optimizer.population"), ({"type": "pso", "size": 8}, "optimizer.size"),
    ({"type": "grid", "points": 1}, "optimizer.points"), ({"type": "sa", "cooling": 1.0}, "optimizer.cooling"),
    ("annealing", "optimizer.type"), ({}, "optimizer"), (7, "optimizer"),
])  # fmt: skip
def test_a_wrong_configuration_is_refused_with_its_path(config: Any, path: str) -> None:
    with pytest.raises(SpecError) as caught:
        make_optimizer(config, PLANE)
    assert [problem.path for problem in caught.value.problems] == [path]


@pytest.mark.parametrize("name", ["pso", "ga", "sa", "de", "cma"])
def test_generation_size(name: str) -> None:
    assert make_optimizer({"type": name, "population": 12}, PLANE, batch=5).batch == 12
    assert make_optimizer(name, PLANE, batch=5).batch == 5


@pytest.mark.parametrize("arguments", [{"batch": 0}, {"objectives": 0}, {"seed": -1}, {"space": []}])
def test_wrong_arguments(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        make_optimizer("random", **({"space": PLANE} | arguments))


@pytest.mark.parametrize("name", ENGINES)
def test_a_state_alone_says_what_it_is_of(name: str) -> None:
    optimizer = make_optimizer(configuration(name), PLANE, seed=3, batch=5)
    ids, x = optimizer.ask(2)
    optimizer.tell(ids[:1], x[:1].sum(axis=1))
    again = optimizer_from_state(load_state(dump_state(optimizer.state())))
    assert type(again) is type(optimizer)
    assert again.batch == 5
    assert (again.ask(7)[1] == optimizer.ask(7)[1]).all()


def test_given_points_are_asked_as_they_are() -> None:
    optimizer = make_optimizer(configuration("points"), PLANE)
    parts = [optimizer.ask(n)[1] for n in (2, 0, 5, 1)]
    assert [len(part) for part in parts] == [2, 0, 1, 0]
    assert Space(PLANE).decode(np.concatenate(parts)) == [pytest.approx(point) for point in POINTS]


@pytest.mark.parametrize("point", [{"x": 0.5}, {"x": 0.5, "y": 1, "z": 2}, {"x": 0.5, "y": 6}])
def test_a_given_point_must_be_one_of_the_space(point: dict[str, float]) -> None:
    with pytest.raises(SpecError, match=r"optimizer.points\[1\]"):
        make_optimizer({"type": "points", "points": [POINTS[0], point]}, PLANE)


def test_a_foreign_state_is_refused() -> None:
    state = make_optimizer("pso", PLANE).state()
    with pytest.raises(ValueError, match="this version knows pso"):
        optimizer_from_state({"config": {"type": "annealing"}})
    with pytest.raises(ValueError, match="format 99"):
        optimizer_from_state(state | {"format": 99})
    with pytest.raises(ValueError, match="ga"):
        ENGINES["ga"].from_state(state)


def test_bytes_of_a_state() -> None:
    state = {
        "big": 2**200, "text": "ä", "none": None, "nested": [{"a": np.arange(3)}, [True, 1.5]],
        "empty": np.empty((0, 4)), "order": {"b": 1, "a": np.array([np.nan, -0.0])}, "flags": np.array([True, False]),
    }  # fmt: skip
    data = dump_state(state)
    assert data == dump_state({key: state[key] for key in sorted(state, reverse=True)})
    again = load_state(data)
    assert again["big"] == 2**200
    assert again["empty"].shape == (0, 4)
    assert again["nested"][0]["a"].dtype == np.int64
    assert again["order"]["a"].tobytes() == state["order"]["a"].tobytes()  # type: ignore[index, call-overload]
    assert dump_state(again) == data
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        assert "document" in archive.files


@pytest.mark.parametrize("wrong", [np.array([object()]), {1, 2}, object(), np.int64(3)])
def test_nothing_is_pickled(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"\S"):
        dump_state({"wrong": wrong})


def test_bytes_that_are_no_state_are_refused() -> None:
    data = dump_state(make_optimizer("pso", [Int("i", 0, 3)]).state())
    spoilt = bytearray(data)
    spoilt[len(data) // 2] ^= 0xFF
    pickled = io.BytesIO()
    np.savez(pickled, document=np.array([{}], dtype=object))
    for wrong in (b"", b"x", data[:-30], bytes(spoilt), pickle.dumps({}), pickled.getvalue(), b"PK\x03\x04"):
        with pytest.raises(ValueError, match="no optimizer state"):
            load_state(wrong)


def test_the_package_names_what_it_has() -> None:
    assert all(hasattr(optimizers, name) for name in optimizers.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = optimizers.nonsense
