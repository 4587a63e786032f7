"""What simulators see of a parameter that a trial does not have: nothing."""

import pytest

from prefect_simopt.errors import SimulatorError
from prefect_simopt.trial import Reason, Run, Status

NAMES = ["material", "q"]
ABSENT, PRESENT = {"material": "Ag"}, {"material": "TiO2", "q": 3}


def metrics(compute):
    runs = [Run(row, point, seed=row, row=row) for row, point in enumerate([ABSENT, PRESENT])]
    outcomes = [outcome for run in runs for outcome in compute.submit([run]).result(60)]
    assert [outcome.status for outcome in outcomes] == [Status.COMPLETE] * 2, outcomes
    return [outcome.metrics["value"] for outcome in outcomes]


@pytest.mark.parametrize("head", ["material, q=None", "material, **more"])
def test_a_function_is_called_without_it(place, head):
    body = "return -1 if q is None else q" if "q" in head else "return more.get('q', -1)"
    simulator = place.python(f"def simulate({head}):\n    {body}\n")
    assert metrics(place.start(simulator, NAMES, conditional={"q": True})) == [-1, 3]


def test_a_function_that_needs_it_is_refused(place):
    simulator = place.python("def simulate(material, q):\n    return q\n")
    with pytest.raises(SimulatorError, match=r"called without 'q' where .* give it a default, such as q=None"):
        place.start(simulator, NAMES, conditional={"q": True})


def test_a_batch_has_gaps_in_its_columns(place):
    source = """
import numpy as np
from prefect_simopt.simulators.contract import simulator

@simulator(batch=True, batch_size=2)
def simulate(q, label, z):
    assert q.dtype == z.dtype == np.float64
    assert np.isnan(z).all()
    return {"value": np.where(np.isnan(q), [label[0] is None, label[1] is None], q)}
"""
    conditional = {"q": True, "label": False, "z": True}
    compute = place.start(place.python(source), list(conditional), conditional=conditional)
    runs = [Run(0, {}, seed=0), Run(1, {"q": 3, "label": "a"}, seed=1, row=1)]
    assert [outcome.metrics.get("value") for outcome in compute.submit(runs).result(60)] == [1, 3]


PROGRAM = """
import json, os
given = json.load(open("params.json"))["parameters"]
deck = open("deck").read().strip()
assert deck == ("q = 3" if "q" in given else "no q"), deck
json.dump({"value": given.get("q", -1)}, open(os.environ["SIMOPT_OUTPUT"] + "/metrics.json", "w"))
"""


def test_a_program_finds_neither_it_nor_a_variable_of_its_name(place):
    (place.path / "deck.j2").write_text("{% if q is defined %}q = {{ q }}{% else %}no q{% endif %}\n")
    simulator = place.command(PROGRAM, templates={"deck": "deck.j2"})
    assert metrics(place.start(simulator, NAMES, conditional={"q": True})) == [-1, 3]


def test_a_placeholder_for_it_is_refused(place):
    simulator = place.command(PROGRAM, ["{python}", "program.py", "{material}", "--q={q}"])
    with pytest.raises(SimulatorError, match=r"command\[3\]: \{q\} is a parameter that some trials do not have"):
        place.start(simulator, NAMES, conditional={"q": True})


def test_a_template_that_uses_it_unasked_fails_where_it_is_not_there(place):
    (place.path / "deck.j2").write_text("q = {{ q }}\n")
    compute = place.start(place.command(PROGRAM, templates={"deck": "deck.j2"}), NAMES, conditional={"q": True})
    (outcome,) = compute.submit([Run(0, ABSENT, seed=1)]).result(60)
    assert outcome.reason is Reason.EXCEPTION
    assert "'q' is undefined; ask first" in outcome.message
