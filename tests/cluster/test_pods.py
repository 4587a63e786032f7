"""Studies whose batches run in pods: the same as on this machine, with their fields on S3."""

import time

from cluster_lab import TOLERATION
from lab_studies import Running, eventually, going, here, pods, study, third_party, waiting_for_nothing

from prefect_simopt.api import load_study
from prefect_simopt.blocks import StudyStore
from prefect_simopt.flows.optimize import optimize
from prefect_simopt.specfile import make_spec


def test_a_study_in_pods_is_the_same_study(store, worker, client, namespace, tmp_path):
    document = study(tmp_path, "pods", "picture", compute={"cpu": "1", "memory": "600Mi"})
    summary = optimize(make_spec(document))
    assert summary["trials"] == {"complete": 16, "failed": 0, "cached": 0, "total": 16}
    assert summary["fingerprint"] == here(document, tmp_path / "here")
    there = load_study("s3://lab/studies/pods", StudyStore.load(store).options())
    assert there.fields["image"][summary["best"]["trial"]].shape == (64, 64)
    assert eventually(lambda: waiting_for_nothing(client, namespace), 60)


def test_six_batches_of_a_gpu_each_share_four_gpus(store, worker, client, namespace, tmp_path):
    seen, most, waited = [], 0, 0
    document = study(
        tmp_path, "gpus", "slow", trials=6, optimizer={"type": "random"},
        compute={"gpus": 1, "max_pods": 6, "trials_per_task": 1, "tolerations": [TOLERATION],
                 "node_selector": {"nvidia.com/gpu.product": "NVIDIA-H200"},
                 "job_variables": {"env": {"SECONDS": "30"}}},
    )  # fmt: skip
    running = Running(document)
    while running.going:
        there = pods(namespace)
        seen += [pod["spec"] for pod in there]
        busy = sum(pod["status"]["phase"] == "Running" for pod in there)
        most, waited = max(most, busy), max(waited, len(there) - busy if busy == 4 else 0)
        time.sleep(1)
    assert running.end()["trials"]["complete"] == 6
    assert (most, waited) == (4, 2)
    for spec in seen:
        assert spec["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H200"}
        assert TOLERATION in spec["tolerations"]
        assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert eventually(lambda: waiting_for_nothing(client, namespace), 60)


def test_no_more_pods_than_the_study_says(store, worker, client, namespace, tmp_path):
    document = study(
        tmp_path, "two", "slow", trials=6, optimizer={"type": "random"},
        compute={"max_pods": 2, "trials_per_task": 1, "job_variables": {"env": {"SECONDS": "2"}}},
    )  # fmt: skip
    running = Running(document)
    most = 0
    while running.going:
        most = max(most, len(going(client)))
        time.sleep(0.5)
    assert running.end()["trials"]["complete"] == 6
    assert most == 2
    assert eventually(lambda: waiting_for_nothing(client, namespace), 60)


def test_an_image_that_knows_nothing_of_us_is_run_as_it_is(store, worker, client, namespace, tmp_path):
    document, program = third_party(tmp_path, "third")
    summary = optimize(make_spec(document))
    assert summary["trials"]["complete"] == 16
    assert summary["fingerprint"] == here(document, tmp_path / "here", simulator=program)
    assert eventually(lambda: waiting_for_nothing(client, namespace), 60)
