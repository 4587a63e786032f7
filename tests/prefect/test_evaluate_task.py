"""The evaluate task over a compute of threads: what matters is what Prefect and the search see of it."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from prefect import flow
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.runtime import flow_run
from waiting import eventually

from prefect_simopt.errors import StoreError
from prefect_simopt.tasks.evaluate import TrackedCompute
from prefect_simopt.trial import Outcome, Reason, Run, Status


class Threads:
    """A place where simulators run: threads that sleep."""

    batch_seconds = 0.02
    fill_batches = False

    def __init__(self, workers=2, seconds=0.0, fails=(), breaks=False):
        self.workers, self.seconds, self.fails, self.breaks = workers, seconds, fails, breaks
        self.pool = ThreadPoolExecutor(workers)
        self.running = self.most = 0
        self.stopped = threading.Event()
        self.lock = threading.Lock()

    def submit(self, runs):
        return self.pool.submit(self._simulate, runs)

    def _simulate(self, runs):
        if self.breaks:
            raise StoreError("the store is full")
        if self.stopped.is_set():
            return []
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self.stopped.wait(self.seconds * len(runs))
        with self.lock:
            self.running -= 1
        failed = {"status": Status.FAILED, "reason": Reason.EXIT, "message": "exit code 3"}
        fine = {"status": Status.COMPLETE, "metrics": {"value": 1.0}}
        return [Outcome(run.trial, **(failed if run.trial in self.fails else fine)) for run in runs]

    def cancel(self, grace=5.0):
        self.stopped.set()

    def close(self):
        self.pool.shutdown()


def batches(trials, size=1, generation=16):
    runs = [Run(trial, {"x": 0.0}, seed=trial, generation=trial // generation) for trial in range(trials)]
    return [runs[i : i + size] for i in range(0, trials, size)]


@flow
def evaluated(compute, work, trials_per_task="auto"):
    with TrackedCompute(compute, trials_per_task) as tracked:
        futures = [tracked.submit(runs) for runs in work]
        outcomes = [outcome for future in futures for outcome in future.result(timeout=60)]
    compute.close()
    return flow_run.id, outcomes, tracked.started


def task_runs(client, run, count):
    """The flow run's task runs, once the server has recorded that all of them have ended."""
    only = FlowRunFilter(id=FlowRunFilterId(any_=[run]))

    def read():
        pages = [client.read_task_runs(flow_run_filter=only, offset=offset) for offset in range(0, count + 1, 200)]
        return [each for page in pages for each in page]

    def recorded():
        found = read()
        return found if len(found) == count and all(each.state and each.state.is_final() for each in found) else None

    return eventually(recorded) or read()


def test_short_trials_share_task_runs_and_none_is_lost(client):
    run, outcomes, started = evaluated(Threads(), batches(2000))
    assert sorted(outcome.trial for outcome in outcomes) == list(range(2000))
    assert started <= 12
    found = task_runs(client, run, started)
    assert len(found) == started
    assert {each.state.name for each in found} == {"Completed"}
    assert sum(int(each.state.message.split()[0]) for each in found) == 2000
    assert all(each.name.startswith("generation") for each in found)


def test_long_trials_have_a_task_run_each_and_no_more_than_there_are_workers(client):
    compute = Threads(workers=3, seconds=2.1)
    run, outcomes, started = evaluated(compute, batches(6))
    assert (len(outcomes), started, compute.most) == (6, 6, 3)
    names = {each.name for each in task_runs(client, run, 6)}
    assert names == {f"generation 0, trial {trial}" for trial in range(6)}


def test_a_number_of_trials_a_task_is_kept(client):
    run, outcomes, started = evaluated(Threads(), batches(40, size=8), trials_per_task=8)
    assert (len(outcomes), started) == (40, 5)
    assert {each.state.message for each in task_runs(client, run, 5)} == {"8 complete"}


@pytest.mark.slow
def test_a_number_of_trials_a_task_gives_way_before_the_server_would_lose_some(client):
    run, outcomes, started = evaluated(Threads(), batches(3000), trials_per_task=1)
    assert len(outcomes) == 3000
    assert started < 400
    assert len(task_runs(client, run, started)) == started


def test_failed_trials_are_seen_in_the_task_run(client):
    run, outcomes, started = evaluated(Threads(fails={0, 1, 5}), batches(8, size=2), trials_per_task=2)
    assert sum(outcome.status is Status.FAILED for outcome in outcomes) == 3
    found = {each.name: each.state for each in task_runs(client, run, started)}
    assert found["generation 0, trials 0-1"].name == "Failed"
    assert found["generation 0, trials 0-1"].message == "2 failed; trial 0: exit: exit code 3"
    assert found["generation 0, trials 4-5"].message == "1 complete, 1 failed; trial 5: exit: exit code 3"


@pytest.mark.usefixtures("house")
def test_what_breaks_the_compute_reaches_the_search():
    with pytest.raises(StoreError, match="the store is full"):
        evaluated(Threads(breaks=True), batches(5))


@pytest.mark.usefixtures("house")
def test_cancelled_batches_that_wait_resolve_to_nothing():
    @flow
    def cancelled():
        compute = Threads(workers=1, seconds=30.0)
        with TrackedCompute(compute) as tracked:
            futures = [tracked.submit(runs) for runs in batches(4)]
            time.sleep(0.5)
            tracked.cancel(grace=1.0)
            return [len(future.result(timeout=10)) for future in futures]

    assert cancelled() == [1, 0, 0, 0]
