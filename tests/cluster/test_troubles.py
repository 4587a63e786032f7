"""What goes wrong in a cluster, for real: it is told in plain words within the deadline, mended where that helps,
and nothing is left behind."""

import logging
import time

import pytest
from cluster_lab import kubectl
from lab_studies import SLOW, Running, eventually, going, pods, remains, simulating, study, waiting_for_nothing
from prefect.states import Cancelling

from prefect_simopt.errors import ComputeError, SimoptError
from prefect_simopt.flows.optimize import optimize
from prefect_simopt.specfile import make_spec

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left(namespace, s3):
    yield
    assert eventually(lambda: not remains(namespace, s3.folder), 150), remains(namespace, s3.folder)


BUSYBOX = {
    "name": "prepare", "image": "lab.local/busybox:1", "command": ["sh", "-c", "exit 7"], "imagePullPolicy": "Never",
    "securityContext": {"runAsUser": 10001, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
}  # fmt: skip
MISSING = {
    "volumes": [{"name": "gone", "secret": {"secretName": "no-such-secret"}}],
    "volume_mounts": [{"name": "gone", "mountPath": "/gone"}],
}


@pytest.mark.parametrize(
    ("name", "compute", "says"),
    [
        ("selector", {"node_selector": {"no.such/label": "1"}}, "correct compute.node_selector"),
        ("taint", {"job_variables": {"tolerations": []}}, "add it to compute.tolerations"),
        ("gpus", {"gpus": 9}, "Insufficient nvidia.com/gpu"),
        ("image", {"image": "lab.local/no-such-image:1"}, "correct compute.image"),
        ("init", {"job_variables": {"init_containers": [BUSYBOX]}}, "ended with code 7"),
        ("secret", {"job_variables": MISSING}, "no-such-secret.*; a Secret or ConfigMap that the pod names is missing"),
    ],
)
def test_a_pod_that_cannot_start(store, worker, client, namespace, tmp_path, name, compute, says):
    document = study(tmp_path, f"no-{name}", compute={"start_deadline": 25, "max_pods": 1, **compute})
    begun = time.monotonic()
    with pytest.raises(ComputeError, match=says) as error:
        optimize(make_spec(document))
    print(f"{name}: told after {time.monotonic() - begun:.0f} s: {error.value}")
    assert eventually(lambda: waiting_for_nothing(client, namespace), 60), (going(client), pods(namespace))


def test_a_quota_that_is_used_up(store, worker, client, namespace, tmp_path):
    kubectl("create", "quota", "none", "--hard=pods=0", "-n", namespace)
    try:
        document = study(tmp_path, "no-quota", compute={"start_deadline": 25, "max_pods": 1})
        with pytest.raises(ComputeError, match="the namespace's quota is used up"):
            optimize(make_spec(document))
    finally:
        kubectl("delete", "quota", "none", "-n", namespace)
    assert eventually(lambda: waiting_for_nothing(client, namespace), 60), (going(client), pods(namespace))


def test_memory_grows_when_it_runs_out(store, worker, client, namespace, tmp_path, caplog):
    memory = {"memory": "400Mi", "memory_max": "1Gi", "memory_factor": 2.56, "max_pods": 1, "trials_per_task": 2}
    document = study(tmp_path, "hungry", "hungry", trials=4, optimizer={"type": "random"}, compute=memory)
    with caplog.at_level(logging.WARNING):
        summary = optimize(make_spec(document))
    assert summary["trials"] == {"complete": 4, "failed": 0, "cached": 0, "total": 4}
    assert "ran out of memory with 400Mi: later ones get 1024Mi" in caplog.text
    assert caplog.text.count("ran out of memory") == 1  # remembered for later batches
    assert eventually(lambda: waiting_for_nothing(client, namespace), 60)


@pytest.mark.parametrize("when", ["running", "pending"])
def test_a_cancelled_study_stops_its_pods_in_seconds(store, worker, client, namespace, tmp_path, when):
    compute = SLOW if when == "running" else {**SLOW, "gpus": 9}
    document = study(tmp_path, f"cancel-{when}", "slow", trials=8, optimizer={"type": "random"}, compute=compute)
    running = Running(document)
    look = simulating if when == "running" else pods
    assert eventually(lambda: look(namespace), 120)
    (run,) = [run for run in client.read_flow_runs() if run.name == f"cancel-{when}"]
    client.set_flow_run_state(run.id, Cancelling())
    begun = time.monotonic()
    assert eventually(lambda: waiting_for_nothing(client, namespace), 60), (going(client), pods(namespace))
    print(f"{when}: nothing left after {time.monotonic() - begun:.0f} s")
    with pytest.raises(Exception, match=r"interrupted|run it again|[Cc]ancel"):
        running.end()


def test_a_deadline_of_the_pool_that_is_too_short_for_a_trial(store, worker, client, namespace, tmp_path, caplog):
    variables = {"active_deadline": 60, "env": {"SECONDS": "300"}}
    document = study(
        tmp_path, "short", "slow", trials=1, optimizer={"type": "random"},
        compute={"max_pods": 1, "job_variables": variables},
    )  # fmt: skip
    with caplog.at_level(logging.WARNING), pytest.raises(SimoptError) as error:
        optimize(make_spec(document))
    told = f"{error.value} {caplog.text}"
    assert "active longer than specified deadline" in told
    assert "raise it (compute.job_variables.active_deadline)" in told
    assert eventually(lambda: waiting_for_nothing(client, namespace), 60), (going(client), pods(namespace))
