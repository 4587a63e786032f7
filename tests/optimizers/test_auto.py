"""What `auto` picks, and that a study keeps what was picked for it."""

import numpy as np
import pytest

from prefect_simopt.optimizers import make_optimizer
from prefect_simopt.optimizers.auto import choose
from prefect_simopt.optimizers.config import AutoConfig
from prefect_simopt.session import open_session, pick_optimizer
from prefect_simopt.space import Categorical, Float, Int, Space
from prefect_simopt.spec import StudySpec
from prefect_simopt.study import open_study

PLANE = Space([Float("x", 0, 1), Float("y", 0, 1)])
MIXED = Space([Float("x", 0, 1), Int("i", 0, 9)])
BRANCHED = Space([Float("x", 0, 1), Float("y", 0, 1, when={"c": "a"}), Categorical("c", ["a", "b"])])
SMALL = Space([Int("i", 0, 9), Categorical("c", ["a", "b"])])


@pytest.mark.parametrize(("space", "facts", "expected"), [
    (PLANE, {"trials": 99}, "pso"), (PLANE, {"trials": 100}, "cma"), (PLANE, {"objectives": 2}, "nsga2"),
    (MIXED, {"trials": 500}, "pso"), (BRANCHED, {"trials": 500}, "pso"), (SMALL, {"trials": 20}, "grid"),
    (SMALL, {"trials": 19}, "pso"), (SMALL, {"trials": 20, "objectives": 3}, "nsga2"),
])  # fmt: skip
def test_the_pick_follows_space_budget_and_objectives(space: Space, facts: dict[str, int], expected: str) -> None:
    config, reason = choose(AutoConfig(), space, **facts)
    assert config.type == expected
    assert reason.startswith(f"{expected}, since ")


def test_noise_parallelism_and_settings_count() -> None:
    config, reason = choose(AutoConfig(mode="async"), PLANE, trials=500, parallel=64, replicates=3)
    assert (config.type, config.model, config.population, config.mode) == ("cma", False, 64, "async")
    assert "noise" in reason
    assert choose(AutoConfig(population=5), PLANE, parallel=64)[0].population == 5
    assert choose(AutoConfig(model=False), PLANE, trials=20)[0].model is False


def test_made_by_name_it_is_the_one_picked() -> None:
    ids, x = make_optimizer("auto", PLANE).ask(4)
    assert ids.tolist() == [0, 1, 2, 3]
    assert (x == make_optimizer("cma", PLANE).ask(4)[1]).all()
    assert make_optimizer("auto", PLANE, objectives=2).tell([], np.empty((0, 2))) is None


def half_bowl(x: float, y: float) -> float:
    return (x - 0.3) ** 2 + y


def test_a_larger_budget_keeps_what_was_picked(tmp_path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "prefect_simopt")

    def run(trials: int) -> str:
        spec = StudySpec(
            name="auto", simulator={"entrypoint": "unnamed:half_bowl"}, space=PLANE.parameters,
            budget={"trials": trials}, store={"url": str(tmp_path)}, compute={"workers": 1},
        )  # fmt: skip
        assert spec.optimizer.type == "auto"
        with open_session(spec, function=half_bowl, signals=False) as session:
            session.search()
        return str(session.optimizer.type)

    assert run(40) == "pso"
    assert run(200) == "pso"
    study = open_study(f"{tmp_path}/auto")
    assert study.counts["complete"] == 200
    assert study.attributes["provenance"]["optimizer"]["type"] == "pso"
    assert [record.message for record in caplog.records if "optimizer: " in record.message] == [
        "optimizer: pso, since 40 trials for 2 parameters are few (below 50 for each)",
        "optimizer: pso, which was picked when the study began",
    ]


def test_what_the_spec_names_is_not_picked() -> None:
    spec = StudySpec(
        name="named", simulator={"entrypoint": "a:b"}, space=PLANE.parameters, optimizer={"type": "sa", "step": 0.1}
    )
    assert pick_optimizer(spec)[0] == spec.optimizer
