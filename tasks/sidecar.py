"""The containers of a pod in which an image of the user's own runs beside ours, unmodified.

An init container of our image puts a static busybox and `runner.sh` on a volume; the user's image runs as a native
sidecar (Kubernetes 1.29 or newer) whose command is that runner, until the flow run in the main container has ended.
"""

from collections.abc import Callable
from typing import Any

from prefect_simopt.compute_config import WorkPoolComputeConfig
from prefect_simopt.simulators.config import ContainerSimulator
from prefect_simopt.simulators.container import SHARED
from prefect_simopt.tasks.pool import Pool

__all__ = ["sidecar"]

_INSTALLED = "/usr/local/lib/simopt"  # in our image
_RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
_OWN = {"cpu": "100m", "memory": "256Mi"}  # what our flow needs beside the simulator
_VOLUME = "simopt"


def sidecar(
    simulator: ContainerSimulator, config: WorkPoolComputeConfig, pool: Pool
) -> Callable[[str | None], dict[str, Any]]:
    """Makes the job variables of such a pod, given the memory that the user's container gets.

    Args:
        simulator: whose image it is.
        config: what its container gets.
        pool: whose template it is.
    """
    ours = config.image or pool.default("image")
    policy = config.job_variables.get("image_pull_policy") or pool.default("image_pull_policy") or "IfNotPresent"
    mount = {"name": _VOLUME, "mountPath": SHARED}
    others: Any = config.job_variables.get("volume_mounts") or pool.default("volume_mounts") or []

    def variables(memory: str | None) -> dict[str, Any]:
        sizes = {"cpu": config.cpu, "memory": memory, "nvidia.com/gpu": config.gpus or None}
        limits = {name: size for name, size in sizes.items() if size is not None}
        user = {} if simulator.user is None else {"runAsUser": simulator.user}
        injector = {
            "name": "simopt-runner",
            "image": ours,
            "imagePullPolicy": policy,
            "command": ["cp", f"{_INSTALLED}/busybox", f"{_INSTALLED}/runner.sh", f"{SHARED}/"],
            "volumeMounts": [mount],
            "securityContext": _RESTRICTED,
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "1", "memory": "64Mi"}},
        }
        simulated = {
            "name": "simulator",
            "image": simulator.image,
            "imagePullPolicy": policy,
            "restartPolicy": "Always",
            "command": [f"{SHARED}/busybox", "sh", f"{SHARED}/runner.sh"],
            "volumeMounts": [*others, mount],
            "securityContext": {**_RESTRICTED, **user},
            "resources": {"limits": limits, "requests": limits},
        }
        return {
            "init_containers": [*(pool.default("init_containers") or []), injector, simulated],
            "volumes": [{"name": _VOLUME, "emptyDir": {}}],
            "volume_mounts": [mount],
            "cpu_request": _OWN["cpu"],
            "memory_request": _OWN["memory"],
        }

    return variables
