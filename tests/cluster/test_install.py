"""The Helm chart on the real API server, and what it installs at work."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml
from cluster_lab import POD_IMAGE, TOLERATION, WORKER_IMAGE, kubectl, kubernetes, save_store
from lab_studies import AWK, here, third_party
from prefect.client.orchestration import get_client
from prefect.deployments import run_deployment
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_simopt.api import load_study

ROOT = Path(__file__).resolve().parents[2]
CHART = str(ROOT / "deployments" / "helm")


def image(name):
    repository, _, tag = name.rpartition(":")
    return {"repository": repository, "tag": tag}


VALUES = {
    "images": {"pod": image(POD_IMAGE), "worker": image(WORKER_IMAGE), "pullPolicy": "Never"},
    "server": {"persistence": {"enabled": False}},
    "worker": {"pollSeconds": 1},
    "pool": {"defaults": {"tolerations": [TOLERATION]}},
    "tolerations": [TOLERATION],
}
EVERYTHING = {
    "images": {"pullSecrets": ["registry"]},
    "api": {"keySecret": {"name": "key"}, "authStringSecret": {"name": "auth"}},
    "postgresql": {"enabled": True},
    "pool": {"concurrencyLimit": 8, "defaults": {"node_selector": {"nvidia.com/gpu.product": "NVIDIA-H200"}}},
    "worker": {"limit": 4, "autoscaling": {"enabled": True}},
    "networkPolicy": {"serverIngress": [{"namespaceSelector": {}}]},
    "podServiceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/simopt"}},
    "nodeSelector": {"kubernetes.io/os": "linux"},
}
ELSEWHERE = {"api": {"url": "https://prefect.example.org/api"}}


def k0s():
    """The values that the k0s configuration gives to our chart."""
    cluster = yaml.safe_load((ROOT / "deployments/k0s/k0sctl.yaml").read_text())["spec"]["k0s"]["config"]["spec"]
    (chart,) = [each for each in cluster["extensions"]["helm"]["charts"] if each["name"] == "prefect-simopt"]
    return yaml.safe_load(chart["values"])


def helm(*words, check=True):
    done = subprocess.run(["helm", *words], capture_output=True, text=True, check=False)
    if check:
        assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def given(tmp_path):
    """Writes values to a file and gives the words that name it."""

    def write(values):
        file = tmp_path / "values.yaml"
        file.write_text(yaml.safe_dump(values))
        return ["--values", str(file)]

    return write


@pytest.mark.parametrize(
    "values", [{}, VALUES, EVERYTHING, ELSEWHERE, k0s()], ids=["default", "tests", "all", "elsewhere", "k0s"]
)
def test_the_api_server_takes_what_the_chart_makes(namespace, given, values):
    words = given(values)
    lint = helm("lint", "--strict", CHART, *words).stdout
    assert "0 chart(s) failed" in lint
    rendered = helm("template", "simopt", CHART, "--namespace", namespace, "--kube-version", "1.36", *words).stdout
    answer = kubectl("apply", "--dry-run=server", "--namespace", namespace, "--filename", "-", given=rendered)
    assert "server dry run" in answer


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"worker": {"replica": 2}}, "replica"),
        ({"pool": {"defaults": {"gpu": 1}}}, "pool.defaults.gpu: the base job template has no such variable; it has:"),
        ({"server": {"enabled": False}}, "name a Prefect server in api.url"),
    ],
)
def test_values_that_mean_nothing_are_refused(given, values, message):
    done = helm("template", "simopt", CHART, "--kube-version", "1.36", *given(values), check=False)
    assert done.returncode != 0
    assert message in done.stderr


@pytest.fixture(scope="module")
def installed(namespace, tmp_path_factory):
    """What `helm install` brings: the address of Prefect's API."""
    file = tmp_path_factory.mktemp("values") / "values.yaml"
    file.write_text(yaml.safe_dump(VALUES))
    helm("install", "lab", CHART, "--namespace", namespace, "--values", str(file), "--wait", "--timeout", "8m")
    address = kubernetes("get", "service", "lab-simopt-server", "-n", namespace)["spec"]["clusterIP"]
    with temporary_settings({PREFECT_API_URL: f"http://{address}:4200/api"}):
        yield address
    helm("uninstall", "lab", "--namespace", namespace, "--wait")


def test_the_pool_and_the_deployments_are_there(installed, namespace):
    with get_client(sync_client=True) as client:
        pool = client.read_work_pool("kubernetes")
        assert pool.status.value == "READY"
        variables = pool.base_job_template["variables"]["properties"]
        names = ("namespace", "image", "image_pull_policy", "service_account_name", "tolerations")
        assert [variables[name]["default"] for name in names] == [
            namespace, POD_IMAGE, "Never", "lab-simopt-pod", [TOLERATION]
        ]  # fmt: skip
        deployments = {each.name: each for each in client.read_deployments()}
        assert set(deployments) == {"optimize-kubernetes", "simulate-kubernetes", "evaluate-kubernetes"}
        assert {each.work_pool_name for each in deployments.values()} == {"kubernetes"}
        slugs = {each.slug for each in client.read_block_types()}
        assert {"study-store", "minio-credentials"} <= slugs


