"""Studies with levels of fidelity: what counts, what it costs, and that interruptions change nothing."""

import math

import numpy as np
import pytest
import xarray as xr
from test_loop import search, study, trials

from prefect_simopt.api import load_study
from prefect_simopt.errors import SpecError
from prefect_simopt.loop import Ending
from prefect_simopt.ranking import Scale
from prefect_simopt.report.html import report_page
from prefect_simopt.summary import sentence, summarize

FIDELITY = {"name": "resolution", "low": 10, "high": 80}
LEVELS = [10.0, 28.0, 80.0]
OPTIMIZERS = ["pso", "ga", "sa", "de", "cma", "random", "sobol", "lhs", "grid"]


def bowl(x, n, resolution):
    assert isinstance(resolution, int)
    error = (80 - resolution) / 80
    return {"value": (x - 0.3 - 0.2 * error) ** 2 + 0.1 * (n - 4) ** 2 - 3 * error, "size": x + n}


def flaky(x, n, resolution):
    if x < -2 or (resolution == 28 and n == 3):
        raise ValueError("too far")
    return bowl(x, n, resolution)


def graded(store, **changes):
    return study(store, **{"fidelity": FIDELITY, "budget": {"trials": 75, "failures": 1}, **changes})


@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, {"type": "pso", "mode": "async"}], ids=str)
class TestEveryOptimizer:
    def test_the_best_is_at_the_highest_fidelity(self, tmp_path, optimizer):
        ending, running, calls, _ = search(graded(tmp_path, optimizer=optimizer), bowl)
        found = load_study(tmp_path / "bowl")
        assert (ending, len(calls)) == (Ending.BUDGET, 75)
        fidelities = found.trials["fidelity"].tolist()
        assert sorted(set(fidelities)) == LEVELS
        assert found.best.fidelity == running.progress.ranking.best.fidelity == 80
        values = found.trials["value"].where(found.trials["size"] <= 9)
        assert found.best.metrics["value"] == values[found.trials["fidelity"] == 80].min() > values.min()
        assert found.cost == pytest.approx(sum(each / 80 for each in fidelities))
        assert fidelities[-1] == 80  # what was left went into the best candidates

    def test_deaths_change_nothing(self, tmp_path, optimizer):
        if isinstance(optimizer, dict):
            return  # its order is that in which results came
        whole, broken = (graded(tmp_path / name, optimizer=optimizer) for name in ("whole", "broken"))
        search(whole, flaky, workers=3)
        calls = []
        for die_after in (0, 3, 1, 17, 9, 20, 5, None):
            ending, _, made, _ = search(broken, flaky, die_after=die_after)
            calls += made
        assert ending is Ending.BUDGET
        assert sorted(calls) == [(trial, 0, 0) for trial in range(75)]
        assert trials(whole) == trials(broken)


def test_an_asynchronous_study_is_replayed_from_its_ledger(tmp_path):
    spec = graded(tmp_path, optimizer={"type": "de", "mode": "async"})
    for die_after in (30, 25, None):
        ending, _, _, _ = search(spec, flaky, workers=2, die_after=die_after)
    assert ending is Ending.BUDGET
    assert load_study(tmp_path / "bowl").counts["total"] == 75


@pytest.mark.parametrize("cost", [1, 3.7, 12])
def test_a_cost_is_not_exceeded_and_its_end_is_at_the_top(tmp_path, cost):
    ending, running, _, _ = search(graded(tmp_path, optimizer="pso", budget={"cost": cost}), bowl)
    found = load_study(tmp_path / "bowl")
    assert ending is Ending.BUDGET
    assert cost - 1 < found.cost <= cost + 1e-9
    assert found.cost == pytest.approx(running.progress.cost)
    assert running.progress.told <= running.progress.budget <= running.progress.told * cost / found.cost + 1
    assert found.best.fidelity == found.trials["fidelity"].iloc[-1] == 80


def test_a_cost_without_fidelity_counts_trials(tmp_path):
    ending, _, calls, _ = search(study(tmp_path, budget={"cost": 21.5}))
    assert (ending, len(calls)) == (Ending.BUDGET, 21)


def test_a_larger_budget_goes_on_behind_the_closing_trials(tmp_path):
    search(graded(tmp_path, budget={"trials": 40}), bowl)
    ending, _, calls, _ = search(graded(tmp_path, budget={"trials": 75}), bowl)
    assert (ending, len(calls)) == (Ending.BUDGET, 35)
    assert load_study(tmp_path / "bowl").counts["total"] == 75


def test_it_is_in_the_store_and_shown(tmp_path):
    search(graded(tmp_path), bowl)
    found = load_study(tmp_path / "bowl")
    with xr.open_zarr(found.url) as data:
        stored = data["fidelity"].values[:75]
    fidelities = found.trials["fidelity"].tolist()
    np.testing.assert_array_equal(stored, found.trials["fidelity"])
    assert found.trial(0).fidelity == 10
    assert "resolution" not in found.trial(0).parameters
    summary = summarize(found)
    assert summary["cost"] == pytest.approx(found.cost)
    assert "at the cost of" in sentence(summary)
    page = report_page(found)
    assert f"trial {found.best.number}" in page
    assert f"{fidelities.count(28)} at 28" in page
    assert not math.isnan(found.cost)
    scale = Scale.of(found.spec)
    assert {scale.counts(trial) for trial in found.each()} == {True, False}


@pytest.mark.parametrize("mode", ["generational", "async"])
def test_a_space_that_is_used_up_ends_at_the_top(tmp_path, mode):
    space = [{"name": "x", "low": -5, "high": 5, "step": 5}, {"name": "n", "type": "int", "low": 0, "high": 5}]
    ending, _, _, _ = search(graded(tmp_path, space=space, optimizer={"type": "de", "mode": mode}), bowl, workers=2)
    found = load_study(tmp_path / "bowl").trials
    assert ending is Ending.EXHAUSTED
    assert len(found[found["fidelity"] == 10]) == 18
    assert len(found[found["fidelity"] == 80]) >= 2


def test_given_points_are_at_the_highest(tmp_path):
    points = {"type": "points", "points": [{"x": 0.5, "n": 3}, {"x": 1.5, "n": 2}]}
    search(graded(tmp_path, optimizer=points, budget={"trials": 2}), bowl)
    assert load_study(tmp_path / "bowl").trials["fidelity"].tolist() == [80, 80]


@pytest.mark.parametrize(("changes", "said"), [
    ({"fidelity": {**FIDELITY, "low": 90}}, "fidelity.low: must be below high"),
    ({"fidelity": {**FIDELITY, "low": 10.5}}, "fidelity.low: must be a whole number"),
    ({"fidelity": {**FIDELITY, "low": 0}}, "fidelity.low: must be greater than 0"),
    ({"fidelity": {**FIDELITY, "name": "x"}}, "fidelity.name: 'x' is also a parameter"),
    ({"fidelity": {**FIDELITY, "name": "1st"}}, "fidelity.name: does not fit"),
    ({"fidelity": {**FIDELITY, "step": 10}}, "fidelity.step: unknown key"),
    ({"objectives": [{"metric": "value"}, {"metric": "size"}], "optimizer": "nsga2"}, "objectives: fidelity takes one"),
    ({"budget": {"cost": 0}}, "budget.cost: must be greater than 0"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused(tmp_path, changes, said):
    with pytest.raises(SpecError) as caught:
        graded(tmp_path, **changes)
    assert said in str(caught.value)
