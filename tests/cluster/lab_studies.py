"""Studies for the cluster: small simulators, their store on S3, and what is left of them in the cluster."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster_lab import kubernetes
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterStateType, FlowRunFilterTags
from prefect.client.schemas.objects import StateType

__all__ = ["DESIGNS", "eventually", "going", "pods", "study", "waiting_for_nothing"]

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
        "seed": 11,
        **changes,
        "compute": {**compute, **changes.get("compute", {})},
    }


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
