"""A study with conditional parameters from its file to its report: what is not there is nowhere."""

import json

import numpy as np
import orjson
import pytest
import xarray as xr
from test_loop import search, study, trials

from prefect_simopt.api import load_study
from prefect_simopt.report.html import report_page
from prefect_simopt.summary import summarize

SPACE = [
    {"name": "thick", "low": 10, "high": 90, "when": {"kind": ["film", "stack"]}},
    {"name": "kind", "type": "categorical", "choices": ["bare", "film", "stack"]},
    {"name": "layers", "type": "int", "low": 1, "high": 5, "when": {"kind": "stack"}},
    {"name": "metal", "type": "categorical", "choices": ["Ag", "Au"], "when": {"layers": [1, 2]}},
]
OPTIMIZERS = ["pso", "ga", "sa", "de", "cma", "random", "sobol", "lhs", {"type": "grid", "points": 6}]


def coating(kind, thick=None, layers=None, metal=None):
    assert (thick is None) == (kind == "bare")
    assert (layers is None) == (kind != "stack")
    assert (metal is None) == (layers not in (1, 2))
    if kind == "bare":
        return 0.5
    return abs(thick - 40) / 100 + (0.3 if layers is None else 0.1 * abs(layers - 2)) + 0.05 * (metal == "Au")


def conditional(store, **changes):
    return study(store, **{"space": SPACE, "constraints": [], **changes})


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_deaths_change_nothing(tmp_path, optimizer):
    whole, broken = (conditional(tmp_path / name, optimizer=optimizer) for name in ("whole", "broken"))
    search(whole, coating, workers=3)
    for die_after in (0, 7, 5, 17, None):
        search(broken, coating, die_after=die_after)
    assert trials(whole) == trials(broken)
    assert load_study(tmp_path / "whole/bowl").counts["failed"] == 0


def test_what_is_not_there_is_nowhere(tmp_path):
    search(conditional(tmp_path, optimizer="pso", budget={"trials": 80}), coating)
    found = load_study(tmp_path / "bowl")
    bare = next(number for number in range(80) if found.trial(number).parameters["kind"] == "bare")
    assert found.trial(bare).parameters == {"kind": "bare"}
    assert found.trials.loc[bare, ["thick", "layers", "metal"]].isna().all()
    with xr.open_zarr(found.url) as data:
        numbers = data["parameters"].sel(trial=bare).values
    assert np.isnan(numbers).tolist() == [True, False, True, True]
    best = summarize(found)["best"]["parameters"]
    assert best["kind"] == "stack"
    assert json.loads(orjson.dumps(best)) == best
    assert "nan" not in report_page(found)
    kinds = [found.trial(number).parameters["kind"] for number in range(80)]
    assert kinds.count("bare") == 1  # it is one point, and that is asked for once


def test_a_study_of_other_conditions_is_another_question(tmp_path):
    spec = conditional(tmp_path)
    search(spec, coating)
    other = conditional(tmp_path, space=[{**SPACE[0], "when": {"kind": "film"}}, *SPACE[1:]])
    with pytest.raises(Exception, match=r"space\[0\]\.when"):
        search(other, coating)
