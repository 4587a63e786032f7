"""Studies whose batches run in pods: the same as on this machine, with their fields on S3."""

import threading
import time

from cluster_lab import THIRD_PARTY_IMAGE, TOLERATION
from lab_studies import pods, study, waiting_for_nothing

from prefect_simopt.api import load_study, run_untracked
from prefect_simopt.blocks import StudyStore
from prefect_simopt.flows.optimize import optimize
from prefect_simopt.specfile import make_spec

AWK = 'BEGIN { print "Cd =", (x - 1) * (x - 1) + y * y; print "1,2,3" >"profile.csv" }\n'


def here(document, folder, **changes):
    """Fingerprint of the same study on this machine."""
    elsewhere = {**document, "compute": {"type": "local", "workers": 2}, "store": {"url": str(folder)}, **changes}
    run_untracked(make_spec(elsewhere))
    return load_study(folder / document["name"]).fingerprint()


def test_a_study_in_pods_is_the_same_study(store, worker, client, namespace, tmp_path):
    document = study(tmp_path, "pods", "picture", compute={"cpu": "500m", "memory": "600Mi"})
    summary = optimize(make_spec(document))
    assert summary["trials"] == {"complete": 16, "failed": 0, "cached": 0, "total": 16}
    assert summary["fingerprint"] == here(document, tmp_path / "here")
    there = load_study("s3://lab/studies/pods", StudyStore.load(store).options())
    assert there.fields["image"][summary["best"]["trial"]].shape == (64, 64)
    assert waiting_for_nothing(client, namespace)


def test_six_batches_of_a_gpu_each_share_four_gpus(store, worker, client, namespace, tmp_path):
    seen, most = [], 0
    document = study(
        tmp_path, "gpus", "slow", trials=6, optimizer={"type": "random"},
        compute={"gpus": 1, "max_pods": 6, "trials_per_task": 1, "tolerations": [TOLERATION],
                 "node_selector": {"nvidia.com/gpu.product": "NVIDIA-H200"},
                 "job_variables": {"env": {"SECONDS": "40"}}},
    )  # fmt: skip
    thread = threading.Thread(target=optimize, args=[make_spec(document)])
    thread.start()
    waited = 0
    while thread.is_alive():
        there = pods(namespace)
        seen += [pod["spec"] for pod in there]
        running = sum(pod["status"]["phase"] == "Running" for pod in there)
        most, waited = max(most, running), max(waited, len(there) - running if running == 4 else 0)
        time.sleep(1)
    assert (most, waited) == (4, 2)
    for spec in seen:
        assert spec["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H200"}
        assert TOLERATION in spec["tolerations"]
        assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert load_study("s3://lab/studies/gpus", StudyStore.load(store).options()).counts["complete"] == 6


def test_an_image_that_knows_nothing_of_us_is_run_as_it_is(store, worker, client, namespace, tmp_path):
    (tmp_path / "sim.awk").write_text(AWK)
    program = {
        "command": ["mawk", "-v", "x={x}", "-v", "y={y}", "-f", "sim.awk"],
        "files": ["sim.awk"],
        "directory": str(tmp_path),
        "metrics": [{"name": "value", "stdout": "Cd = (.*)"}],
        "fields": [{"name": "profile", "file": "profile.csv"}],
    }
    image = {"type": "container", "image": THIRD_PARTY_IMAGE}
    document = study(tmp_path, "third", compute={"cpu": "250m", "memory": "64Mi"}, simulator={**program, **image})
    summary = optimize(make_spec(document))
    assert summary["trials"]["complete"] == 16
    assert summary["fingerprint"] == here(document, tmp_path / "here", simulator={**program, "type": "command"})
    assert waiting_for_nothing(client, namespace)
