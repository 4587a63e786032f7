"""Other people's generators: every property of an optimizer, exact resumes, and clear words for what is wrong."""

import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from optimizer_contract import SPACES, OptimizerContract, bowl

from prefect_simopt.errors import SpecError
from prefect_simopt.optimizers import dump_state, load_state, make_optimizer, optimizer_from_state
from prefect_simopt.session import open_session
from prefect_simopt.space import Float, Space
from prefect_simopt.specfile import load_spec
from prefect_simopt.study import open_study

HERE = str(Path(__file__).parent)
PLANE = Space([Float("x", -5, 5), Float("y", -5, 5)])


def config(name: str, **arguments: Any) -> dict[str, Any]:
    entrypoint = f"foreign_generators.py:{name}"
    return {"type": "generator", "entrypoint": entrypoint, "directory": HERE, "arguments": arguments}


class TestGenerator(OptimizerContract):
    config: ClassVar = config("Climber")
    several_objectives = True

    @pytest.fixture(params=["mixed", "conditional"])
    def space(self, request: pytest.FixtureRequest) -> Space:
        return SPACES[request.param]

    @pytest.mark.slow  # a shorter form of it is below
    def test_state_goes_on_bit_for_bit_in_a_new_process_after_every_tell(self) -> None:
        super().test_state_goes_on_bit_for_bit_in_a_new_process_after_every_tell()

    def test_state_does_not_grow(self) -> None:
        """It does, as the docs say: by what is known of each trial."""
        optimizer, sizes = self.make(SPACES["continuous"]), []
        for _ in range(12):
            ids, x = optimizer.ask(16)
            optimizer.tell(ids, bowl(x))
            sizes.append(len(dump_state(optimizer.state())))
        assert sizes[-1] - sizes[5] < 6 * 16 * 100


@pytest.mark.parametrize("made", [config("Climber"), config("Evolution"), config("gest", optimizer="de")])
def test_any_generator_searches_and_goes_on_exactly(made: dict[str, Any]) -> None:
    straight = make_optimizer(made, PLANE, seed=3, batch=8)
    restored, best = make_optimizer(made, PLANE, seed=3, batch=8), np.inf
    for step in range(16):
        restored = optimizer_from_state(load_state(dump_state(restored.state())))
        (ids, x), (_, same) = straight.ask(8), restored.ask(8)
        assert x.tobytes() == same.tobytes()
        values = bowl(x)
        best = min(best, values.min())
        values[step % 8] = np.nan if step % 5 == 0 else values[step % 8]
        for each in (straight, restored):
            each.tell(ids[4:], values[4:])
            each.tell(ids[:4], values[:4], np.zeros(4))
    assert best < 5e-3
    assert dump_state(straight.state()) == dump_state(restored.state())


def test_values_are_those_of_the_points_that_were_simulated() -> None:
    """Not of those that were suggested, where relations or steps move them."""
    space = Space([Float("x", 0, 1, step=0.25), Float("y", 0, 1)], ["x + y <= 0.5"])
    optimizer = make_optimizer(config("Climber"), space)
    told: list[Any] = []
    optimizer._generator.ingest = told.extend  # type: ignore[attr-defined]
    ids, x = optimizer.ask(6)
    optimizer.tell(ids[:5], bowl(x[:5]), [0.0, 0.0, 0.5, 0.0, 0.0])
    optimizer.ask(1)
    assert [[each["x"], each["y"]] for each in told] == [list(point.values()) for point in space.decode(x[:5])]
    assert [each["value"] for each in told] == bowl(x[:5]).tolist()
    assert [each["violation"] for each in told] == [0.0, 0.0, 0.5, 0.0, 0.0]


def test_a_generator_that_ends_ends_the_search() -> None:
    optimizer = make_optimizer(config("Short"), PLANE, batch=4)
    assert [len(optimizer.ask(4)[0]) for _ in range(4)] == [4, 4, 2, 0]


def test_several_objectives_have_numbers() -> None:
    optimizer = make_optimizer(config("Climber"), PLANE, objectives=2)
    ids, x = optimizer.ask(4)
    optimizer.tell(ids, np.stack([bowl(x), -bowl(x)], axis=1))
    assert len(optimizer.ask(4)[0]) == 4
    with pytest.raises(SpecError, match=r"failed in make.*unexpected keyword argument 'objectives'"):
        make_optimizer(config("Evolution"), PLANE, objectives=2)


def test_one_that_is_not_deterministic_is_refused_at_once() -> None:
    with pytest.raises(SpecError, match="is not deterministic: a second one with the same seed suggests other points"):
        make_optimizer(config("Careless"), PLANE).ask(4)


def test_one_that_turns_out_not_to_be_deterministic_is_refused_by_a_resume() -> None:
    optimizer = begun("Forgetful")
    with pytest.raises(SpecError, match="is not deterministic: called as it was before the study was interrupted"):
        optimizer_from_state(optimizer.state())


def begun(name: str) -> Any:
    """A search after its first generation, and on its way into the second."""
    optimizer = make_optimizer(config(name), PLANE)
    ids, x = optimizer.ask(4)
    optimizer.tell(ids, bowl(x))
    optimizer.ask(4)
    return optimizer


@pytest.mark.parametrize(("name", "words"), [
    ("Lacking", "suggests a point without 'y'"), ("Beyond", "suggests x = nan, which is no number"),
    ("Generous", "suggests 5 points where 4 were asked for"), ("nothing", r"type NoneType without suggest and ingest"),
    ("Broken", r"failed in ingest\(\): RuntimeError: no idea \(.*foreign_generators.py, line \d+\)"),
    ("Leaving", r"failed in suggest\(\): SystemExit: enough"), ("Clmber", "did you mean 'Climber'"),
])  # fmt: skip
def test_what_is_wrong_with_a_generator_is_said(name: str, words: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        begun(name)
    assert caught.value.problems[0].path == "optimizer.entrypoint"


def test_the_example_of_the_docs_is_a_study_with_a_file_beside_it(tmp_path: Path) -> None:
    page = (Path(HERE).parents[1] / "docs" / "optimizers.md").read_text()
    (example,) = re.findall(r"```python\n(# evolution.py\n.*?)```", page, re.DOTALL)
    (tmp_path / "evolution.py").write_text(example)
    (tmp_path / "bowl.py").write_text("def bowl(x, y):\n    return x * x + y * y\n")
    (tmp_path / "study.yaml").write_text(
        "name: s\nsimulator: {entrypoint: 'bowl.py:bowl'}\nbudget: {trials: 90}\n"
        "space: [{name: x, type: float, low: -5, high: 4}, {name: y, type: float, low: -5, high: 4}]\n"
        "optimizer: {type: generator, entrypoint: 'evolution.py:Evolution', population: 9}\ncompute: {workers: 1}\n"
    )
    spec = load_spec(tmp_path / "study.yaml", [f"store={tmp_path / 'studies'}"])
    assert "directory" not in spec.question["optimizer"]

    class Stopper:
        def __getattr__(self, _: str) -> Any:
            return lambda *_: None

        def generation_completed(self, number: int, _: Any) -> None:
            if number == 4:
                session.stop.set(0.0)

    for observers in ([Stopper()], []):
        with open_session(spec, signals=False) as session:
            session.search(observers=observers)
    study = open_study(f"{tmp_path}/studies/s")
    assert len(study.trials) == 90
    assert study.best.metrics["value"] < 0.1
