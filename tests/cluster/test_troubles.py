"""What goes wrong in a cluster, for real: it is told in plain words within the deadline, mended where that helps,
and nothing is left behind."""

import logging
import threading
import time

import pytest
from cluster_lab import kubectl
from lab_studies import eventually, going, pods, study, waiting_for_nothing
from prefect.states import Cancelling

from prefect_simopt.api import load_study
from prefect_simopt.blocks import StudyStore
from prefect_simopt.errors import ComputeError
from prefect_simopt.flows.optimize import optimize
from prefect_simopt.specfile import make_spec

BUSYBOX = {
    "name": "prepare", "image": "lab.local/busybox:1", "command": ["sh", "-c", "exit 7"], "imagePullPolicy": "Never",
    "securityContext": {"runAsUser": 10001, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
}  # fmt: skip
MISSING = [{"name": "gone", "secret": {"secretName": "no-such-secret"}}]


@pytest.mark.parametrize(
    ("name", "compute", "says"),
    [
        ("selector", {"node_selector": {"no.such/label": "1"}}, "correct compute.node_selector"),
        ("taint", {"job_variables": {"tolerations": []}}, "add it to compute.tolerations"),
        ("gpus", {"gpus": 9}, "Insufficient nvidia.com/gpu"),
        ("image", {"image": "lab.local/no-such-image:1"}, "correct compute.image"),
        ("init", {"job_variables": {"init_containers": [BUSYBOX]}}, "ended with code 7"),
        ("secret", {"job_variables": {"volumes": MISSING}}, "no-such-secret"),
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
    assert waiting_for_nothing(client, namespace)


class Running:
    """A study that runs in a thread."""

    def __init__(self, document):
        self.document, self.summary, self.error = document, None, None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        try:
            self.summary = optimize(make_spec(self.document))
        except Exception as error:
            self.error = error

    def end(self):
        self.thread.join(400)
        assert not self.thread.is_alive()
        if self.error:
            raise self.error
        return self.summary


def simulating(namespace):
    """A pod of ours in which a simulator has printed something."""
    for pod in pods(namespace):
        name = pod["metadata"]["name"]
        if "begun" in kubectl("logs", "-n", namespace, name, check=False):
            return name
    return None


SLOW = {"max_pods": 1, "trials_per_task": 4, "job_variables": {"env": {"SECONDS": "4"}}}


@pytest.mark.parametrize("how", ["deleted", "killed"])
def test_a_pod_that_is_lost_loses_no_trial(store, worker, client, namespace, tmp_path, how):
    document = study(tmp_path, f"lost-{how}", "slow", trials=4, optimizer={"type": "random"}, compute=SLOW)
    running = Running(document)
    pod = eventually(lambda: simulating(namespace), 120)
    if how == "deleted":
        kubectl("delete", "pod", pod, "-n", namespace, "--wait=false")
    else:
        kubectl("exec", "-n", namespace, pod, "--", "python3", "-c", KILL)
    assert running.end()["trials"] == {"complete": 4, "failed": 0, "cached": 0, "total": 4}
    assert eventually(lambda: waiting_for_nothing(client, namespace), 60)


KILL = """
import os, signal
for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
    command = open(f"/proc/{pid}/cmdline").read()
    if pid not in (1, os.getpid()) and "prefect" in command and "simulators" not in command:
        os.kill(pid, signal.SIGKILL)
"""


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


def test_worker_and_server_are_killed_and_start_again(store, worker, server, client, namespace, tmp_path):
    document = study(tmp_path, "survivor", "slow", trials=8, optimizer={"type": "random"}, compute=SLOW)
    running = Running(document)
    assert eventually(lambda: simulating(namespace), 120)
    worker.kill()
    server.kill()
    time.sleep(5)
    server.start()
    worker.start()
    assert running.end()["trials"]["complete"] == 8
    found = load_study("s3://lab/studies/survivor", StudyStore.load(store).options())
    assert found.counts == {"complete": 8, "failed": 0, "cached": 0, "total": 8}
    assert eventually(lambda: waiting_for_nothing(client, namespace), 60)
