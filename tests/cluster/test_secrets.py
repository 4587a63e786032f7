"""The credentials of the store are in no place that people read."""

import threading

from cluster_lab import kubectl
from lab_studies import eventually, pods, study
from prefect.client.schemas.filters import LogFilter

from prefect_simopt.flows.optimize import optimize
from prefect_simopt.specfile import make_spec

SECRET = "testsecret"  # the S3 server's, as `s3_server` sets it


def everything(client, what, **body):
    """All that Prefect's API lists of something."""
    found, offset = [], 0
    while page := client.request("POST", f"/{what}/filter", json={"limit": 100, "offset": offset, **body}).json():
        found += page
        offset += 100
    return found


def test_the_secret_is_nowhere(store, s3, worker, client, namespace, tmp_path):
    assert s3.options["secret"] == SECRET
    places = {}
    document = study(tmp_path, "secretive", "slow", trials=4, optimizer={"type": "random"})
    thread = threading.Thread(target=optimize, args=[make_spec(document)])
    thread.start()
    there = eventually(lambda: pods(namespace), 120)
    places["manifests"] = kubectl("get", "jobs,pods,configmaps,secrets,events", "-n", namespace, "-o", "yaml")
    assert there
    assert eventually(lambda: list(s3.folder.rglob("batches/*")) or not thread.is_alive(), 60)
    places["batches"] = "".join(path.read_text() for path in s3.folder.rglob("batches/*.json"))
    while thread.is_alive():
        for pod in pods(namespace):
            places["output of pods"] = kubectl("logs", "-n", namespace, pod["metadata"]["name"], check=False)
        thread.join(1)
    for what in ("flow_runs", "task_runs", "artifacts", "deployments", "work_pools", "flow_run_states"):
        places[what] = str(everything(client, what))
    places["logs"] = " ".join(line.message for line in client.read_logs(LogFilter(), limit=200))
    places["events"] = str(client.request("POST", "/events/filter", json={"limit": 50}).json())
    places["the worker's log"] = worker.log
    for path in s3.folder.rglob("*"):
        if path.is_file():
            places[str(path)] = path.read_bytes().decode(errors="replace")
    assert all(places[name] for name in ("manifests", "batches", "output of pods", "flow_runs", "logs", "events"))
    assert [name for name, text in places.items() if SECRET in text] == []
