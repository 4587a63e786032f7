"""A Prefect work pool as a place for batches: what its template takes, and the deployment that runs them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from httpx import HTTPError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import WorkerStatus, WorkPool
from prefect.exceptions import ObjectNotFound
from prefect.utilities.templating import find_placeholders

from prefect_simopt.compute_config import WorkPoolComputeConfig, quantity
from prefect_simopt.errors import ComputeError, Problem, SpecError

__all__ = ["FLOW", "Pool", "check_pool", "check_reachable", "find_pool"]

FLOW = "evaluate"
ENTRYPOINT = "prefect_simopt.flows.evaluate.evaluate"
TEMPLATE = "deployments/kubernetes/base-job-template.json"
_NEEDED = (
    "gpus", "node_selector", "tolerations", "cpu_limit", "memory_limit", "memory_request", "image", "namespace",
    "service_account_name", "runtime_class", "volumes", "volume_mounts", "init_containers", "finished_job_ttl",
)  # fmt: skip
_MERGED = ("volumes", "volume_mounts", "env")  # what a study names is added to the pool's own


class Pool:
    """A work pool.

    Args:
        found: as Prefect's API gave it.

    Attributes:
        name: of the pool.
        kind: its type, such as `kubernetes` or `process`.
    """

    def __init__(self, found: WorkPool) -> None:
        self.name, self.kind = found.name, found.type
        template = found.base_job_template or {}
        self._variables: Mapping[str, Any] = template.get("variables", {}).get("properties", {})
        self._used = {each.name for each in find_placeholders(template.get("job_configuration", {}))}

    def lacks(self, names: Sequence[str] = _NEEDED) -> list[str]:
        """What is wrong with the template for these variables: Prefect drops those that it does not know, silently."""
        problems = []
        for name in names:
            if name not in self._variables:
                problems.append(f"it has no variable {name!r}")
            elif name not in self._used:
                problems.append(f"its variable {name!r} is used nowhere in the job's configuration")
        return problems

    def job_variables(
        self, config: WorkPoolComputeConfig, memory: str | None, further: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The compute of a spec in the pool's own terms.

        Args:
            config: of the spec.
            memory: what a pod gets now; it grows.
            further: variables that the simulator needs.

        Raises:
            SpecError: the pool cannot give what the spec asks for.
        """
        wanted = _translate(self.kind, config, memory)
        for source in (config.job_variables, further or {}):
            for name, value in source.items():
                wanted[name] = self._merged(name, value, wanted.get(name)) if name in _MERGED else value
        if problems := self.lacks(list(wanted)):
            way_out = f"give it our template: {_update(self.name)}"
            if self.kind != "kubernetes":
                way_out = f"leave it out, or name a pool of another type: {self.name} is of type {self.kind}"
            raise SpecError(
                [
                    Problem("compute", f"the work pool {self.name} cannot do this: {each}; {way_out}")
                    for each in problems
                ]
            )
        return wanted

    def _merged(self, name: str, value: Any, earlier: Any) -> Any:
        own = earlier if earlier is not None else self._variables.get(name, {}).get("default")
        if isinstance(value, dict):
            return {**(own or {}), **value}
        names = {each.get("mountPath") or each.get("name") for each in value}
        return [each for each in own or [] if (each.get("mountPath") or each.get("name")) not in names] + list(value)

    def default(self, name: str) -> Any:
        """The template's default of a variable."""
        return self._variables.get(name, {}).get("default")

    def deployment(self, client: SyncPrefectClient) -> UUID:
        """The deployment of the flow `evaluate` on this pool; created when there is none."""
        there = client.read_deployments(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW])),
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[self.name])),
            limit=1,
        )
        if there:
            return there[0].id
        return client.create_deployment(
            client.create_flow_from_name(FLOW),
            self.name,
            work_pool_name=self.name,
            entrypoint=ENTRYPOINT,
            description="Runs batches of studies. Studies start it; nobody else needs to.",
            tags=["simopt"],
            enforce_parameter_schema=False,
        )

    def idle(self, client: SyncPrefectClient) -> str:
        """Why nothing of this pool starts, as far as Prefect knows: empty when there is a worker."""
        pool = client.read_work_pool(self.name)
        if pool.is_paused:
            return f"the work pool {self.name} is paused; resume it: prefect work-pool resume {self.name}"
        workers = client.read_workers_for_work_pool(self.name)
        if any(worker.status is WorkerStatus.ONLINE for worker in workers):
            return ""
        return f"no worker of the work pool {self.name} is running; start one: prefect worker start --pool {self.name}"


