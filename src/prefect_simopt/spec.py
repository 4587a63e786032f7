"""The study spec: the same models are the YAML file, the Python API and the form in Prefect's UI."""

import hashlib
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from prefect_simopt.compute_config import ComputeConfig, LocalComputeConfig
from prefect_simopt.conditions import Conditions
from prefect_simopt.errors import SpecError
from prefect_simopt.fidelity import Fidelity
from prefect_simopt.forms import MODEL
from prefect_simopt.optimizers.config import AutoConfig, GradientConfig, OptimizerConfig
from prefect_simopt.problems import wrong_at
from prefect_simopt.relations import Relation, RelationSyntaxError
from prefect_simopt.simulators.config import SimulatorConfig
from prefect_simopt.space import Parameter, Space, numeric_names

__all__ = ["Budget", "Constraint", "Objective", "StoreConfig", "StudySpec"]

_MOST_TRIALS, _TRIALS_FOR_COST = 100_000_000, 100
_ONE_OF_THEM = "leave it out of one of them"
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class _Config(BaseModel):
    model_config = MODEL


class Objective(_Config):
    """A metric to make as small, or as large, as possible."""

    metric: str = Field(description="Name of the metric; a function that returns a number gives `value`.", min_length=1)
    direction: Literal["minimize", "maximize"] = Field(default="minimize", description="Which values are better.")
    target: float | None = Field(
        default=None, allow_inf_nan=False, description="The study is done once every objective has reached its target."
    )

    @property
    def sign(self) -> float:
        """What the metric is multiplied by so that smaller is better."""
        return -1.0 if self.direction == "maximize" else 1.0


class Constraint(_Config):
    """Bounds on a metric that a feasible trial respects."""

    metric: str = Field(description="Name of the metric.", min_length=1)
    low: float | None = Field(default=None, allow_inf_nan=False, description="Smallest feasible value.")
    high: float | None = Field(default=None, allow_inf_nan=False, description="Largest feasible value.")

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.low is None and self.high is None:
            raise ValueError("a constraint needs `low`, `high` or both")
        if self.low is not None and self.high is not None and self.low > self.high:
            message = f"low must not be above high (low is {self.low:g}, high is {self.high:g})"
            raise wrong_at("low", message)
        return self

    def violation(self, value: float) -> float:
        """How far `value` is outside, in the metric's units; 0 inside."""
        below = 0.0 if self.low is None else self.low - value
        above = 0.0 if self.high is None else value - self.high
        return max(below, above, 0.0)


class Budget(_Config):
    """When the search ends, whichever comes first. Only `trials` is a promise; the rest ends it earlier."""

    trials: int = Field(
        default=100,
        ge=1,
        le=_MOST_TRIALS,
        description="Number of trials, failed ones and those of low fidelity counted in; 100 for each unit of a cost.",
    )
    cost: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="What all trials may cost, in trials at the highest fidelity; without a fidelity each costs 1.",
    )
    wall_time: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Seconds after which no generation is started."
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="End after this many trials without a better one, looked at after each generation.",
    )
    failures: float = Field(
        default=0.5, ge=0, le=1, description="Share of failed trials above which the study fails; at 1 it never does."
    )

    @model_validator(mode="before")
    @classmethod
    def _room(cls, given: Any) -> Any:
        """Where only a cost is given, trials are as many as it takes."""
        cost = given.get("cost") if isinstance(given, dict) and "trials" not in given else None
        if isinstance(cost, int | float) and 0 < cost < _MOST_TRIALS / _TRIALS_FOR_COST:
            return {**given, "trials": _TRIALS_FOR_COST * math.ceil(cost)}
        return given


class StoreConfig(_Config):
    """Where studies live."""

    model_config = ConfigDict(title="Store")

    url: str = Field(default="studies", min_length=1, description="Folder, or s3://bucket/prefix.")
    block: str | None = Field(
        default=None,
        description="Name of a StudyStore block, which then says where studies live and with which credentials.",
    )

    @field_validator("url")
    @classmethod
    def _plain(cls, url: str) -> str:
        scheme, separator, rest = url.partition("://")
        if "\0" in url or not url.strip():
            raise ValueError("a folder or s3://bucket/prefix")
        if separator and scheme not in ("s3", "file"):
            raise ValueError(f"{scheme}:// is not supported; give a folder or s3://bucket/prefix")
        if separator and "@" in rest.split("/", 1)[0]:
            raise wrong_at("", "no credentials in a URL: give them by a StudyStore block or by environment variables")
        if scheme == "s3" and separator and not rest.strip("/"):
            raise ValueError("name a bucket: s3://bucket/prefix")
        return url


