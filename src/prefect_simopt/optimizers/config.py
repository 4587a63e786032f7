"""What a study may say about its optimizer: one model for each, told apart by `type`.

The models are part of the study spec and a form in Prefect's UI, so this module imports nothing heavy.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from prefect_simopt.forms import MODEL, Tabs

__all__ = [
    "AutoConfig",
    "CMAConfig",
    "DEConfig",
    "GAConfig",
    "GeneratorConfig",
    "GradientConfig",
    "GridConfig",
    "LHSConfig",
    "NSGA2Config",
    "OptimizerConfig",
    "OptunaConfig",
    "PSOConfig",
    "PointsConfig",
    "RandomConfig",
    "SAConfig",
    "SobolConfig",
]

Population = Annotated[int, Field(ge=2, le=100_000)]
Probability = Annotated[float, Field(ge=0, le=1)]


class _Config(BaseModel):
    model_config = MODEL


class _Sequential(_Config):
    mode: Literal["generational", "async"] = Field(
        default="generational",
        description="Told a generation at a time, the same whatever the number of workers; or async: each result at "
        "once, so that no worker waits, in the order in which they come back.",
    )


class _Adaptive(_Sequential):
    model: bool = Field(
        default=True,
        description="Whether a few points of each generation come from a quadratic model of the values so far.",
    )


class AutoConfig(_Adaptive):
    """Whatever suits the space, the budget and the objectives."""

    model_config = ConfigDict(title="Auto")

    type: Literal["auto"] = Field(
        default="auto", description="Picked by the space, the budget, the objectives, noise, and what runs at once."
    )
    population: Population | None = Field(
        default=None, description="Points of a generation; left out, as compute suggests."
    )


class PSOConfig(_Adaptive):
    """Particle swarm optimization."""

    model_config = ConfigDict(title="PSO")

    type: Literal["pso"] = Field(default="pso", description="Particle swarm optimization.")
    population: Population | None = Field(
        default=None, description="Particles, which is also the size of a generation; left out, as compute suggests."
    )
    inertia: float = Field(default=0.6, ge=0, lt=1, description="Share w of its velocity that a particle keeps.")
    cognitive: float = Field(default=1.49618, ge=0, le=4, description="Pull c1 towards a particle's own best point.")
    social: float = Field(default=1.49618, ge=0, le=4, description="Pull c2 towards the best point of the swarm.")
    differential: Probability = Field(
        default=0.5, description="Share of the moves that follow differences of the swarm's points."
    )
    velocity: float = Field(
        default=0.2, gt=0, le=1, description="Longest step along one parameter, as a share of the parameter's range."
    )


class GAConfig(_Adaptive):
    """Genetic algorithm."""

    model_config = ConfigDict(title="GA")

    type: Literal["ga"] = Field(default="ga", description="Genetic algorithm.")
    population: Population | None = Field(
        default=None, description="Individuals, which is also the size of a generation; left out, as compute suggests."
    )
    tournament: int = Field(default=2, ge=1, le=100, description="Individuals that compete to become a parent.")
    crossover: Probability = Field(default=0.9, description="Probability that a child has two parents.")
    crossover_eta: float = Field(
        default=10.0, ge=0, le=1000, description="Distribution index of the crossover; larger keeps children nearer."
    )
    differential: Probability = Field(
        default=0.9, description="Largest share of the children of differential moves; below it, success decides."
    )
    mutation: Probability | None = Field(
        default=None, description="Probability that a parameter mutates; left out, 0.1 to 0.5 over their number."
    )
    mutation_eta: float = Field(
        default=20.0, ge=0, le=1000, description="Distribution index of the mutation; larger makes smaller changes."
    )


class CMAConfig(_Adaptive):
    """Covariance matrix adaptation evolution strategy."""

    model_config = ConfigDict(title="CMA-ES")

    type: Literal["cma"] = Field(default="cma", description="Covariance matrix adaptation evolution strategy.")
    population: Population | None = Field(
        default=None, description="Points of a generation; left out, as compute suggests. Restarts take twice as many."
    )
    sigma: float = Field(
        default=0.25, gt=0, le=1, description="First standard deviation, as a share of a parameter's range."
    )


class DEConfig(_Adaptive):
    """Differential evolution."""

    model_config = ConfigDict(title="DE")

    type: Literal["de"] = Field(default="de", description="Differential evolution.")
    population: Population | None = Field(
        default=None, description="Members, which is also the size of a generation; left out, as compute suggests."
    )
    elite: float = Field(
        default=0.2, gt=0, le=1, description="Share of the members, the best ones, that moves are drawn to."
    )
    history: int = Field(
        default=5, ge=1, le=1000, description="Generations whose successful step lengths are remembered."
    )


class SAConfig(_Adaptive):
    """Simulated annealing."""

    model_config = ConfigDict(title="SA")

    type: Literal["sa"] = Field(default="sa", description="Simulated annealing.")
    population: Population | None = Field(
        default=None, description="Walkers, which is also the size of a generation; left out, as compute suggests."
    )
    temperature: float = Field(
        default=1.0,
        gt=0,
        le=1000,
        description="First temperature, as a multiple of the walkers' median minus best value.",
    )
    cooling: float = Field(
        default=0.85,
        gt=0,
        lt=1,
        description="Factor by which the share of walkers below the temperature falls with every generation.",
    )
    step: float = Field(
        default=0.02, gt=0, le=1, description="Size of the rare long steps, as a share of a parameter's range."
    )
    resampling: Probability = Field(
        default=0.2, description="Share of the walkers that go to where better ones are, in every generation."
    )
    acceptance: float = Field(
        default=0.3, gt=0, lt=1, description="Share of accepted moves that the step is adapted to."
    )


class GradientConfig(_Sequential):
    """Gradient descent from many starts, for simulators that give derivatives."""

    model_config = ConfigDict(title="Gradient")

    type: Literal["gradient"] = Field(
        default="gradient", description="Gradient descent from many starts, for simulators that give derivatives."
    )
    method: Literal["lbfgsb", "adam"] = Field(
        default="lbfgsb", description="Projected L-BFGS with line search; or Adam, whose steps bear noise."
    )
    starts: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="Searches side by side, which is also the size of a generation; left out, as compute suggests.",
    )
    step: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="Length of the first step as a share of a parameter's range; Adam's fall with their number's root.",
    )
    pairs: int = Field(default=10, ge=1, le=100, description="Moves from which L-BFGS takes the curvature.")


class NSGA2Config(_Sequential):
    """Non-dominated sorting genetic algorithm II, for several objectives."""

    model_config = ConfigDict(title="NSGA-II")

    type: Literal["nsga2"] = Field(default="nsga2", description="Non-dominated sorting genetic algorithm II.")
    population: Population | None = Field(
        default=None, description="Children of a generation; left out, as compute suggests."
    )
    members: int = Field(
        default=50, ge=4, le=2000, description="Individuals that live on; all of one front, once there are enough."
    )
    differential: Probability = Field(default=0.5, description="Share of the children of differential moves.")
    crossover: Probability = Field(default=0.9, description="Probability that a child has two parents.")
    crossover_eta: float = Field(
        default=20.0, ge=0, le=1000, description="Distribution index of the crossover; larger keeps children nearer."
    )
    mutation: Probability | None = Field(
        default=None, description="Probability that a parameter mutates; left out, one over their number."
    )
    mutation_eta: float = Field(
        default=20.0, ge=0, le=1000, description="Distribution index of the mutation; larger makes smaller changes."
    )


class RandomConfig(_Config):
    """Uniform random sampling."""

    model_config = ConfigDict(title="Random")

    type: Literal["random"] = Field(default="random", description="Uniform random sampling.")


class SobolConfig(_Config):
    """Scrambled Sobol sequence."""

    model_config = ConfigDict(title="Sobol")

    type: Literal["sobol"] = Field(default="sobol", description="Scrambled Sobol sequence.")


class LHSConfig(_Config):
    """Latin hypercube sampling."""

    model_config = ConfigDict(title="LHS")

    type: Literal["lhs"] = Field(default="lhs", description="Latin hypercube sampling.")
    points: int | None = Field(
        default=None,
        ge=2,
        le=100_000,
        description="Points of one hypercube, best the number of trials; left out, one hypercube a generation.",
    )


class GridConfig(_Config):
    """Full factorial grid."""

    model_config = ConfigDict(title="Grid")

    type: Literal["grid"] = Field(default="grid", description="Full factorial grid.")
    points: int = Field(
        default=10,
        ge=2,
        le=1_000_000,
        description="Values of each continuous parameter; discrete ones take all their values.",
    )


class PointsConfig(_Config):
    """Given points."""

    model_config = ConfigDict(title="Points")

    type: Literal["points"] = Field(default="points", description="Given points.")
    points: list[dict[str, bool | int | float | str]] = Field(
        min_length=1, max_length=1_000_000, description="The points, each a value for every parameter."
    )


class OptunaConfig(_Sequential):
    """A sampler of Optuna."""

    model_config = ConfigDict(title="Optuna")

    type: Literal["optuna"] = Field(default="optuna", description="A sampler of Optuna; needs prefect-simopt[optuna].")
    sampler: str = Field(
        default="tpe",
        pattern=r"^(tpe|gp|cmaes|nsga2|[A-Za-z_][\w.]*:[A-Za-z_]\w*)$",
        max_length=1000,
        description="tpe, gp (Gaussian process; needs torch), cmaes, nsga2, or any sampler as module:Class.",
    )
    arguments: dict[str, JsonValue] = Field(
        default_factory=dict, description="Keyword arguments of the sampler, such as n_startup_trials."
    )
    population: Population | None = Field(
        default=None, description="Points of a generation; left out, as compute suggests."
    )


class GeneratorConfig(_Sequential):
    """Anything that suggests points and ingests results, such as a generator of gest-api."""

    model_config = ConfigDict(title="Generator")

    type: Literal["generator"] = Field(default="generator", description="Other people's generator.")
    entrypoint: str = Field(
        pattern=r"^[^:\s][^:]*:[A-Za-z_][\w.]*$",
        max_length=1000,
        description="`module:make` or `path/to/file.py:make`, relative to the study file; called with space and seed.",
    )
    arguments: dict[str, JsonValue] = Field(default_factory=dict, description="Further keyword arguments of `make`.")
    population: Population | None = Field(
        default=None, description="Points of a generation; left out, as compute suggests."
    )
    directory: str | None = Field(
        default=None, description="Folder that a relative path starts from; the study file's own when left out."
    )


OptimizerConfig = Annotated[
    AutoConfig
    | PSOConfig
    | GAConfig
    | SAConfig
    | DEConfig
    | CMAConfig
    | NSGA2Config
    | RandomConfig
    | SobolConfig
    | LHSConfig
    | GridConfig
    | PointsConfig
    | OptunaConfig
    | GradientConfig
    | GeneratorConfig,
    Field(discriminator="type"),
    Tabs(),
]
"""Any optimizer's configuration, told apart by `type`."""
