import math
import threading
from contextlib import suppress
from typing import ClassVar

import pytest
from threads import Died, ThreadCompute

from prefect_simopt.api import load_study
from prefect_simopt.errors import SpecError, StudyConflictError
from prefect_simopt.loop import Ending, Search
from prefect_simopt.optimizers import dump_state, load_state
from prefect_simopt.record import Record
from prefect_simopt.search_state import SearchState
from prefect_simopt.session import study_location
from prefect_simopt.specfile import make_spec

OPTIMIZERS = ["pso", "ga", "sa", "random", "sobol", "lhs", {"type": "grid", "points": 6}]


def bowl(x, n):
    return {"value": (x - 0.3) ** 2 + 0.1 * (n - 4) ** 2, "size": x + n}


def flaky(x, n):
    if x < -2:
        raise ValueError("too far")
    return bowl(x, n)


def study(store, **changes):
    document = {
        "name": "bowl",
        "simulator": {"entrypoint": "bowl:bowl"},
        "space": [{"name": "x", "low": -5, "high": 5}, {"name": "n", "type": "int", "low": 0, "high": 9}],
        "constraints": [{"metric": "size", "high": 9}],
        "budget": {"trials": 40},
        "store": str(store),
        **changes,
    }
    return make_spec(document)


class Watcher:
    def __init__(self):
        self.trials = []

    def generation_started(self, number, trials):
        pass

    def trial_ended(self, trial):
        self.trials.append(trial)

    def generation_completed(self, number, progress):
        self.progress = progress


def search(spec, function=bowl, workers=1, die_after=None, stop_at=None):
    """Run a study until it ends or dies; returns how, the search, the calls made, and what was seen."""
    location = study_location(spec)
    record = Record.open(location, spec=spec, provenance={})
    compute = ThreadCompute(function, location, workers, die_after)
    watcher = Watcher()
    running = Search(spec, record, compute, observers=[watcher])
    if stop_at is not None:
        watcher.trial_ended = lambda trial: trial.number >= stop_at and running.stop.set(grace=1)
    ending = None
    try:
        with suppress(Died):
            ending = running.run()
    finally:
        compute.close()
        record.close(ending.name.lower() if ending else "died")
    return ending, running, compute.calls, watcher


def trials(spec):
    from prefect_simopt.study import open_study

    return open_study(study_location(spec).url).fingerprint()


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
class TestEveryOptimizer:
    def test_runs_the_budget(self, tmp_path, optimizer):
        ending, running, calls, _ = search(study(tmp_path, optimizer=optimizer))
        assert ending is Ending.BUDGET
        assert running.progress.told == running.progress.complete == 40
        assert [trial for trial, _, _ in sorted(calls)] == list(range(40))

    def test_workers_change_nothing(self, tmp_path, optimizer):
        one, four = (study(tmp_path / name, optimizer=optimizer) for name in ("one", "four"))
        search(one, workers=1)
        search(four, workers=4)
        assert trials(one) == trials(four)

    def test_deaths_change_nothing_and_no_recorded_trial_runs_again(self, tmp_path, optimizer):
        whole, broken = (study(tmp_path / name, optimizer=optimizer) for name in ("whole", "broken"))
        search(whole)
        calls = []
        for die_after in (0, 3, 1, 17, 5, None):
            ending, _, made, _ = search(broken, die_after=die_after)
            calls += made
        assert ending is Ending.BUDGET
        assert sorted(calls) == [(trial, 0, 0) for trial in range(40)]
        assert trials(whole) == trials(broken)

    def test_a_finished_study_runs_nothing(self, tmp_path, optimizer):
        spec = study(tmp_path, optimizer=optimizer)
        search(spec)
        ending, _, calls, _ = search(spec)
        assert (ending, calls) == (Ending.BUDGET, [])

    def test_a_larger_budget_goes_on(self, tmp_path, optimizer):
        search(study(tmp_path, optimizer=optimizer))
        _ending, running, calls, _ = search(study(tmp_path, optimizer=optimizer, budget={"trials": 55}))
        assert running.progress.told == 55
        assert sorted(trial for trial, _, _ in calls) == list(range(40, 55))

    def test_a_stop_is_resumed(self, tmp_path, optimizer):
        whole, stopped = (study(tmp_path / name, optimizer=optimizer) for name in ("whole", "stopped"))
        search(whole)
        ending, _, first, _ = search(stopped, stop_at=9)
        assert ending is Ending.INTERRUPTED
        ending, _running, rest, _ = search(stopped)
        assert ending is Ending.BUDGET
        assert sorted(first + rest) == [(trial, 0, 0) for trial in range(40)]
        assert trials(whole) == trials(stopped)


