"""A Kubernetes cluster as a study's flow may see it: read, where it has the right to; it needs none to work."""

import asyncio
import logging
import re
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any
from uuid import UUID

__all__ = ["Cluster"]

_PATIENCE = 10.0
_LABEL = "prefect.io/flow-run-id"


class Cluster:
    """Looks at the pods and Jobs of flow runs, through the pod's service account or the kubeconfig, if there is one.

    Args:
        kind: type of the work pool; another than `kubernetes` has no cluster.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._reachable = kind == "kubernetes"

    def look(self, run: UUID) -> tuple[str, str] | None:
        """What is the matter with the run's pod: category and the cluster's own words; None where that is not known."""
        return self._ask(_look(str(run))) if self._reachable else None

    def remove(self, run: UUID) -> bool:
        """Delete the run's Jobs with their pods; whether that could be done."""
        return self._reachable and bool(self._ask(_remove(str(run))))

    def _ask(self, question: Coroutine[Any, Any, Any]) -> Any:
        try:
            import kubernetes_asyncio  # noqa: F401 - comes with the extra `kubernetes`
        except ImportError:
            question.close()
            self._reachable = False
            return None
        try:
            return asyncio.run(asyncio.wait_for(question, _PATIENCE))
        except Exception as error:  # noqa: BLE001 - no cluster, no rights, no answer: Prefect's own reports remain
            logging.getLogger(__name__).debug("the cluster cannot be asked: %s", error)
            self._reachable = False
            return None


async def _client() -> Any:
    from kubernetes_asyncio import client, config

    try:
        config.load_incluster_config()  # type: ignore[no-untyped-call]
        return client.ApiClient()
    except config.ConfigException:
        return await config.new_client_from_config()


async def _look(run: str) -> tuple[str, str] | None:
    from kubernetes_asyncio.client import BatchV1Api, CoreV1Api

    api = await _client()
    try:
        core = CoreV1Api(api)
        jobs = (await BatchV1Api(api).list_job_for_all_namespaces(label_selector=f"{_LABEL}={run}")).items
        for condition in (condition for job in jobs for condition in job.status.conditions or []):
            if condition.reason == "DeadlineExceeded":
                return "Deadline", condition.message
        pods = (await core.list_pod_for_all_namespaces(label_selector=f"{_LABEL}={run}")).items
        if pods:
            pods.sort(key=lambda pod: pod.metadata.creation_timestamp)
            pod = pods[-1]
            found = _pod(api.sanitize_for_serialization(pod)["status"])
            if not found[0] and pod.status.phase == "Running":
                return "Running", "its container runs, but the flow run in it has not begun"
            if found[0] or pod.status.phase != "Pending":
                return found
            message = await _warning(core, pod)
            kind = "ConfigError" if "not found" in message else ""
            return kind or (_unschedulable(message) if "nodes are available" in message else ""), message
        for job in jobs:
            if message := await _warning(core, job):
                return ("Quota" if "quota" in message else "Unschedulable"), message
        return ("", "") if jobs else None
    finally:
        await api.close()


async def _warning(core: Any, thing: Any) -> str:
    """The last warning about a pod or a Job."""
    where = f"involvedObject.uid={thing.metadata.uid}"
    events = (await core.list_namespaced_event(thing.metadata.namespace, field_selector=where)).items
    messages: list[str] = [event.message for event in events if event.type == "Warning"]
    return _short(messages[-1]) if messages else ""


async def _remove(run: str) -> bool:
    from kubernetes_asyncio.client import ApiException, BatchV1Api, CoreV1Api

    api = await _client()
    try:
        batch = BatchV1Api(api)
        jobs = (await batch.list_job_for_all_namespaces(label_selector=f"{_LABEL}={run}")).items
        for job in jobs:
            await batch.delete_namespaced_job(
                job.metadata.name, job.metadata.namespace, propagation_policy="Background"
            )
            with suppress(ApiException):  # otherwise they have their own time to end, half a minute
                await CoreV1Api(api).delete_collection_namespaced_pod(
                    job.metadata.namespace, label_selector=f"{_LABEL}={run}", grace_period_seconds=2
                )
        return bool(jobs)
    finally:
        await api.close()


def _pod(status: dict[str, Any]) -> tuple[str, str]:
    """The category and the words of a pod's status; empty when nothing is wrong with it."""
    initial = status.get("initContainerStatuses") or []
    for container in [*initial, *(status.get("containerStatuses") or [])]:
        name, state = container["name"], container.get("state") or {}
        waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
        last = (container.get("lastState") or {}).get("terminated") or {}
        reason, message = waiting.get("reason", ""), waiting.get("message", "")
        if "OOMKilled" in (ended.get("reason"), last.get("reason")):
            return "OOMKilled", f"the container {name} ran out of memory and was killed"
        if reason in ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"):
            return "ImagePullError", f"the image of the container {name} cannot be had ({reason}): {message}"
        if reason in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"):
            return "ConfigError", f"the container {name} cannot be made ({reason}): {message}"
        if reason == "CrashLoopBackOff":
            return "CrashLoopBackOff", f"the container {name} ends again and again: {message}"
        if container in initial and ended.get("exitCode"):
            return "InitError", f"the container {name}, which prepares the pod, ended with code {ended['exitCode']}"
    if status.get("reason") in ("Evicted", "Preempting", "NodeLost", "NodeShutdown", "Terminated"):
        return "Evicted", f"the pod was taken off its node ({status['reason']}): {status.get('message', '')}"
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            message = _short(condition.get("message", ""))
            return _unschedulable(message), message
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            return (
                "Disrupted",
                f"the pod was taken off its node ({condition.get('reason')}): {condition.get('message')}",
            )
    return "", ""


def _short(message: str) -> str:
    """Without what the scheduler adds on pods that it might have driven away."""
    return re.split(r"\.? no new claims|\.? preemption:", message)[0]


def _unschedulable(message: str) -> str:
    text = message.lower()
    if "affinity" in text or "node selector" in text:
        return "Unschedulable.NodeAffinity"
    if "insufficient" in text:
        return "Unschedulable.InsufficientResources"
    return "Unschedulable.Taint" if "taint" in text else "Unschedulable"
