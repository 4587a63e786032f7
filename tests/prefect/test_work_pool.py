"""Batches as flow runs on a process pool: the same study, whatever becomes of its flow runs."""

import pytest
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags

from prefect_simopt.api import load_study, run_untracked
from prefect_simopt.errors import SpecError
from prefect_simopt.flows.optimize import optimize
from prefect_simopt.specfile import make_spec

POOL = {"type": "work_pool", "pool": "simopt", "max_pods": 2}


def reference(document, tmp_path):
    elsewhere = {**document, "compute": {"workers": 2}, "store": {"url": str(tmp_path / "reference")}}
    run_untracked(make_spec(elsewhere))
    return load_study(tmp_path / "reference" / document["name"]).fingerprint()


def test_on_a_process_pool_it_is_the_same_study(client, study, tmp_path):
    document = study("pooled", "slow", trials=20, compute=POOL)
    summary = optimize(make_spec(document))
    assert summary["trials"]["complete"] == 20
    assert summary["fingerprint"] == reference(document, tmp_path)
    runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=["simopt"])))
    assert {run.state.name for run in runs} == {"Completed"}
    assert all(run.parent_task_run_id for run in runs)
    store = load_study(f"{document['store']['url']}/pooled").location
    assert store.storage().names("batches") == []


@pytest.mark.usefixtures("house")
@pytest.mark.parametrize(
    ("compute", "says"),
    [
        ({"pool": "nowhere"}, "compute.pool: there is no work pool of this name; there are: simopt"),
        ({"gpus": 1}, "compute.gpus: a pool of type process does not have this"),
        ({"job_variables": {"colour": "red"}}, "it has no variable 'colour'"),
    ],
)
def test_a_pool_that_cannot_do_it_is_refused_before_anything_is_written(study, tmp_path, compute, says):
    document = study("refused", compute={**POOL, **compute})
    with pytest.raises(SpecError, match=says):
        optimize(make_spec(document))
    assert not (tmp_path / "studies").exists()
