"""Flow runs of batches killed and cancelled, on a process pool: nothing is lost, nothing is left running."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName, FlowRunFilterStateType, FlowRunFilterTags
from prefect.deployments import run_deployment
from prefect.states import Cancelling
from waiting import eventually

from prefect_simopt.api import load_study, run_untracked
from prefect_simopt.specfile import make_spec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(800)]
POOL = {"type": "work_pool", "pool": "simopt", "max_pods": 2, "trials_per_task": 10}


def start(document):
    return run_deployment("optimize/optimize", parameters={"study": document}, timeout=0)


def ended(client, run, seconds=500):
    def look():
        found = client.read_flow_run(run.id)
        return found if found.state.is_final() else None

    return eventually(look, seconds=seconds)


def children(client, name, *states):
    """The study's flow runs of batches."""
    which = {"state": {"type": FlowRunFilterStateType(any_=list(states))}} if states else {}
    runs = FlowRunFilter(name=FlowRunFilterName(like_=f"{name}, "), tags=FlowRunFilterTags(all_=["simopt"]), **which)
    return client.read_flow_runs(flow_run_filter=runs)


def pid(run):
    return int(run.infrastructure_pid.rpartition(":")[2])


def simulating(store, trials=1):
    """Whether a flow run has written an outcome."""
    return len(list(Path(store).glob("outcomes/*.jsonl"))) >= trials


def reference(document, tmp_path):
    elsewhere = {**document, "compute": {"workers": 2}, "store": {"url": str(tmp_path / "reference")}}
    run_untracked(make_spec(elsewhere))
    return load_study(tmp_path / "reference" / document["name"]).fingerprint()


def test_a_killed_flow_run_loses_the_trial_that_it_was_in_and_no_other(client, study, tmp_path):
    document = study("killed", "sluggish", trials=20, compute=POOL)
    store = f"{document['store']['url']}/killed"
    run = start(document)
    assert eventually(lambda: simulating(store), seconds=200)
    victim = children(client, "killed", "RUNNING")[0]
    os.kill(pid(victim), signal.SIGKILL)
    found = ended(client, run)
    assert found.state.name == "Completed", found.state.message
    there = load_study(store)
    assert there.counts == {"complete": 20, "failed": 0, "cached": 0, "total": 20}
    assert there.fingerprint() == reference(document, tmp_path)
    assert {each.state.name for each in children(client, "killed")} == {"Completed", "Crashed"}


def test_a_killed_flow_leaves_nothing_and_goes_on_later(client, study, tmp_path):
    document = study("headless", "sluggish", trials=20, compute=POOL)
    store = f"{document['store']['url']}/headless"
    run = start(document)
    assert eventually(lambda: simulating(store), seconds=200)
    os.kill(pid(client.read_flow_run(run.id)), signal.SIGKILL)
    assert ended(client, run).state.name == "Crashed"
    run = start(document)
    assert ended(client, run).state.name == "Completed"
    there = load_study(store)
    assert there.fingerprint() == reference(document, tmp_path)
    assert there.location.storage().names("batches") == []
    assert not children(client, "headless", "RUNNING", "PENDING", "SCHEDULED", "CANCELLING")


def test_a_cancelled_study_cancels_its_flow_runs(client, study):
    document = study("stopped", "sluggish", trials=60, compute=POOL)
    store = f"{document['store']['url']}/stopped"
    run = start(document)
    assert eventually(lambda: simulating(store), seconds=200)
    client.set_flow_run_state(run.id, Cancelling())
    assert ended(client, run).state.name == "Cancelled"
    assert eventually(lambda: not children(client, "stopped", "RUNNING", "PENDING", "SCHEDULED", "CANCELLING"))
    assert 0 < load_study(store).counts["complete"] < 60
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert store not in left
