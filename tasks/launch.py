"""How a batch becomes a flow run on a work pool: written down in the study's store, started, forgotten again."""

import contextlib
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from prefect.deployments import run_deployment
from prefect.runtime import flow_run

from prefect_simopt.assignment import Assignment
from prefect_simopt.compute_config import WorkPoolComputeConfig
from prefect_simopt.errors import StoreError
from prefect_simopt.storage import Storage
from prefect_simopt.tasks.child import Child, Plan
from prefect_simopt.tasks.pool import Pool
from prefect_simopt.tasks.sweep import PARENT

__all__ = ["Launcher", "pod_variables"]


def pod_variables(pool: Pool, plan: Plan, config: WorkPoolComputeConfig, memory: str | None) -> dict[str, Any]:
    """Job variables of a pod; what the spec asks for goes to the simulator's container, if it has one.

    Args:
        pool: that the pod is of.
        plan: what it is told.
        config: of the spec.
        memory: that it gets, such as `16Gi`; None for the pool's own default.

    Raises:
        SpecError: the pool cannot give what the spec asks for.
    """
    if plan.sidecar is None:
        return pool.job_variables(config, memory)
    ours = config.model_copy(update={"gpus": 0, "cpu": None})
    return pool.job_variables(ours, None, plan.sidecar(memory))


@dataclass(frozen=True)
class Launcher:
    """Starts the flow runs of one study.

    Attributes:
        name: of the study.
        url: where it lives.
        storage: of the study.
        config: of its spec.
        plan: what is told to every pod.
        pool: that pods are of.
        deployment: of the flow `evaluate` on that pool.
        block: StudyStore block that pods take their credentials from.
        code: key of the simulator's files in the store.
        capacity: trials that the study has room for.
        token: of the study's writer.
        tag: by which the study's flow runs are found.
    """

    name: str
    url: str
    storage: Storage
    config: WorkPoolComputeConfig
    plan: Plan
    pool: Pool
    deployment: UUID
    block: str | None
    code: str
    capacity: int
    token: str
    tag: str

    def start(self, child: Child, memory: str | None) -> UUID:
        """Start a flow run for what is left of a batch, as part of the task run that submitted it; returns its id.

        Raises:
            StoreError: the batch cannot be written down.
            SpecError: the pool cannot give what the spec asks for.
        """
        if not child.key:
            child.key = self._write(child)
        tags = ["simopt", self.tag, *([f"{PARENT}{parent}"] if (parent := flow_run.id) else [])]
        started: Any = child.context.run(
            run_deployment,
            self.deployment,
            parameters={"study": self.url, "batch": child.key, "block": self.block},
            flow_run_name=f"{self.name}, {child.name}" + (f", try {child.tries + 1}" if child.tries else ""),
            timeout=0,
            tags=tags,
            idempotency_key=f"{self.name}/{self.token}/{child.key}/{child.runs[0].attempt}/{child.tries}",
            job_variables=pod_variables(self.pool, self.plan, self.config, memory),
        )
        found: UUID = started.id
        return found

    def _write(self, child: Child) -> str:
        """Write a batch down; its key."""
        plan = self.plan
        wanted = {(run.trial, run.replicate) for run in child.wanted}
        runs = [replace(run, wanted=(run.trial, run.replicate) in wanted) for run in child.runs]
        if not plan.info.batch:
            runs = [run for run in runs if run.wanted]
        return Assignment(
            plan.document, plan.names, plan.required, plan.info.identity, self.code, self.config.timeout,
            self.capacity, self.token, runs, plan.conditional, plan.slopes,
        ).write(self.storage)  # fmt: skip

    def forget(self, child: Child) -> None:
        """Delete what was written down for a flow run that has ended."""
        if child.key:
            with contextlib.suppress(StoreError):
                self.storage.delete([child.key])
            child.key = ""
