"""The image of pods, in a pod of the restricted standard with a root file system that is read-only."""

import json

import pytest
from cluster_lab import POD_IMAGE, TOLERATION, kubectl

SCRIPT = """\
import os, subprocess, sys
from importlib.util import cache_from_source, find_spec

import jax, prefect_aws, s3fs
import prefect_simopt.flows.evaluate, prefect_simopt.flows.optimize
from prefect_simopt.blocks import StudyStore

compiled = cache_from_source(find_spec("prefect_simopt.loop").origin)
print(os.getuid(), os.path.exists(compiled), "prefect_kubernetes" in sys.modules, find_spec("pip"))
print(subprocess.run(["/usr/local/lib/simopt/busybox", "echo", "static"], capture_output=True, text=True).stdout)
print(os.path.getsize("/usr/local/lib/simopt/runner.sh") > 0)
"""


@pytest.fixture
def printed(namespace):
    """What the script prints in a pod."""
    container = {
        "name": "image",
        "image": POD_IMAGE,
        "imagePullPolicy": "Never",
        "command": ["python", "-c", SCRIPT],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "image"},
        "spec": {
            "restartPolicy": "Never",
            "tolerations": [TOLERATION],
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    }
    kubectl("apply", "-n", namespace, "-f", "-", given=json.dumps(pod))
    kubectl("wait", "-n", namespace, "pod/image", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=240s")
    yield kubectl("logs", "-n", namespace, "image").splitlines()
    kubectl("delete", "pod", "image", "-n", namespace, "--wait=false")


def test_it_holds_what_a_pod_needs_and_runs_as_nobody(printed):
    assert printed == ["10001 True False None", "static", "", "True"]
