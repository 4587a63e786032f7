"""One table: every kind of simulator, every fault; before it and after it, in the same worker, a run that is well."""

from pathlib import Path

import pytest
from failing import FAULTS, scalar

from prefect_simopt.simulators.config import CommandSimulator, PythonSimulator
from prefect_simopt.trial import Reason, Run, Status

HERE = str(Path(__file__).parent)
WELL = None

# What comes of it: as a Python function, and as a program.
EXPECTED = {
    "exception": (Reason.EXCEPTION, Reason.EXIT),
    "silent": (Reason.EXCEPTION, Reason.EXIT),
    "exit 3": (Reason.EXIT, Reason.EXIT),
    "exit 0": (Reason.EXIT, Reason.MISSING_METRIC),
    "exit text": (Reason.EXIT, Reason.EXIT),
    "_exit": (Reason.EXIT, Reason.MISSING_METRIC),
    "_exit 5": (Reason.EXIT, Reason.EXIT),
    "interrupt": (Reason.EXCEPTION, Reason.KILLED),
    "sigint": (Reason.EXCEPTION, Reason.KILLED),
    "nan": (Reason.NOT_FINITE, Reason.NOT_FINITE),
    "infinity": (Reason.NOT_FINITE, Reason.NOT_FINITE),
    "none": (Reason.BAD_RESULT, Reason.BAD_RESULT),
    "none metric": (Reason.BAD_RESULT, Reason.BAD_RESULT),
    "text": (Reason.BAD_RESULT, Reason.BAD_RESULT),
    "text metric": (Reason.BAD_RESULT, Reason.BAD_RESULT),
    "list": (Reason.BAD_RESULT, Reason.BAD_RESULT),
    "complex": (Reason.BAD_RESULT, Reason.EXIT),
    "huge": (Reason.NOT_FINITE, Reason.NOT_FINITE),
    "refuses": (Reason.BAD_RESULT, Reason.EXIT),
    "other metric": (Reason.MISSING_METRIC, Reason.MISSING_METRIC),
    "no metric": (Reason.MISSING_METRIC, Reason.MISSING_METRIC),
    "bad name": (Reason.BAD_RESULT, Reason.BAD_RESULT),
    "recursion": (Reason.EXCEPTION, Reason.EXIT),
    "memory": (Reason.EXCEPTION, Reason.EXIT),
    "sleep": (Reason.TIMEOUT, Reason.TIMEOUT),
    "deaf": (Reason.TIMEOUT, Reason.TIMEOUT),
    "busy": (Reason.TIMEOUT, Reason.TIMEOUT),
    "busy in C": (Reason.TIMEOUT, Reason.TIMEOUT),
    "stopped": (Reason.TIMEOUT, Reason.TIMEOUT),
    "lazy field": (Reason.TIMEOUT, Reason.TIMEOUT),
    "lazy metric": (Reason.TIMEOUT, Reason.EXIT),
    "sigkill": (Reason.KILLED, Reason.KILLED),
    "sigterm": (Reason.KILLED, Reason.KILLED),
    "group killed": (Reason.KILLED, Reason.KILLED),
    "segfault": (Reason.KILLED, Reason.KILLED),
    "abort": (Reason.KILLED, Reason.KILLED),
    "close everything": (Reason.EXIT, WELL),
    "object field": (Reason.BAD_FIELD, Reason.BAD_FIELD),
    "ragged field": (Reason.BAD_FIELD, Reason.EXIT),
    "field of other shape": (Reason.BAD_FIELD, Reason.BAD_FIELD),
}
EXPECTED |= {fault: (WELL, WELL) for fault in FAULTS if fault not in EXPECTED}
HANGS = [fault for fault, expected in EXPECTED.items() if Reason.TIMEOUT in expected]
# A batch returns arrays of numbers: faults of returned values are others there, in test_compute.py.
LAZY = ["lazy field", "lazy metric"]
STRIKES = [*(fault for fault in HANGS if fault not in LAZY), "exception", "exit 3", "exit 0", "_exit 5",
           "interrupt", "recursion", "memory", "sigkill", "segfault", "abort", "close everything", "nan",
           "leave child", "leave daemon", "fork and return", "close output"]  # fmt: skip