def test_failed_trials_are_told_and_counted(tmp_path):
    ending, running, _, watcher = search(study(tmp_path, optimizer="random"), flaky)
    assert ending is Ending.BUDGET
    assert running.progress.failed == sum(trial.parameters["x"] < -2 for trial in watcher.trials) > 0
    assert all("too far" in trial.message for trial in watcher.trials if trial.parameters["x"] < -2)


def test_too_many_failures_end_the_study(tmp_path):
    def broken(x, n):
        raise RuntimeError("no licence")

    ending, running, calls, _ = search(study(tmp_path, optimizer="pso"), broken)
    assert ending is Ending.FAILURES
    assert len(calls) == 16
    assert running.progress.ranking.best is None


def test_retries_are_counted_recorded_and_survive_a_death(tmp_path):
    tried = []

    def second_time(x, n):
        tried.append(x)
        if tried.count(x) < 3:
            raise RuntimeError("try again")
        return bowl(x, n)

    spec = study(tmp_path, optimizer="random", budget={"trials": 8}, compute={"retries": 3, "retry_delay": 0.001})
    search(spec, second_time, die_after=5)
    _ending, running, calls, _ = search(spec, second_time)
    assert running.progress.complete == 8
    assert max(attempt for _, _, attempt in calls) == 2
    assert all(tried.count(x) == 3 for x in tried)


def test_replicates_have_their_own_seeds_and_give_means_and_errors(tmp_path):
    values = iter(range(1000))
    lock = threading.Lock()

    def noisy(x, n):
        with lock:
            return {"value": float(next(values)), "size": 0.0}

    spec = study(tmp_path, optimizer="random", budget={"trials": 4}, replicates=3)
    _, _running, calls, watcher = search(spec, noisy)
    assert len(calls) == 12
    assert len(set(calls)) == 12
    first = watcher.trials[0]
    assert first.metrics["value"] == 1.0
    assert first.errors["value"] == pytest.approx(1 / math.sqrt(3))


@pytest.mark.parametrize(
    ("budget", "objectives", "expected"),
    [
        ({"trials": 4000, "patience": 20}, None, Ending.PATIENCE),
        ({"trials": 4000}, [{"metric": "value", "target": 0.5}], Ending.TARGET),
        ({"trials": 4000, "wall_time": 0.05}, None, Ending.WALL_TIME),
    ],
)
def test_other_ends(tmp_path, budget, objectives, expected):
    changes = {"objectives": objectives} if objectives else {}
    ending, running, *_ = search(study(tmp_path, budget=budget, **changes))
    assert ending is expected
    assert running.progress.told < 4000


def test_a_used_up_space_ends_the_study(tmp_path):
    space = [{"name": "x", "low": 0, "high": 1, "step": 0.5}, {"name": "n", "type": "int", "low": 0, "high": 1}]
    ending, running, *_ = search(study(tmp_path, space=space, optimizer="random"))
    assert ending is Ending.EXHAUSTED
    assert running.progress.told == 6


def test_several_objectives_keep_the_pareto_set(tmp_path):
    spec = study(tmp_path, optimizer="sobol", objectives=[{"metric": "value"}, {"metric": "size"}], constraints=[])
    _, running, _, watcher = search(spec)
    pareto = running.progress.ranking.pareto
    points = [(trial.metrics["value"], trial.metrics["size"]) for trial in watcher.trials]
    front = [p for p in points if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points)]
    assert sorted((t.metrics["value"], t.metrics["size"]) for t in pareto) == sorted(front)