def find_pool(client: SyncPrefectClient, name: str) -> Pool:
    """The work pool of that name.

    Raises:
        SpecError: there is none; which ones there are.
    """
    try:
        return Pool(client.read_work_pool(name))
    except ObjectNotFound:
        there = ", ".join(pool.name for pool in client.read_work_pools(limit=20)) or "none at all"
        way_out = f"there are: {there}; create it: prefect work-pool create {name} --type kubernetes"
        raise SpecError([Problem("compute.pool", f"there is no work pool of this name; {way_out}", name)]) from None


def check_pool(name: str) -> list[str]:
    """What keeps a work pool from running studies; nothing where all is well.

    Raises:
        SpecError: there is no pool of the name.
        ComputeError: Prefect's API does not answer.
    """
    try:
        with get_client(sync_client=True) as client:
            pool = find_pool(client, name)
            problems = [f"{name}: {each}" for each in (pool.lacks() if pool.kind == "kubernetes" else [])]
            if problems:
                problems.append(f"give it our template: {_update(name)}")
            return problems + [idle for idle in [pool.idle(client)] if idle]
    except (HTTPError, RuntimeError) as error:
        raise ComputeError(f"Prefect's API does not answer: {error}; set PREFECT_API_URL") from None


def _update(name: str) -> str:
    return f"prefect work-pool update {name} --base-job-template {TEMPLATE}"


def _translate(kind: str, config: WorkPoolComputeConfig, memory: str | None) -> dict[str, Any]:
    """What the keys of the spec are called in the template of a pool of that type; without those that are not set."""
    tolerations = [each.model_dump(by_alias=True, exclude_none=True) for each in config.tolerations]
    wanted: dict[str, Any]
    unknown: dict[str, Any]
    if kind == "docker":
        wanted = {"image": config.image, "mem_limit": None if memory is None else str(math.ceil(quantity(memory)))}
        unknown = {"gpus": config.gpus or None, "cpu": config.cpu}
    elif kind.startswith("ecs"):
        wanted = {
            "image": config.image,
            "cpu": None if config.cpu is None else math.ceil(1024 * quantity(config.cpu)),
            "memory": None if memory is None else math.ceil(quantity(memory) / 2**20),
        }
        unknown = {"gpus": config.gpus or None}
    elif kind == "kubernetes":
        return _set({
            "image": config.image,
            "gpus": config.gpus or None,
            "node_selector": config.node_selector or None,
            "tolerations": tolerations or None,
            "cpu_request": config.cpu,
            "cpu_limit": config.cpu,
            "memory_request": memory,
            "memory_limit": memory,
            "runtime_class": config.runtime_class,
            "service_account_name": config.service_account,
            "namespace": config.namespace,
        })  # fmt: skip
    else:
        wanted = {}
        unknown = {"image": config.image, "gpus": config.gpus or None, "cpu": config.cpu, "memory": memory}
    unknown |= {
        "node_selector": config.node_selector or None,
        "tolerations": tolerations or None,
        "runtime_class": config.runtime_class,
        "service_account": config.service_account,
        "namespace": config.namespace,
    }
    if refused := _set(unknown):
        raise SpecError(
            [Problem(f"compute.{name}", f"a pool of type {kind} does not have this; leave it out") for name in refused]
        )
    return _set(wanted)


def _set(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def check_reachable(kind: str, url: str, config: WorkPoolComputeConfig) -> None:
    """Refuse a store that pods cannot see.

    Raises:
        ComputeError: it is a folder of this machine, and no volume is mounted.
    """
    if kind in ("kubernetes", "docker") or kind.startswith("ecs"):
        local = "://" not in url or url.startswith("file://")
        if local and not {"volumes", "volume_mounts"} & config.job_variables.keys():
            raise ComputeError(
                f"pods cannot see {url}, a folder of this machine; give store.url as s3://bucket/prefix with a "
                "StudyStore block for its credentials, or mount a shared volume (compute.job_variables.volumes)"
            )