BY_VALUE = ["exception", "exit 3", "_exit 5", "sleep", "segfault", "nan", "leave child", "close output"]


def runs(*values):
    return [Run(trial, {"x": x}, seed=trial, row=trial) for trial, x in enumerate(values)]


def check(outcomes, bad, expected):
    for outcome in outcomes:
        if outcome.trial != bad or expected is WELL:
            assert (outcome.status, outcome.message) == (Status.COMPLETE, "")
            assert outcome.metrics["value"] > 0
        else:
            assert (outcome.status, outcome.reason) == (Status.FAILED, expected), outcome.message
            assert outcome.message
            assert "\n" not in outcome.message
            assert outcome.metrics == {}
            assert "x is " in outcome.output or "_recurse" in outcome.output


def check_place(place, outcomes):
    """The store has the same to say, and keeps what was printed."""
    assert place.outcomes() == {(each.trial, 0, 0): each for each in outcomes}
    assert not list((place.path / "study").rglob("tmp/*"))


@pytest.mark.parametrize("fault", FAULTS)
def test_function(place, fault):
    simulator = PythonSimulator(entrypoint="failing.py:scalar", arguments={"fault": fault}, directory=HERE)
    compute = place.start(simulator, timeout=0.7 if fault in HANGS else 20, required_metrics=["value"])
    outcomes = compute.submit(runs(0.1, 0.9, 0.2)).result(60)
    check(outcomes, 1, EXPECTED[fault][0])
    check_place(place, outcomes)
    assert "x is 0.9" in place.log(1)
    assert "x is 0.2" in place.log(2)


@pytest.mark.parametrize("fault", BY_VALUE)
def test_function_by_value(place, fault):
    def simulate(x):
        return scalar(x, fault)

    simulator = PythonSimulator(entrypoint="unused:unused", directory=HERE)
    compute = place.start(simulator, timeout=0.7 if fault in HANGS else 20, function=simulate)
    outcomes = compute.submit(runs(0.1, 0.9, 0.2)).result(60)
    check(outcomes, 1, EXPECTED[fault][0])
    check_place(place, outcomes)


@pytest.mark.parametrize("fault", STRIKES)
def test_batch(place, fault):
    simulator = PythonSimulator(entrypoint="failing.py:batch", arguments={"fault": fault}, directory=HERE)
    compute = place.start(simulator, timeout=0.7 if fault in HANGS else 20)
    outcomes = compute.submit(runs(0.1, 0.9, 0.2, 0.3, 0.4, 0.5)).result(60)
    if EXPECTED[fault][0] is Reason.TIMEOUT:  # which row hung, nobody knows; the other block is well
        assert [outcome.reason for outcome in outcomes] == [Reason.TIMEOUT] * 4 + [None] * 2
    else:
        check(outcomes, 1, EXPECTED[fault][0])
    check_place(place, outcomes)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "fork and return"])
def test_program(place, fault):
    simulator = CommandSimulator(
        command=["{python}", "failing.py", fault, "{x}"],
        files=["failing.py"],
        fields=[{"name": "ez", "file": "ez.npy"}] if "field" in fault else [],
        environment={"PYTHONPATH": str(Path(HERE).parents[1] / "src")},
        directory=HERE,
    )
    compute = place.start(simulator, timeout=4 if fault in HANGS else 60, required_metrics=["value"])
    outcomes = compute.submit(runs(0.1, 0.9, 0.2)).result(120)
    check(outcomes, 1, EXPECTED[fault][1])
    check_place(place, outcomes)
    assert "x is 0.9" in place.log(1)


def test_two_gigabytes_flow_by(place, monkeypatch):
    monkeypatch.setenv("FLOOD_BYTES", str(2 * 10**9))
    simulator = PythonSimulator(entrypoint="failing.py:scalar", arguments={"fault": "flood"}, directory=HERE)
    compute = place.start(simulator, timeout=120)
    check(compute.submit(runs(0.1, 0.9, 0.2)).result(120), 1, WELL)
    log = place.log(1)
    assert log.startswith("x is 0.9\n")
    assert log.endswith("the flood is over\n")
    assert "bytes left out" in log
    assert len(log) < 70_000