class TestAsynchronous:
    optimizer: ClassVar = {"type": "pso", "mode": "async"}

    def test_runs_the_budget_and_keeps_workers_busy(self, tmp_path):
        barrier = threading.Barrier(3, timeout=20)

        def together(x, n):
            barrier.wait()
            return bowl(x, n)

        spec = study(tmp_path, optimizer=self.optimizer, budget={"trials": 30})
        ending, _running, calls, _ = search(spec, together, workers=3)
        assert ending is Ending.BUDGET
        assert sorted(trial for trial, _, _ in calls) == list(range(30))

    def test_one_worker_is_deterministic_also_over_deaths(self, tmp_path):
        whole, broken = (study(tmp_path / name, optimizer=self.optimizer) for name in ("whole", "broken"))
        search(whole)
        calls = []
        for die_after in (0, 3, 1, 17, None):
            ending, _, made, _ = search(broken, die_after=die_after)
            calls += made
        assert ending is Ending.BUDGET
        assert sorted(calls) == [(trial, 0, 0) for trial in range(40)]
        assert trials(whole) == trials(broken)

    def test_a_replay_of_the_ledger_gives_the_same_state(self, tmp_path):
        spec = study(tmp_path, optimizer=self.optimizer, budget={"trials": 60})
        for die_after in (25, 9):
            search(spec, workers=4, die_after=die_after)
        states = []
        for _ in range(2):
            location = study_location(spec)
            record = Record.open(location, spec=spec, provenance={})
            again = Search(spec, record, ThreadCompute(bowl, location))
            again._replay_async(again._restore())
            states.append(again._state.dump())
            record.close("died")
        assert states[0] == states[1]
        ending, _, _calls, _ = search(spec, workers=4)
        assert ending is Ending.BUDGET


def test_given_points_are_run_as_they_are(tmp_path):
    points = [{"x": 1.5, "n": 3}, {"x": -5, "n": 9}, {"x": 1.5, "n": 3}]
    spec = study(tmp_path, optimizer={"type": "points", "points": points})
    ending, _, _calls, watcher = search(spec)
    assert ending is Ending.EXHAUSTED
    assert [dict(trial.parameters) for trial in watcher.trials] == points


@pytest.mark.parametrize(
    ("point", "said"),
    [({"x": 1}, "n: is missing"), ({"x": 9, "n": 1}, "outside the space"), ({"x": 1, "n": 1, "z": 0}, "no parameter")],
)
def test_a_wrong_point_is_refused(tmp_path, point, said):
    with pytest.raises(SpecError, match=said):
        study(tmp_path, optimizer={"type": "points", "points": [point]})


