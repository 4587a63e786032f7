"""Batches as flow runs on a process pool: the same study, whatever becomes of its flow runs."""

import json
from pathlib import Path

import pytest
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect_kubernetes.worker import KubernetesWorker

from prefect_simopt.api import load_study, run_untracked
from prefect_simopt.cli import main
from prefect_simopt.errors import SpecError
from prefect_simopt.flows.optimize import optimize
from prefect_simopt.specfile import make_spec

ROOT = Path(__file__).parents[2]
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
    tagged = client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=["simopt"])))
    runs = [run for run in tagged if run.name.startswith("pooled, ")]
    assert {run.state.name for run in runs} == {"Completed"}
    assert all(run.parent_task_run_id for run in runs)
    store = load_study(f"{document['store']['url']}/pooled").location
    assert store.storage().names("batches") == []


def test_what_a_pools_template_lacks_is_told(client, capsys):
    template = json.loads((ROOT / "deployments/kubernetes/base-job-template.json").read_text())
    client.create_work_pool(WorkPoolCreate(name="whole", type="kubernetes", base_job_template=template))
    assert main(["pool", "check", "whole"]) == 2
    assert capsys.readouterr().out.splitlines() == [
        "no worker of the work pool whole is running; start one: prefect worker start --pool whole"
    ]
    plain = KubernetesWorker.get_default_base_job_template()
    del template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]["nodeSelector"]
    for name, given, says in (
        ("plain", plain, "plain: it has no variable 'gpus'"),
        ("partly", template, "partly: its variable 'node_selector' is used nowhere in the job's configuration"),
    ):
        client.create_work_pool(WorkPoolCreate(name=name, type="kubernetes", base_job_template=given))
        assert main(["pool", "check", name]) == 2
        assert says in capsys.readouterr().out.splitlines()
    assert main(["pool", "check", "simopt"]) == 0
    assert main(["pool", "check", "nowhere"]) == 2


@pytest.mark.usefixtures("house")
@pytest.mark.parametrize(
    ("compute", "says"),
    [
        ({"pool": "nowhere"}, "compute.pool: there is no work pool of this name; there are: .*simopt"),
        ({"gpus": 1}, "compute.gpus: a pool of type process does not have this"),
        ({"job_variables": {"colour": "red"}}, "it has no variable 'colour'"),
    ],
)
def test_a_pool_that_cannot_do_it_is_refused_before_anything_is_written(study, tmp_path, compute, says):
    document = study("refused", compute={**POOL, **compute})
    with pytest.raises(SpecError, match=says):
        optimize(make_spec(document))
    assert not (tmp_path / "studies").exists()