def test_the_server_serves_its_page(installed):
    with urllib.request.urlopen(f"http://{installed}:4200/") as page:
        assert b"<html" in page.read().lower()


def test_the_worker_may_do_the_least(installed, namespace):
    account = f"system:serviceaccount:{namespace}:lab-simopt-worker"
    listed = kubectl("auth", "can-i", "--list", "--as", account, "-n", namespace, "--no-headers")
    allowed = {}
    for line in listed.splitlines():
        resource, verbs = line.split()[0], line[line.rindex("[") + 1 : line.rindex("]")].split()
        if not resource.startswith(("[", "self")):  # what any account may: ask who it is, and see which APIs there are
            allowed[resource] = verbs
    assert allowed == {
        "jobs.batch": ["create", "get", "list", "watch", "delete"],
        "pods": ["get", "list", "watch"],
        "pods/log": ["get"],
    }
    for verb, what in (("get", "secrets"), ("create", "pods"), ("create", "pods/exec"), ("get", "nodes")):
        assert kubectl("auth", "can-i", verb, what, "--as", account, "-n", namespace, check=False).strip() == "no"
    of_pods = f"system:serviceaccount:{namespace}:lab-simopt-pod"
    assert kubectl("auth", "can-i", "get", "pods", "--as", of_pods, "-n", namespace, check=False).strip() == "no"


IN_PODS = {"type": "work_pool", "pool": "kubernetes", "gpus": 1, "max_pods": 2}


def coating(folder):
    """The example's study, shorter, to be run in pods; and its fingerprint here."""
    study = ROOT / "examples/coating/study.yaml"
    changes = {"budget": {"trials": 64}, "constraints": []}  # so few trials need not find a design that keeps them
    document = {**yaml.safe_load(study.read_text()), **changes, "compute": IN_PODS, "store": {"block": "lab"}}
    return document, here(document, folder)


def image_study(folder):
    """The study of an image that knows nothing of us; and its fingerprint here."""
    document, program = third_party(folder, "third")
    return document, here(document, folder, simulator=program)


@pytest.fixture
def lab(installed, s3):
    """The store that pods and this machine share: its options."""
    save_store("lab", "s3://lab/installed", s3.options)
    return s3.options


def simopt(folder, *words):
    """What the command line prints, beside the cluster."""
    environment = {**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value(), "PREFECT_HOME": str(folder / "prefect")}
    command = [Path(sys.executable).with_name("simopt"), *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_study_that_a_trigger_starts_inside_is_the_same_as_here(installed, namespace, lab, tmp_path):
    document, expected = coating(tmp_path)
    document["name"] = "inside"
    run = run_deployment("optimize/optimize-kubernetes", parameters={"study": document}, timeout=420, poll_interval=2)
    assert run.state.is_completed(), f"{run.state.name}: {run.state.message}"
    assert load_study("s3://lab/installed/inside", lab).fingerprint() == expected
    jobs = kubernetes("get", "jobs", "-n", namespace)["items"]
    assert jobs, "the flow and its batches ran as Jobs"
    assert lab["secret"] not in json.dumps(jobs) + kubectl("get", "pods", "-n", namespace, "-o", "yaml")


@pytest.mark.slow
@pytest.mark.parametrize("make", [coating, image_study])
def test_a_study_from_the_command_line_outside_is_the_same_as_here(installed, lab, tmp_path, make):
    document, expected = make(tmp_path)
    document["name"] = f"outside-{document['name']}"
    (tmp_path / "study.json").write_text(json.dumps(document))
    assert "kubernetes: its template takes all" in simopt(tmp_path, "pool", "check", "kubernetes")
    summary = json.loads(simopt(tmp_path, "run", "study.json", "--json"))
    assert (summary["state"], summary["fingerprint"]) == ("complete", expected)


@pytest.mark.slow
def test_an_image_that_knows_nothing_of_us_is_run_from_a_trigger_inside(installed, lab, tmp_path):
    document, expected = image_study(tmp_path)
    simulator = document["simulator"]  # without files: those would have to be in the image of the search
    del simulator["directory"], simulator["files"]
    simulator["command"][-2:] = [AWK.replace("{", "{{").replace("}", "}}")]
    document["name"] = "third-inside"
    run = run_deployment("optimize/optimize-kubernetes", parameters={"study": document}, timeout=420, poll_interval=2)
    assert run.state.is_completed(), f"{run.state.name}: {run.state.message}"
    assert load_study("s3://lab/installed/third-inside", lab).fingerprint() == expected