def _typed(value: Any) -> Any:
    if isinstance(value, str):
        return {"type": value}
    return {"type": "auto", **value} if isinstance(value, dict) else value


def _located(value: Any) -> Any:
    return {"url": value} if isinstance(value, str) else value


def _arguments(info: ValidationInfo) -> Mapping[str, Any]:
    """The fixed arguments of a simulator that has some."""
    return getattr(info.data.get("simulator"), "arguments", {})


def _in_the_grammar(text: str, info: ValidationInfo) -> str:
    if "space" in info.data:
        try:
            Relation.parse(text, numeric_names(info.data["space"]))
        except RelationSyntaxError as error:
            raise wrong_at("", str(error)) from None
    return text


class StudySpec(_Config):
    """One question put to one simulator.

    Example:
        ```python
        StudySpec(
            name="bowl",
            simulator={"entrypoint": "bowl.py:simulate"},
            space=[Float("x", -5, 5), Float("y", -5, 5)],
            objectives=[Objective(metric="value")],
        )
        ```
    """

    name: str = Field(
        pattern=NAME,
        max_length=100,
        description="Name of the study in its store: letters a to z and A to Z, digits, dots, dashes, underscores.",
    )
    simulator: SimulatorConfig = Field(description="What is run.")
    space: list[Parameter] = Field(min_length=1, max_length=10_000, description="What may vary.")
    fidelity: Fidelity | None = Field(
        default=None, description="A keyword of the simulator that says how exactly it computes, such as a resolution."
    )
    relations: list[Annotated[str, AfterValidator(_in_the_grammar)]] = Field(
        default_factory=list,
        description="Comparisons between parameters that every trial satisfies, such as t1 + t2 <= 400.",
    )
    objectives: list[Objective] = Field(
        default_factory=lambda: [Objective(metric="value")], min_length=1, max_length=20, description="What counts."
    )
    constraints: list[Constraint] = Field(default_factory=list, description="What a feasible trial respects.")
    optimizer: Annotated[OptimizerConfig, BeforeValidator(_typed)] = Field(
        default_factory=AutoConfig, description="How the space is searched."
    )
    budget: Budget = Field(default_factory=Budget, description="When the search ends.")
    replicates: int = Field(
        default=1, ge=1, le=10_000, description="Runs for each trial of a noisy simulator, each with a seed of its own."
    )
    compute: ComputeConfig = Field(
        default_factory=LocalComputeConfig, validate_default=True, description="Where simulators run."
    )
    store: Annotated[StoreConfig, BeforeValidator(_located)] = Field(
        default_factory=StoreConfig, description="Where the study lives."
    )
    cache: bool = Field(
        default=True, description="Take the result of an equal trial in the same store instead of running it again."
    )
    seed: int = Field(default=0, ge=0, le=2**63 - 1, description="Every random number of the study follows from it.")

    # What fields say together is looked at with the last of them, whose validator sees those before that are valid: so
    # that a person is told of it together with everything else.

    @field_validator("space")
    @classmethod
    def _fits_itself(cls, space: list[Parameter], info: ValidationInfo) -> list[Parameter]:
        first: dict[str, int] = {}
        for i, parameter in enumerate(space):
            if parameter.name in first:
                raise wrong_at(f"[{i}].name", f"the name {parameter.name!r} is taken by space[{first[parameter.name]}]")
            if parameter.name in _arguments(info):
                message = f"{parameter.name!r} is also in simulator.arguments; {_ONE_OF_THEM}"
                raise wrong_at(f"[{i}].name", message)
            first[parameter.name] = i
        try:
            Conditions(space)
        except SpecError as error:
            raise wrong_at(error.problems[0].path.removeprefix("space"), error.problems[0].message) from None
        return space

    @field_validator("fidelity")
    @classmethod
    def _has_a_name_of_its_own(cls, fidelity: Fidelity | None, info: ValidationInfo) -> Fidelity | None:
        if fidelity is not None:
            if fidelity.name in [parameter.name for parameter in info.data.get("space", ())]:
                raise wrong_at("name", f"{fidelity.name!r} is also a parameter of the space; {_ONE_OF_THEM}")
            if fidelity.name in _arguments(info):
                raise wrong_at("name", f"{fidelity.name!r} is also a fixed argument; {_ONE_OF_THEM}")
        return fidelity

    @field_validator("objectives")
    @classmethod
    def _differ(cls, objectives: list[Objective], info: ValidationInfo) -> list[Objective]:
        if len({each.metric for each in objectives}) < len(objectives):
            raise wrong_at("", "two objectives have the same metric")
        if len(objectives) > 1 and info.data.get("fidelity") is not None:
            raise wrong_at("", "fidelity takes one objective: candidates are compared by it; leave the others out")
        return objectives

    @field_validator("optimizer")
    @classmethod
    def _finds_gradients(cls, optimizer: OptimizerConfig, info: ValidationInfo) -> OptimizerConfig:
        if isinstance(optimizer, GradientConfig):
            simulator, space = info.data.get("simulator"), info.data.get("space")
            if simulator is not None and simulator.type != "python":
                message = "gradients come from Python simulators; a program has none: take pso, cma or another"
                raise wrong_at("type", message)
            if space is not None and all(parameter.levels for parameter in space):
                raise wrong_at("type", "gradients need a continuous parameter: one of type float, no step")
            if info.data.get("fidelity") is not None:
                raise wrong_at("type", "fidelity takes an optimizer that goes by values, such as pso")
        return optimizer

    @field_validator("compute")
    @classmethod
    def _runs_containers(cls, compute: ComputeConfig, info: ValidationInfo) -> ComputeConfig:
        simulator = info.data.get("simulator")
        if simulator is not None and simulator.type == "container" and compute.type != "work_pool":
            message = "a container simulator runs on a Kubernetes work pool: compute: {type: work_pool, pool: NAME}"
            raise wrong_at("type", message)
        return compute

    def make_space(self) -> Space:
        """The space with its parsed relations."""
        return Space(self.space, self.relations)

    @property
    def points(self) -> int:
        """About how many points the budget is enough for."""
        if self.budget.cost is None:
            return self.budget.trials
        # Of a point that costs 1 without levels, the others of its bracket are tried at the lower ones.
        each = 1.0 if self.fidelity is None else len(self.fidelity.values) / self.fidelity.eta**2
        return min(self.budget.trials, math.ceil(self.budget.cost / min(each, 1.0)))

    @property
    def keywords(self) -> list[str]:
        """Names of what the simulator is given: the parameters, and the fidelity."""
        return [each.name for each in self.space] + ([] if self.fidelity is None else [self.fidelity.name])

    @property
    def conditional(self) -> dict[str, bool]:
        """Names of the parameters that some trials do not have, and whether they are numbers."""
        numbers = numeric_names(self.space)
        return {each.name: each.name in numbers for each in self.space if each.when}

    @property
    def slopes(self) -> list[str]:
        """Names of the parameters by which the optimizer wants the metrics differentiated."""
        wanted = isinstance(self.optimizer, GradientConfig)
        return [each.name for each in self.space if wanted and each.levels == 0]

    @property
    def metrics(self) -> list[str]:
        """Metrics that every trial must have: those of objectives and constraints, in order, each once."""
        objectives = [each.metric for each in self.objectives]
        return list(dict.fromkeys(objectives + [each.metric for each in self.constraints]))

    def document(self) -> dict[str, Any]:
        """The spec as stored with the study: a JSON document."""
        return self.model_dump(mode="json", exclude_none=True)

    @property
    def question(self) -> dict[str, Any]:
        """The part of the document that decides which trials there are: another question is another study.

        Where it runs, where it is stored and how long it may take are left out.
        """
        document = self.document()
        for elsewhere in ("compute", "store", "budget", "cache"):
            document.pop(elsewhere, None)
        document["simulator"].pop("directory", None)
        document["optimizer"].pop("directory", None)
        return document

    @property
    def digest(self) -> str:
        """SHA-256 of the question, as hexadecimal."""
        return hashlib.sha256(orjson.dumps(self.question, option=orjson.OPT_SORT_KEYS)).hexdigest()