class TestResumes:
    """What must hold however a study was cut into runs."""

    @pytest.mark.parametrize("optimizer", ["pso", "lhs", {"type": "ga", "mode": "async"}], ids=str)
    def test_a_checkpoint_at_any_moment_loses_nothing(self, tmp_path, monkeypatch, optimizer):
        monkeypatch.setattr("prefect_simopt.loop.CHECKPOINT_SECONDS", 0.0)
        whole, broken = (study(tmp_path / name, optimizer=optimizer) for name in ("whole", "broken"))
        search(whole)
        calls = []
        for die_after in (3, 2, 0, 1, 9, 17, 1, None):
            calls += search(broken, die_after=die_after)[2]
        assert sorted(calls) == [(trial, 0, 0) for trial in range(40)]
        assert trials(whole) == trials(broken)

    @pytest.mark.parametrize("replicates", [1, 2])
    def test_retries_are_bounded_over_all_runs(self, tmp_path, replicates):
        def broken(x, n):
            raise RuntimeError("no licence")

        budget = {"trials": 3, "failures": 1.0}
        compute = {"retries": 4, "retry_delay": 0.0}
        spec = study(tmp_path, optimizer="random", budget=budget, compute=compute, replicates=replicates)
        calls = []
        for die_after in (1, 2, 1, 1, 3, 1, None):
            ending, _, made, _ = search(spec, broken, die_after=die_after)
            calls += made
        assert ending is Ending.BUDGET
        assert sorted(calls) == [(t, r, a) for t in range(3) for r in range(replicates) for a in range(5)]

    def test_batches_are_numbered_on(self, tmp_path):
        spec = study(tmp_path, optimizer="random", compute={"trials_per_task": 4})
        for die_after in (8, 12, None):
            search(spec, die_after=die_after)
        batches = load_study(study_location(spec).url).trials["batch"]
        known = batches[batches >= 0]  # those of a run that was killed are not known
        assert known.value_counts().max() <= 4
        assert len(known) >= 20

    def test_a_kill_before_the_first_checkpoint_keeps_the_plan_of_a_sampler(self, tmp_path):
        location = study_location(spec := study(tmp_path, optimizer="lhs"))
        Record.open(location, spec=spec, provenance={}).close("died")
        search(spec, die_after=5)
        search(study(tmp_path, optimizer="lhs", budget={"trials": 55}))
        search(whole := study(tmp_path / "whole", optimizer="lhs"))
        both = [load_study(study_location(each).url).trials[["x", "n"]][:40] for each in (spec, whole)]
        assert both[0].equals(both[1])

    @pytest.mark.parametrize("optimizer", ["pso", "random", "ga", {"type": "cma", "mode": "async"}], ids=str)
    def test_a_space_that_is_nearly_used_up_is_replayed(self, tmp_path, optimizer):
        space = [{"name": "x", "low": 0, "high": 1, "step": 0.25}, {"name": "n", "type": "int", "low": 0, "high": 4}]
        relations = ["x + n <= 4.5"]
        whole, broken = (
            study(tmp_path / name, space=space, relations=relations, optimizer=optimizer)
            for name in ("whole", "broken")
        )
        search(whole)
        calls = []
        for die_after in (5, 14, 2, 1, None):
            ending, _, made, _ = search(broken, die_after=die_after)
            calls += made
        assert ending is Ending.EXHAUSTED
        assert sorted(calls) == [(trial, 0, 0) for trial in range(23)]
        assert trials(whole) == trials(broken)

    def test_looking_in_vain_for_a_point_is_replayed(self, tmp_path):
        """Workers that get no point, as others hold the last ones, have changed the optimizer's random numbers."""
        space = [{"name": "x", "low": 0, "high": 1, "step": 0.5}, {"name": "n", "type": "int", "low": 0, "high": 3}]
        barrier = threading.Barrier(2)

        def slow(x, n):
            with suppress(threading.BrokenBarrierError):
                barrier.wait(0.05)
            return bowl(x, n)

        spec = study(tmp_path, space=space, optimizer={"type": "ga", "mode": "async"}, relations=["x + n <= 3.2"])
        for die_after in (4, 5, 1, None):
            ending, _, _, _ = search(spec, slow, workers=4, die_after=die_after)
        assert ending is Ending.EXHAUSTED


def test_a_stop_does_not_wait_for_a_retry(tmp_path):
    tried = []

    def once(x, n):
        tried.append(x)
        if len(tried) == 1:
            raise RuntimeError("try again in an hour")
        return bowl(x, n)

    budget, compute = {"trials": 4, "failures": 1.0}, {"retries": 1, "retry_delay": 3600}
    spec = study(tmp_path, optimizer="random", budget=budget, compute=compute)
    ending, _, calls, _ = search(spec, once, stop_at=3)
    assert ending is Ending.INTERRUPTED
    assert len(calls) == 4
    ending, running, calls, _ = search(spec, once)
    assert ending is Ending.BUDGET
    assert calls == [(0, 0, 1)]
    assert running.progress.complete == 4


def test_the_state_of_another_version_is_refused_in_words():
    spec = make_spec({
        "name": "old",
        "simulator": {"entrypoint": "m:f"},
        "space": [{"name": "x", "type": "float", "low": 0, "high": 1}],
        "optimizer": "pso",
    })  # fmt: skip
    state = load_state(SearchState(spec, lambda *_: 0).dump())
    state["optimizer"]["format"] = 0
    with pytest.raises(StudyConflictError, match=r"begun by another version of simopt: .* has format 0; .*`new`"):
        SearchState(spec, lambda *_: 0).restore(dump_state(state))
