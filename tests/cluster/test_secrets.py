"""The credentials of the store are in no place that people read."""

import time

from cluster_lab import kubectl
from lab_studies import Running, eventually, pods, study
from prefect.client.schemas.filters import LogFilter

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
    running = Running(document)
    assert eventually(lambda: pods(namespace), 120)
    places["manifests"] = kubectl("get", "jobs,pods,configmaps,secrets,events", "-n", namespace, "-o", "yaml")
    assert eventually(lambda: list(s3.folder.rglob("batches/*")) or not running.going, 60)
    places["batches"] = "".join(path.read_text() for path in s3.folder.rglob("batches/*.json"))
    while running.going:
        for pod in pods(namespace):
            name = pod["metadata"]["name"]
            places[f"output of {name}"] = kubectl("logs", "-n", namespace, name, "--all-containers", check=False)
        time.sleep(1)
    assert running.end()["trials"]["complete"] == 4
    for what in ("flow_runs", "task_runs", "artifacts", "deployments", "work_pools"):
        places[what] = str(everything(client, what))
    for run in everything(client, "flow_runs"):
        states = client.request("GET", "/flow_run_states/", params={"flow_run_id": run["id"]})
        places[f"states of {run['name']}"] = states.text
    places["logs"] = " ".join(line.message for line in client.read_logs(LogFilter(), limit=200))
    places["events"] = str(client.request("POST", "/events/filter", json={"limit": 50}).json())
    places["the worker's log"] = worker.log
    for path in s3.folder.rglob("*"):
        if path.is_file():
            places[str(path)] = path.read_bytes().decode(errors="replace")
    assert all(places[name] for name in ("manifests", "batches", "flow_runs", "logs", "events"))
    assert "begun" in "".join(text for name, text in places.items() if name.startswith("output of "))
    assert [name for name, text in places.items() if SECRET in text] == []
