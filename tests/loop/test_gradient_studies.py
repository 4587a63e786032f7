"""Studies searched by gradients: from the simulator through outcome and ledger to the optimizer, and after a stop."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prefect_simopt.errors import SimulatorError, SpecError
from prefect_simopt.ledger import Ledger
from prefect_simopt.ranking import Scale
from prefect_simopt.session import open_session
from prefect_simopt.slopes import cube_gradients
from prefect_simopt.space import Categorical, Float, Int, Space
from prefect_simopt.spec import Constraint, Objective
from prefect_simopt.specfile import make_spec
from prefect_simopt.study import open_study
from prefect_simopt.trial import Outcome, Status, Trial, merge

SIMULATORS = '''
import math
import numpy as np
from prefect_simopt.simulators.contract import Result, simulator


@simulator(differentiable=True)
def valley(x, y, n=1):
    import jax.numpy as jnp
    value = 100 * (y - x**2) ** 2 + n * (1 - x) ** 2
    return Result({"value": value, "sum": x + jnp.exp(jnp.log(y + 10.0)) - 10.0}, {"path": jnp.stack([x, y])})


@simulator(batch=True, batch_size=4, differentiable=True)
def valleys(x, y, n=1):
    return {"value": 100 * (y - x**2) ** 2 + n * (1 - x) ** 2}


@simulator(gradients=True)
def own(x, y, n=1):
    slope = {"x": -400 * x * (y - x**2) - 2 * n * (1 - x), "y": 200 * (y - x**2)}
    return Result({"value": 100 * (y - x**2) ** 2 + n * (1 - x) ** 2}, gradients={"value": slope})


@simulator(gradients=True)
def partial(x, y, n=1):
    return Result({"value": x + y}, gradients={"value": {"x": 1.0}})


@simulator(differentiable=True)
def opaque(x, y, n=1):
    return math.hypot(x, y)


@simulator(differentiable=True)
def numeric(x, y, n=1):
    return np.hypot(np.asarray(x), y)


@simulator(differentiable=True)
def constant(x, y, n=1):
    return 3.0


def plain(x, y, n=1):
    return x + y
'''  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "valley.py").write_text(SIMULATORS)
    return tmp_path


def study(folder: Path, function: str, name: str = "valley", **more: Any) -> Any:
    document: dict[str, Any] = {
        "name": name, "simulator": {"entrypoint": f"valley.py:{function}"},
        "space": [{"name": "x", "low": -2, "high": 2}, {"name": "y", "low": -1, "high": 3}],
        "optimizer": {"type": "gradient", "starts": 4}, "budget": {"trials": 80},
        "compute": {"workers": 1}, "store": str(folder / "studies"),
    }  # fmt: skip
    return make_spec(document | more, directory=folder)


def run(spec: Any, trials: int | None = None) -> Any:
    """Search to the end, or until some trials have ended."""

    class Stopper:
        def __getattr__(self, _: str) -> Any:
            return lambda *_: None

        def trial_ended(self, trial: Trial) -> None:
            if trials is not None and trial.number >= trials:
                session.stop.set(0.0)

    with open_session(spec, signals=False) as session:
        session.search(observers=[Stopper()])
    return open_study(str(Path(spec.store.url) / spec.name))


@pytest.mark.parametrize("function", ["valley", "valleys", "own"])
def test_gradients_lead_down_the_valley(folder: Path, function: str) -> None:
    found = run(study(folder, function, budget={"trials": 160}))
    assert found.best.metrics["value"] < 1e-6
    assert set(found.trials["status"]) == {"complete"}


def test_a_stop_and_a_resume_change_nothing(folder: Path) -> None:
    whole = run(study(folder, "own"))
    spec = study(folder, "own", store=str(folder / "other"))
    for trials in (13, 14, 41):
        run(spec, trials)
    assert run(spec).fingerprint() == whole.fingerprint()
    entries = list(Ledger(spec_storage(spec)).replay())
    told = [entry["generated"]["gradients"]["value"] for entry in entries if entry["activity"] == "trial"]
    assert len(told) == 80
    assert all(set(each) == {"x", "y"} for each in told)


def spec_storage(spec: Any) -> Any:
    from prefect_simopt.session import study_location

    return study_location(spec).storage()


def test_constraints_are_differentiated_too_and_fields_kept(folder: Path) -> None:
    spec = study(folder, "valley", constraints=[{"metric": "sum", "high": 1.0}], budget={"trials": 120})
    found = run(spec)
    assert found.best.metrics["sum"] <= 1.0
    assert found.best.metrics["value"] == pytest.approx(0.145, abs=0.02)  # on the border, at about (0.62, 0.38)
    best = found.best
    assert found.fields["path"][best.number] == pytest.approx([best.parameters["x"], best.parameters["y"]])


def test_replicates_are_averaged() -> None:
    one, other = (Outcome(0, Status.COMPLETE, i, {"f": 1.0}, gradients={"f": {"x": x, "y": y}})
                  for i, (x, y) in enumerate([(1.0, 3.0), (2.0, None)]))  # fmt: skip
    assert merge([one, other]).gradients == {"f": {"x": 1.5, "y": None}}


def test_a_simulator_without_gradients_is_refused_and_nothing_written(folder: Path) -> None:
    with pytest.raises(SimulatorError, match=r"the optimizer needs gradients, and it gives none\. Mark it"):
        run(study(folder, "plain"))
    assert not (folder / "studies").exists()


@pytest.mark.parametrize(("function", "words"), [
    ("partial", "the gradient of 'value' by 'y' is missing"), ("constant", "comes back as a plain number"),
    ("opaque", "JAX cannot differentiate the simulator"),
    ("numeric", "JAX cannot differentiate the simulator"),
])  # fmt: skip
def test_a_gradient_that_cannot_be_had_fails_its_trial(folder: Path, function: str, words: str) -> None:
    spec = study(folder, function, budget={"trials": 4, "failures": 1.0}, compute={"workers": 1, "retries": 0})
    with open_session(spec, signals=False) as session:
        ended: list[Trial] = []

        class Listener:
            def __getattr__(self, _: str) -> Any:
                return lambda *_: None

            def trial_ended(self, trial: Trial) -> None:
                ended.append(trial)

        session.search(observers=[Listener()])
    assert all(words in trial.message for trial in ended), ended[0].message
    assert len(ended) == 4


@pytest.mark.parametrize(("change", "words"), [
    ({"simulator": {"command": ["true"]}}, "gradients come from Python simulators"),
    ({"space": [{"name": "x", "type": "int", "low": 0, "high": 9}]}, "need a continuous parameter"),
    ({"objectives": [{"metric": "a"}, {"metric": "b"}]}, "gradient takes one objective, not 2"),
])  # fmt: skip
def test_what_has_no_gradient_is_refused(folder: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        study(folder, "own", **change)


def test_gradients_in_the_unit_cube_are_those_of_what_is_minimized() -> None:
    space = Space([Float("a", 0, 4), Float("b", 1, 100, log=True), Int("n", 0, 9), Categorical("c", ["u", "v"])])
    scale = Scale([Objective(metric="f", direction="maximize")], [Constraint(metric="g", low=0.0, high=1.0)])
    point = {"a": 1.0, "b": 10.0, "n": 3, "c": "u"}
    slopes = {"f": {"a": 3.0, "b": 0.5}, "g": {"a": 1.0, "b": None}}
    trials = [
        Trial(i, point, Status.COMPLETE, {"f": 0.0, "g": g}, gradients=slopes) for i, g in enumerate((0.5, -1, 2))
    ]
    trials += [Trial(3, point, Status.FAILED), Trial(4, point, Status.COMPLETE, {"f": 0.0, "g": 0.0})]
    found = cube_gradients(space, scale, trials)
    value = [-12.0, -5.0 * np.log(100), 0.0, 0.0]
    assert found[:3, 0] == pytest.approx(np.array([value] * 3))
    assert found[0, 1].tolist() == [0.0] * 4
    assert found[1, 1] == pytest.approx([-4.0, np.nan, 0.0, 0.0], nan_ok=True)
    assert found[2, 1] == pytest.approx([4.0, np.nan, 0.0, 0.0], nan_ok=True)
    assert np.isnan(found[3:]).all()
