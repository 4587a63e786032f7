"""Opening a study to work on it: refused before anything starts, finished ones left alone, nothing left of failures."""

import threading
import time
from concurrent.futures import Future

import pytest

from prefect_simopt.api import load_study, optimize, run_untracked
from prefect_simopt.errors import LeaseError, SimulatorError, StudyConflictError
from prefect_simopt.lease import Lease, is_held
from prefect_simopt.loop import Ending
from prefect_simopt.session import StudyFinished, open_session, study_location
from prefect_simopt.space import Float
from prefect_simopt.specfile import make_spec

SIMULATOR = """
from pathlib import Path

with Path("started").open("a") as file:
    file.write("x")

def simulate(x):
    return x
"""


@pytest.fixture
def make(tmp_path):
    """Makes specs of one study, and knows whether its simulator was ever started."""
    (tmp_path / "simulator.py").write_text(SIMULATOR.replace('"started"', repr(str(tmp_path / "started"))))

    def spec(**changes):
        document = {
            "name": "line",
            "simulator": {"entrypoint": "simulator.py:simulate"},
            "space": [{"name": "x", "low": 0, "high": 1}],
            "optimizer": "sobol",
            "budget": {"trials": 8},
            "compute": {"workers": 1},
            "store": str(tmp_path / "down" / "studies"),
            **changes,
        }
        return make_spec(document, directory=tmp_path)

    spec.starts = lambda: len((tmp_path / "started").read_text()) if (tmp_path / "started").exists() else 0
    return spec


def ledger(spec):
    return study_location(spec).storage().read("ledger/000000.jsonl")


def test_what_another_writes_is_refused_before_a_simulator_starts(make):
    lease = Lease(study_location(make()).storage())
    with pytest.raises(LeaseError, match="is being written by process"):
        run_untracked(make())
    lease.release()
    assert make.starts() == 0
    run_untracked(make())


def test_another_question_is_refused_before_a_simulator_starts(make):
    run_untracked(make())
    assert make.starts() == 1
    with pytest.raises(StudyConflictError, match="seed was 0 and is 8"):
        run_untracked(make(seed=8))
    assert make.starts() == 1


def test_a_simulator_that_cannot_start_leaves_no_trace(make, tmp_path):
    before = sorted(tmp_path.iterdir())
    broken = make(simulator={"entrypoint": "simulator.py:missing"})
    with pytest.raises(SimulatorError, match="missing"):
        run_untracked(broken)
    assert sorted(path for path in tmp_path.iterdir() if path.name not in ("started", "__pycache__")) == before
    (tmp_path / "down" / "studies").mkdir(parents=True)
    with pytest.raises(SimulatorError, match="missing"):
        run_untracked(broken)
    assert list((tmp_path / "down" / "studies").iterdir()) == []


def test_a_study_whose_simulator_no_longer_starts_stays_and_is_free(make, tmp_path):
    run_untracked(make())
    before = ledger(make())
    code = (tmp_path / "simulator.py").read_text()
    (tmp_path / "simulator.py").write_text("raise RuntimeError('no licence')")
    with pytest.raises(SimulatorError, match="no licence"):
        run_untracked(make(budget={"trials": 12}))
    assert ledger(make()) == before
    assert not is_held(study_location(make()).storage())
    (tmp_path / "simulator.py").write_text(code)
    run_untracked(make(budget={"trials": 12}))
    assert load_study(study_location(make()).url).counts["complete"] == 12


def test_a_finished_study_is_left_as_it_is_and_says_so(make, tmp_path, caplog):
    ending = run_untracked(make())
    before = ledger(make())
    (tmp_path / "simulator.py").unlink()
    assert run_untracked(make()) is ending
    assert ledger(make()) == before
    assert "is finished (budget); another name, or `new`, asks again" in caplog.text


def test_a_study_that_is_given_back_in_time_is_waited_for(make, caplog):
    lease = Lease(study_location(make()).storage())
    threading.Timer(1.0, lease.release).start()
    run_untracked(make(), wait=60)
    assert "This one waits for it, up to 60 s" in caplog.text
    assert load_study(study_location(make()).url).counts["complete"] == 8


def test_a_study_that_ends_while_another_waits_is_not_run_again(make):
    waited: list[object] = []

    def second():
        try:
            with open_session(make(), wait=60):
                pass
        except StudyFinished as finished:
            waited.append(finished.study.counts["complete"])

    with open_session(make()) as session:
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.7)
        session.search()
    thread.join()
    assert waited == [8]
    assert make.starts() == 1


def double(x):
    return 2 * x


def test_in_python_a_finished_study_is_kept_or_asked_anew(tmp_path, caplog):
    asked = {"space": [Float("x", 0, 1)], "trials": 4, "store": str(tmp_path), "tracked": False}
    names = [optimize(double, **asked, **more).name for more in ({}, {}, {"new": True}, {"new": True})]
    assert names == ["double", "double", "double-2", "double-3"]
    assert "`new`, asks again" in caplog.text


class Dying:
    """A compute whose simulators are hit by the signal that stops the search, while they load."""

    workers, batch_seconds, fill_batches = 1, 1.0, False

    def __init__(self, session, stops):
        self.session, self.stops = session, stops

    def submit(self, runs):
        if self.stops:
            self.session.stop.set()
        future = Future()
        future.set_exception(SimulatorError("killed by SIGTERM"))
        return future

    def cancel(self, grace):
        pass


def test_simulators_that_die_of_what_stops_the_search_are_no_fault_of_theirs(make):
    with open_session(make(), signals=False) as session:
        assert session.search(Dying(session, stops=True)) is Ending.INTERRUPTED
    assert load_study(study_location(make()).url).state == "interrupted"
    with open_session(make(), signals=False) as session, pytest.raises(SimulatorError):
        session.search(Dying(session, stops=False))
    assert run_untracked(make()) is Ending.BUDGET
