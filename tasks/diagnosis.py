"""Why a flow run on a work pool does not start, or ended before it should have: in plain words, with the way out.

What Prefect knows comes first: states, and the events and log lines in which its Kubernetes worker reports on pods.
Where this process reaches the cluster itself, it looks at the pod and the Job too, which say more.
"""

import re
import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId, LogFilterLevel
from prefect.client.schemas.objects import FlowRun

from prefect_simopt.tasks.cluster import Cluster

__all__ = ["Diagnosis", "diagnose", "why_crashed"]

_ADVICE = {
    "ImagePullError": "correct compute.image, or simulator.image; a private one needs the pool's image_pull_secrets",
    "CrashLoopBackOff": "the container ends as soon as it starts: look at its log, correct the image or its command",
    "OOMKilled": "raise compute.memory, or set compute.memory_max to let it grow by itself",
    "Evicted": "its node was short of disk or memory: ask for as much as a batch needs (compute.memory)",
    "Disrupted": "its node was drained, or a pod that matters more took its place: another one runs the rest",
    "Unschedulable.InsufficientResources": "no node has that much free: ask for less (compute.gpus, cpu, memory), "
    "lower compute.max_pods, or add nodes",
    "Unschedulable.NodeAffinity": "no node has these labels: correct compute.node_selector "
    "(kubectl get nodes --show-labels)",
    "Unschedulable.Taint": "the nodes that are left have a taint: add it to compute.tolerations",
    "Unschedulable": "no node takes the pod: look at compute.node_selector, tolerations, gpus, cpu and memory",
    "Quota": "the namespace's quota is used up: ask for less, lower compute.max_pods, or have it raised",
    "Deadline": "the pod's active_deadline has passed: raise it (compute.job_variables.active_deadline), or have "
    "fewer trials in a batch (compute.trials_per_task)",
    "Running": "look at the pod's log: can it reach Prefect's API, and has the image this package?",
    "InitError": "a container that prepares the pod fails: look at its log",
    "ConfigError": "a Secret or ConfigMap that the pod names is missing, or its user may not be: see the "
    "pool's template",
}
FATAL = ("ImagePullError", "CrashLoopBackOff", "InitError", "ConfigError")
"""What does not go away by waiting for other pods to end."""


@dataclass(frozen=True)
class Diagnosis:
    """What is the matter.

    Attributes:
        kind: one of the worker's categories, or ours; empty when nothing is known.
        detail: the cluster's own words.
    """

    kind: str = ""
    detail: str = ""

    @property
    def running(self) -> bool:
        """Whether there is a pod, which only has not said anything yet."""
        return self.kind == "Running"

    @property
    def fatal(self) -> bool:
        """Whether waiting does not help."""
        return self.kind in FATAL

    def __str__(self) -> str:
        advice = _ADVICE.get(self.kind, "")
        return "; ".join(part for part in (self.detail.rstrip(". "), advice) if part)


def diagnose(client: SyncPrefectClient, run: FlowRun, cluster: Cluster) -> Diagnosis:
    """What is the matter with the pod of a flow run.

    Args:
        client: of Prefect's API.
        run: the flow run.
        cluster: where its pod is, as far as it can be reached from here.
    """
    if (seen := cluster.look(run.id)) is not None:
        return Diagnosis(*seen)
    kind = _event(client, run.id)
    return Diagnosis(kind, _log(client, run.id)) if kind else Diagnosis()


def why_crashed(client: SyncPrefectClient, run: FlowRun, cluster: Cluster, patience: float) -> Diagnosis:
    """What was the matter with a flow run that has crashed; nothing, if nobody says it within that many seconds."""
    end = time.monotonic() + patience
    found = diagnose(client, run, cluster)
    while (not found.kind or found.running) and time.monotonic() < end:
        time.sleep(1.0)
        found = diagnose(client, run, cluster)
    return Diagnosis() if found.running else found


def _event(client: SyncPrefectClient, run: UUID) -> str:
    """The newest category that the worker's observer has given the run's pod."""
    body = {
        "filter": {
            "event": {"prefix": ["prefect.kubernetes.pod."]},
            "any_resource": {"id": [f"prefect.flow-run.{run}"]},
            "order": "DESC",
        },
        "limit": 20,
    }
    running = ""
    events: list[dict[str, Any]] = client.request("POST", "/events/filter", json=body).json()["events"]
    for event in events:
        if category := event["resource"].get("kubernetes.diagnosis"):
            return str(category)
        if event["resource"].get("kubernetes.reason") == "OOMKilled":
            return "OOMKilled"
        if event["event"].endswith(".running"):
            running = "Running"
    return running


def _log(client: SyncPrefectClient, run: UUID) -> str:
    """The observer's last line on it, without the advice, which names other things than a study's keys."""
    lines = client.read_logs(
        LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run]), level=LogFilterLevel(ge_=30)), limit=50
    )
    for line in reversed(lines):
        if "Resolution:" in line.message:
            text = line.message.partition(" Resolution:")[0]
            return re.sub(r"Kubernetes cannot find a suitable node to run this pod\. ", "", text)
    return ""
