"""What is killed or taken away in the middle of a study, for real: no trial is lost, and nothing is left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cluster_lab import Kubelet, kubectl
from lab_studies import SLOW, Running, eventually, here, pods, remains, simulating, study, waiting_for_nothing

from prefect_simopt.api import load_study
from prefect_simopt.blocks import StudyStore

ALL_OF_FOUR = {"complete": 4, "failed": 0, "cached": 0, "total": 4}
ALL_OF_EIGHT = {"complete": 8, "failed": 0, "cached": 0, "total": 8}

KILL = """
import os, signal
for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
    command = open(f"/proc/{pid}/cmdline").read()
    if pid not in (1, os.getpid()) and "prefect" in command and "simulators" not in command:
        os.kill(pid, signal.SIGKILL)
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left(namespace, s3):
    yield
    assert eventually(lambda: not remains(namespace, s3.folder), 150), remains(namespace, s3.folder)


def delete(namespace, pod):
    kubectl("delete", "pod", pod, "-n", namespace, "--wait=false")


def kill(namespace, pod):
    kubectl("exec", "-n", namespace, pod, "--", "python3", "-c", KILL)


def evict(namespace, pod):
    """As `kubectl drain` does it."""
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
    kubectl("create", "--raw", path, "-f", "-", given=json.dumps(eviction))


def take_the_node(namespace, pod):
    """No pod of ours may be on the node, until the one that is there is gone."""
    kubectl("taint", "node", "node1", "gone=now:NoExecute")
    try:
        assert eventually(lambda: pod not in [each["metadata"]["name"] for each in pods(namespace)], 60)
    finally:
        kubectl("taint", "node", "node1", "gone-")


def pre_empt(namespace, pod):
    """A pod that matters more takes the GPUs for a while."""
    matters = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": namespace},
        "value": 1000,
    }
    container = {
        "name": "busy", "image": "lab.local/busybox:1", "imagePullPolicy": "Never", "command": ["sleep", "600"],
        "resources": {"limits": {"nvidia.com/gpu": "4"}},
        "securityContext": {"runAsUser": 10001, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }  # fmt: skip
    spec = {
        "priorityClassName": namespace, "restartPolicy": "Never", "containers": [container],
        "terminationGracePeriodSeconds": 0, "tolerations": [{"operator": "Exists"}],
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    }  # fmt: skip
    rival = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "rival", "namespace": namespace}, "spec": spec}
    kubectl("apply", "-f", "-", given=json.dumps(matters))
    try:
        kubectl("apply", "-f", "-", given=json.dumps(rival))
        kubectl("wait", "-n", namespace, "pod/rival", "--for=jsonpath={.status.phase}=Running", "--timeout=90s")
        assert pod not in [each["metadata"]["name"] for each in pods(namespace)]
    finally:
        kubectl("delete", "pod", "rival", "-n", namespace)
        kubectl("delete", "priorityclass", namespace)


@pytest.mark.parametrize("lose", [delete, kill, evict, take_the_node, pre_empt], ids=lambda lose: lose.__name__)
def test_a_pod_that_is_lost_loses_no_trial(store, worker, client, namespace, tmp_path, lose, caplog):
    name = f"lost-{lose.__name__.replace('_', '-')}"
    document = study(tmp_path, name, "slow", trials=4, optimizer={"type": "random"}, compute={**SLOW, "gpus": 1})
    running = Running(document)
    pod = eventually(lambda: simulating(namespace), 120)
    lose(namespace, pod)
    summary = running.end()
    assert summary["trials"] == ALL_OF_FOUR
    assert summary["fingerprint"] == here(document, tmp_path / "here")
    assert "has not begun" not in caplog.text  # it had
    assert eventually(lambda: waiting_for_nothing(client, namespace), 60)


def test_worker_and_server_are_killed_and_start_again(store, worker, server, client, namespace, tmp_path):
    document = study(tmp_path, "survivor", "slow", trials=8, optimizer={"type": "random"}, compute=SLOW)
    running = Running(document)
    assert eventually(lambda: simulating(namespace), 120)
    worker.kill()
    server.kill()
    time.sleep(5)
    server.start()
    worker.start()
    summary = running.end()
    assert summary["trials"] == ALL_OF_EIGHT
    assert summary["fingerprint"] == here(document, tmp_path / "here")
    assert eventually(lambda: waiting_for_nothing(client, namespace), 60)


def test_a_worker_that_is_killed_alone(store, worker, client, namespace, tmp_path):
    document = study(tmp_path, "unattended", "slow", trials=8, optimizer={"type": "random"}, compute=SLOW)
    running = Running(document)
    assert eventually(lambda: simulating(namespace), 120)
    worker.kill()
    time.sleep(5)
    worker.start()
    assert running.end()["trials"] == ALL_OF_EIGHT
    assert eventually(lambda: waiting_for_nothing(client, namespace), 60)


def test_the_kubelet_is_killed_and_starts_again(store, worker, client, namespace, tmp_path):
    document = study(tmp_path, "headless", "slow", trials=8, optimizer={"type": "random"}, compute=SLOW)
    running = Running(document)
    assert eventually(lambda: simulating(namespace), 120)
    kubelet = Kubelet()
    kubelet.kill()
    time.sleep(10)
    kubelet.start()
    assert running.end()["trials"] == ALL_OF_EIGHT
    assert eventually(lambda: waiting_for_nothing(client, namespace), 60)


def test_a_flow_that_is_killed_goes_on_where_it_was(store, worker, server, client, namespace, tmp_path):
    document = study(tmp_path, "beheaded", "slow", trials=8, optimizer={"type": "random"}, compute=SLOW)
    (tmp_path / "study.json").write_text(json.dumps(document))
    command = [str(Path(sys.executable).with_name("simopt")), "run", str(tmp_path / "study.json"), "--json"]
    environment = {**os.environ, "PREFECT_API_URL": server.url, "PREFECT_HOME": str(tmp_path / "home")}
    with (tmp_path / "log").open("w") as log:
        first = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    assert eventually(lambda: simulating(namespace), 180), (tmp_path / "log").read_text()
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    second = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr
    summary = json.loads(second.stdout)
    assert summary["trials"] == ALL_OF_EIGHT
    assert summary["fingerprint"] == here(document, tmp_path / "here")
    there = load_study("s3://lab/studies/beheaded", StudyStore.load(store).options())
    assert there.fingerprint() == summary["fingerprint"]
    assert eventually(lambda: waiting_for_nothing(client, namespace), 60)
