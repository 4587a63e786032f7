"""Any optimizer, from its configuration or from its state."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from prefect_simopt.errors import Problem, SpecError
from prefect_simopt.optimizers.auto import choose
from prefect_simopt.optimizers.base import Optimizer
from prefect_simopt.optimizers.cma import CMA
from prefect_simopt.optimizers.config import OptimizerConfig
from prefect_simopt.optimizers.de import DE
from prefect_simopt.optimizers.engine import Engine
from prefect_simopt.optimizers.ga import GA
from prefect_simopt.optimizers.generator import Generator
from prefect_simopt.optimizers.gradient import Gradient
from prefect_simopt.optimizers.grid import Grid
from prefect_simopt.optimizers.halving import Halving
from prefect_simopt.optimizers.lhs import LHS
from prefect_simopt.optimizers.nsga2 import NSGA2
from prefect_simopt.optimizers.optuna_sampler import Optuna
from prefect_simopt.optimizers.points import Points
from prefect_simopt.optimizers.pso import PSO
from prefect_simopt.optimizers.random_sampling import Random
from prefect_simopt.optimizers.sa import SA
from prefect_simopt.optimizers.sobol import Sobol
from prefect_simopt.problems import problems_of
from prefect_simopt.space import Space

__all__ = ["ENGINES", "make_config", "make_optimizer", "optimizer_from_state"]

ENGINES: dict[str, type[Engine]] = {
    "pso": PSO,
    "ga": GA,
    "sa": SA,
    "de": DE,
    "cma": CMA,
    "nsga2": NSGA2,
    "random": Random,
    "sobol": Sobol,
    "lhs": LHS,
    "grid": Grid,
    "points": Points,
    "optuna": Optuna,
    "gradient": Gradient,
    "generator": Generator,
}
"""The engine of each `type` of configuration but `auto`, which picks one of these."""


def make_optimizer(
    config: Any, space: Space | Sequence[Any], seed: int = 7, objectives: int = 1, batch: int = 16
) -> Optimizer:
    """Make an optimizer.

    Args:
        config: the name of an optimizer, a dict as in the study spec, or the model.
        space: the space, or a list of parameters or of dicts of their fields.
        seed: of all its random numbers, 0 or above.
        objectives: how many values each point has.
        batch: size of a generation, where the configuration does not give one.

    Raises:
        SpecError: the configuration is wrong, or the optimizer takes fewer objectives; a `ValueError` too.

    Example:
        ```python
        optimizer = make_optimizer({"type": "pso", "population": 16}, [Float("x", -5, 5), Float("y", -5, 5)])
        ids, x = optimizer.ask(16)
        optimizer.tell(ids, (x**2).sum(axis=1))
        ```
    """
    model = make_config({"type": config} if isinstance(config, str) else config)
    place = space if isinstance(space, Space) else Space(space)
    if model.type == "auto":
        model, _ = choose(model, place, objectives=objectives)
    engine = ENGINES[model.type]
    if objectives > 1 and not engine.several_objectives:
        able = ", ".join(name for name, each in ENGINES.items() if each.several_objectives)
        problem = f"{model.type} takes one objective, not {objectives}; these take several: {able}"
        raise SpecError([Problem("optimizer.type", problem)])
    return engine(model, place, seed=seed, objectives=objectives, batch=batch)


def optimizer_from_state(state: Mapping[str, Any]) -> Optimizer:
    """The optimizer that `state` was taken from, of whatever type.

    Raises:
        ValueError: the state is of a type or format that this version does not know.
    """
    if "halving" in state:
        return Halving.from_state(dict(state))
    kind = state.get("config", {}).get("type")
    if kind not in ENGINES:
        raise ValueError(f"this is the state of the optimizer {kind!r}; this version knows {', '.join(ENGINES)}")
    return ENGINES[kind].from_state(dict(state))


def make_config(config: Any) -> Any:
    """The model of a configuration, from a dict or the model.

    Raises:
        SpecError: it is wrong.
    """
    try:
        return _Configured.model_validate({"optimizer": config}).optimizer
    except ValidationError as error:
        raise SpecError(problems_of(error, _Configured)) from None


class _Configured(BaseModel):
    """A configuration where a study has it, so that its faults are told in the same words."""

    model_config = ConfigDict(defer_build=True)

    optimizer: OptimizerConfig
