"""The part of a study spec that says where simulators run."""

import math
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, field_validator, model_validator

from prefect_simopt.forms import MODEL, Tabs
from prefect_simopt.problems import wrong_at
from prefect_simopt.trial import Reason

__all__ = ["ComputeConfig", "LocalComputeConfig", "Toleration", "WorkPoolComputeConfig", "quantity"]

_QUANTITY = re.compile(r"(?P<number>[0-9]+(\.[0-9]+)?)(?P<unit>m|k|[KMGTP]i|[MGTP])?")
_UNITS = {"m": 1e-3, "": 1.0, **{unit: 1000.0 ** (i + 1) for i, unit in enumerate("kMGTP")},
          **{f"{unit}i": 1024.0 ** (i + 1) for i, unit in enumerate("KMGTP")}}  # fmt: skip
RERUNS_OF_KILLED = 2  # a run killed from outside is no verdict on its parameters


def quantity(text: str) -> float:
    """A Kubernetes quantity as a number: bytes of memory, or cores.

    Raises:
        ValueError: it is none.
    """
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise ValueError("a quantity is a number with a unit, such as 16Gi or 512Mi of memory, 4 or 500m of CPU")
    return float(found["number"]) * _UNITS[found["unit"] or ""]


def _quantity(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = f"{value:g}"
    if isinstance(value, str) and quantity(value) <= 0:
        raise ValueError("must be more than nothing")
    return value


Quantity = Annotated[str, BeforeValidator(_quantity)]


class _ComputeConfig(BaseModel):
    model_config = MODEL

    trials_per_task: int | Literal["auto"] = Field(
        default="auto", description="Trials in one tracked task; auto: so many that tracking costs under 5 %."
    )
    timeout: float = Field(
        default=3600, gt=0, le=10_000_000, allow_inf_nan=False, description="Seconds after which a trial is killed."
    )
    retries: int = Field(
        default=0,
        ge=0,
        le=100,
        description="How often a failed trial is run again. One that was killed from outside is run again in any case.",
    )
    retry_delay: float = Field(
        default=1,
        ge=0,
        le=86_400,
        allow_inf_nan=False,
        description="Seconds before the first retry; doubled for each further one.",
    )

    @field_validator("trials_per_task")
    @classmethod
    def _positive(cls, number: int | str) -> int | str:
        return _count(number)

    def reruns(self, reason: Reason | None) -> int:
        """How often a run that failed for this reason is run again."""
        killed = reason in (Reason.KILLED, Reason.MEMORY)
        return max(self.retries, RERUNS_OF_KILLED) if killed else self.retries


class LocalComputeConfig(_ComputeConfig):
    """Simulators run as processes on this machine."""

    model_config = ConfigDict(title="Local")

    type: Literal["local"] = "local"
    workers: int | Literal["auto"] = Field(
        default="auto", description="Simulators that run at the same time; auto: one per core, or per GPU."
    )

    @field_validator("workers")
    @classmethod
    def _some(cls, number: int | str) -> int | str:
        return _count(number)


class Toleration(BaseModel):
    """A taint of nodes that pods put up with."""

    model_config = MODEL

    key: str | None = Field(default=None, description="Key of the taint; left out, any.")
    operator: Literal["Equal", "Exists"] = Field(default="Equal", description="Whether the value has to be equal.")
    value: str | None = Field(default=None, description="Value of the taint.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Effect of the taint; left out, any."
    )
    toleration_seconds: int | None = Field(
        default=None, alias="tolerationSeconds", description="For how long a NoExecute taint is put up with."
    )


class WorkPoolComputeConfig(_ComputeConfig):
    """Simulators run in flow runs on a Prefect work pool: one pod, process or container for each batch."""

    model_config = ConfigDict(title="Work pool", populate_by_name=True)

    type: Literal["work_pool"] = "work_pool"
    pool: str = Field(min_length=1, description="Name of the work pool.")
    image: str | None = Field(
        default=None, min_length=1, description="Image that batches run in; left out, the pool's own."
    )
    gpus: int = Field(default=0, ge=0, le=64, description="GPUs of a pod.")
    node_selector: dict[str, str] = Field(default_factory=dict, description="Labels that a pod's node has.")
    tolerations: list[Toleration] = Field(default_factory=list, description="Taints that pods put up with.")
    cpu: Quantity | None = Field(default=None, description="Cores of a pod, such as 4 or 500m.")
    memory: Quantity | None = Field(default=None, description="Memory of a pod, such as 16Gi; more than that kills it.")
    memory_max: Quantity | None = Field(
        default=None, description="A batch that ran out of memory is tried again with more, up to this."
    )
    memory_factor: float = Field(
        default=2, gt=1, le=16, description="By how much memory grows after a batch ran out of it."
    )
    max_pods: int = Field(default=16, ge=1, le=500, description="Pods at the same time.")
    start_deadline: float = Field(
        default=900, gt=0, le=604_800, allow_inf_nan=False,
        description="Seconds within which a pod has to start, unless the study's other pods keep it waiting.",
    )  # fmt: skip
    runtime_class: str | None = Field(default=None, description="Runtime class of pods, such as nvidia.")
    service_account: str | None = Field(default=None, description="Service account of pods.")
    namespace: str | None = Field(default=None, description="Kubernetes namespace; left out, the pool's own.")
    job_variables: dict[str, JsonValue] = Field(
        default_factory=dict, description="Further variables of the pool's template. No secrets here."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.memory_max is not None:
            if self.memory is None:
                raise wrong_at("memory_max", "needs `memory`, from which it grows")
            if quantity(self.memory_max) < quantity(self.memory):
                raise wrong_at("memory_max", f"must not be below memory ({self.memory_max} is below {self.memory})")
        if self.memory is not None and quantity(self.memory) < 2**20:
            raise wrong_at("memory", f"{self.memory} is {quantity(self.memory):g} bytes; write 16Gi or 512Mi")
        return self

    @property
    def memory_steps(self) -> int:
        """How often memory can grow."""
        if self.memory is None or self.memory_max is None:
            return 0
        ratio = quantity(self.memory_max) / quantity(self.memory)
        return math.ceil(math.log(ratio) / math.log(self.memory_factor) - 1e-9)

    def reruns(self, reason: Reason | None) -> int:
        """How often a run that failed for this reason is run again: out of memory, as often as there is more of it."""
        if reason is Reason.MEMORY:
            return max(self.retries, self.memory_steps)
        return super().reruns(reason)


def _count(number: int | str) -> int | str:
    if isinstance(number, int) and not 1 <= number <= 100_000:
        raise ValueError("a whole number from 1 to 100000, or auto")
    return number


def _with_type(value: Any) -> Any:
    if isinstance(value, dict) and "type" not in value:
        return {"type": "work_pool" if "pool" in value else "local", **value}
    return value


ComputeConfig = Annotated[
    Annotated[LocalComputeConfig | WorkPoolComputeConfig, Field(discriminator="type"), Tabs()],
    BeforeValidator(_with_type),
]
"""Where simulators run, told apart by `type`; left out, it is a work pool where one is named and this machine else."""
