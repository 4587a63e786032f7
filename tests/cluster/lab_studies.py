"""Studies for the cluster: small simulators, their store on S3, and what is left of them in the cluster."""

import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from pathlib import Path
from typing import Any

from cluster_lab import THIRD_PARTY_IMAGE, kubectl, kubernetes
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterStateType, FlowRunFilterTags
from prefect.client.schemas.objects import StateType

from prefect_simopt.api import load_study, run_untracked
from prefect_simopt.flows.optimize import optimize
from prefect_simopt.specfile import make_spec

__all__ = [
    "AWK",
    "DESIGNS",
    "SLOW",
    "Running",
    "eventually",
    "going",
    "here",
    "pods",
    "remains",
    "simulating",
    "study",
    "third_party",
    "waiting_for_nothing",
]

DESIGNS = """
import os, time
import numpy as np
from prefect_simopt import Result

def bowl(x, y):
    return (x - 1) ** 2 + y**2

def picture(x, y):
    return Result({"value": (x - 1) ** 2 + y**2}, {"image": np.full((64, 64), x + y)})

def slow(x, y):
    print("begun", flush=True)
    time.sleep(float(os.environ.get("SECONDS", "3")))
    return (x - 1) ** 2 + y**2

def hungry(x, y):
    block = np.ones(70_000_000)
    return float(block[0]) * (x - 1) ** 2 + y**2
"""

AWK = 'BEGIN { print "Cd =", (x - 1) * (x - 1) + y * y; print "1,2,3" >"profile.csv" }\n'

SLOW = {"max_pods": 1, "trials_per_task": 4, "job_variables": {"env": {"SECONDS": "4"}}}
"""Compute of a study that lasts long enough to be disturbed."""

GOING = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]


def study(folder: Path, name: str, function: str = "bowl", trials: int = 16, **changes: Any) -> dict[str, Any]:
    """The document of a study whose simulator is in `folder`."""
    (folder / "designs.py").write_text(DESIGNS)
    compute = {"type": "work_pool", "pool": "kubernetes", "max_pods": 4, "start_deadline": 90}
    return {
        "name": name,
        "simulator": {"type": "python", "entrypoint": f"designs.py:{function}", "directory": str(folder)},
        "space": [
            {"name": "x", "type": "float", "low": -5, "high": 5},
            {"name": "y", "type": "float", "low": -5, "high": 5},
        ],
        "optimizer": {"type": "pso", "population": 8},
        "budget": {"trials": trials, "failures": 1},
        "store": {"block": "lab"},
        "cache": False,  # studies here differ in what happens to them, not in their trials
        "seed": 11,
        **changes,
        "compute": {**compute, **changes.get("compute", {})},
    }


def third_party(folder: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A study of a program in an image that knows nothing of us, and the same program as this machine's simulator."""
    (folder / "sim.awk").write_text(AWK)
    program = {
        "command": ["mawk", "-v", "x={x}", "-v", "y={y}", "-f", "sim.awk"],
        "files": ["sim.awk"],
        "directory": str(folder),
        "metrics": [{"name": "value", "stdout": "Cd = (.*)"}],
        "fields": [{"name": "profile", "file": "profile.csv"}],
    }
    image = {"type": "container", "image": THIRD_PARTY_IMAGE}
    document = study(folder, name, compute={"cpu": "250m", "memory": "64Mi"}, simulator={**program, **image})
    return document, {**program, "type": "command"}


def eventually(look: Callable[[], Any], seconds: float) -> Any:
    """What `look()` gives once it is something."""
    deadline = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return found


def pods(namespace: str) -> list[dict[str, Any]]:
    """Pods of flow runs that have not ended."""
    found = kubernetes("get", "pods", "-n", namespace, "-l", "prefect.io/flow-run-id")["items"]
    return [pod for pod in found if pod["status"]["phase"] in ("Pending", "Running")]


def going(client: SyncPrefectClient) -> list[str]:
    """Flow runs of batches that have not ended."""
    which = FlowRunFilter(tags=FlowRunFilterTags(all_=["simopt"]), state={"type": FlowRunFilterStateType(any_=GOING)})
    return [f"{run.name}: {run.state and run.state.name}" for run in client.read_flow_runs(flow_run_filter=which)]


def waiting_for_nothing(client: SyncPrefectClient, namespace: str) -> bool:
    """Whether nothing of any study is left in Prefect or in the cluster."""
    jobs = kubernetes("get", "jobs", "-n", namespace)["items"]
    return not going(client) and not pods(namespace) and not any(job["status"].get("active") for job in jobs)


def remains(namespace: str, s3: Path) -> list[str]:
    """What studies have left behind: pods and Jobs, also those that have ended, Secrets, and batches in the store."""
    things = kubectl("get", "pods,jobs,secrets", "-n", namespace, "-o", "name").split()
    return [*things, *(str(path) for path in s3.rglob("batches/*") if path.is_file())]


def here(document: dict[str, Any], folder: Path, **changes: Any) -> str:
    """Fingerprint of the same study on this machine."""
    elsewhere = {**document, "compute": {"type": "local", "workers": 2}, "store": {"url": str(folder)}, **changes}
    run_untracked(make_spec(elsewhere))
    return load_study(folder / document["name"]).fingerprint()


def simulating(namespace: str) -> str | None:
    """A pod of ours in which a simulator has printed something."""
    for pod in pods(namespace):
        name: str = pod["metadata"]["name"]
        if "begun" in kubectl("logs", "-n", namespace, name, check=False):
            return name
    return None


class Running:
    """A study that runs in a thread."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document, self.summary, self.error = document, None, None
        self.thread = threading.Thread(target=copy_context().run, args=(self._run,))  # Prefect's settings, too
        self.thread.start()

    def _run(self) -> None:
        try:
            self.summary = optimize(make_spec(self.document))
        except Exception as error:
            self.error = error

    @property
    def going(self) -> bool:
        """Whether it has not ended."""
        return self.thread.is_alive()

    def end(self) -> Any:
        """Its summary, or its error, once it has ended."""
        self.thread.join(400)
        assert not self.thread.is_alive()
        if self.error:
            raise self.error
        return self.summary
