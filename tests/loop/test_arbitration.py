"""Fields whose layout depends on the parameters: the trial with the lowest number decides, whichever ended first."""

import random
import time
from contextlib import suppress

import numpy as np
import pytest
from threads import Died, ThreadCompute

from prefect_simopt.api import load_study
from prefect_simopt.loop import Ending, Search
from prefect_simopt.record import Record
from prefect_simopt.session import study_location
from prefect_simopt.simulators.contract import Field
from prefect_simopt.sink import TrialSink
from prefect_simopt.specfile import make_spec
from prefect_simopt.trial import Outcome, Reason, Status
from prefect_simopt.verify import verify


def by_shape(x):
    return {"profile": np.arange(3.0 if x < 0.5 else 4.0) * x}


def by_coordinate(x):
    return {"profile": Field(np.full(3, x), ("r",), coords={"r": [0.0, 0.5, 1.0 if x < 0.5 else 2.0]})}


def by_type(x):
    return {"profile": np.zeros(3, "f4" if x < 0.5 else "f8"), "other": np.ones((2, 2)) * x}


def never(x):
    return {"profile": np.full((3, 2), x), "other": Field(np.arange(4.0), ("r",), "m", {"r": np.arange(4) * 0.5})}


class FieldCompute(ThreadCompute):
    """Simulators that write fields, and end in an order of their own."""

    def __init__(self, function, location, order, die_after=None):
        super().__init__(function, location, 6, die_after)
        self.order, self.location = order, location

    def _run(self, run):
        with self.lock:
            if self.die_after is not None and len(self.calls) >= self.die_after:
                raise Died
            self.calls.append(run.trial)
        sink = TrialSink(self.location, 100, arbitrated=True)
        time.sleep(self.order(run.trial))
        try:
            fields = self.function(**run.parameters)
            digests = {name: sink.put_field(run.trial, name, field) for name, field in fields.items()}
            outcome = Outcome(run.trial, Status.COMPLETE, metrics={"value": run.parameters["x"]}, fields=digests)
        except ValueError as error:
            outcome = Outcome(run.trial, Status.FAILED, reason=Reason.BAD_FIELD, message=str(error))
        sink.put_outcomes([outcome])
        return outcome


ORDERS = {
    "as they come": lambda number: 0.01,
    "backwards": lambda number: max(0.3 - 0.05 * (number % 6), 0.0),
    "the first one last": lambda number: 0.4 if number == 0 else 0.01,
    "at random": lambda number: random.random() * 0.1,
}


def search(folder, function, order, die_after=None):
    spec = make_spec({
        "name": "line", "simulator": {"entrypoint": "line:line"}, "space": [{"name": "x", "low": 0, "high": 1}],
        "optimizer": "random", "budget": {"trials": 18, "failures": 1.0}, "store": str(folder), "seed": 4,
    })  # fmt: skip
    location = study_location(spec)
    record = Record.open(location, spec=spec, provenance={})
    compute = FieldCompute(function, location, ORDERS[order], die_after)
    ending = None
    try:
        with suppress(Died):
            ending = Search(spec, record, compute).run()
    finally:
        compute.close()
        record.close("budget" if ending else "interrupted")
    return ending, load_study(location.url), compute.calls


@pytest.mark.parametrize("function", [by_shape, by_coordinate, by_type])
def test_which_trials_fail_does_not_depend_on_which_ended_first(tmp_path, function):
    prints = {}
    for order in ORDERS:
        ending, study, _ = search(tmp_path / order, function, order)
        assert ending is Ending.BUDGET
        assert verify(study) == []
        prints[order] = study.fingerprint()
        like_first = (study.trials["x"] < 0.5) == (study.trials["x"][0] < 0.5)
        assert (study.trials["status"][like_first] == "complete").all()
        assert (study.trials["reason"][~like_first] == "bad field").all()
        assert 0 < study.counts["failed"] < 18
        for name in study.fields:
            assert sorted(study.fields[name]) == sorted(np.flatnonzero(like_first))
    assert len(set(prints.values())) == 1


@pytest.mark.parametrize("function", [never, by_shape])
@pytest.mark.parametrize("order", ["the first one last", "at random"])
def test_deaths_change_nothing_of_it(tmp_path, function, order):
    _, whole, _ = search(tmp_path / "whole", function, order)
    calls = []
    for die_after in (4, 2, 0, 1, 6, None):
        ending, study, made = search(tmp_path / "broken", function, order, die_after)
        calls += made
    assert ending is Ending.BUDGET
    assert study.fingerprint() == whole.fingerprint()
    assert sorted(calls) == list(range(18))
    assert verify(study) == []


def test_nothing_of_the_decision_is_left_but_its_mark(tmp_path):
    _, study, _ = search(tmp_path, never, "at random")
    names = study_location_names(study)
    assert names == ["field.other.settled", "field.profile.settled", "zarr.json"]
    assert study.counts["complete"] == 18
    assert study.field("other", 7).coords["r"].tolist() == [0.0, 0.5, 1.0, 1.5]


def study_location_names(study):
    return study.location.storage().names("outcomes")
