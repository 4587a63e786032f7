"""Which optimizer a study gets that names none. It follows measurements.

Those are `benchmarks/bbob`, `benchmarks/optimizers_curves.py` and `tests/optimizers/test_known_answers.py`.
"""

from typing import Any

from prefect_simopt.optimizers.config import (
    AutoConfig,
    CMAConfig,
    GridConfig,
    NSGA2Config,
    PSOConfig,
)
from prefect_simopt.space import Space

__all__ = ["choose"]

_MANY = 50  # trials for each parameter from which on CMA-ES finds more than a particle swarm
_GENERATION = 16  # points of a generation, where nothing asks for more


def choose(
    config: AutoConfig, space: Space, *, objectives: int = 1, trials: int = 100, parallel: int = 1, replicates: int = 1
) -> tuple[Any, str]:
    """Pick an optimizer. The same arguments pick the same one.

    Args:
        config: what the study says of its optimizer.
        space: what is searched.
        objectives: how many values each point has.
        trials: of the budget.
        parallel: trials that run at once, as far as the spec says.
        replicates: runs of each trial; more than one tells that the simulator is noisy.

    Returns:
        Its configuration, and the reason as a sentence for people.
    """
    d, uneven = space.dimensions, sum(parameter.levels > 0 or bool(parameter.when) for parameter in space.parameters)
    generation = config.population or (parallel if parallel > _GENERATION else None)
    common: dict[str, Any] = {"mode": config.mode, "population": generation}
    each = f"{trials} trials for {d} parameter{'s' if d > 1 else ''}"
    if objectives > 1:
        return NSGA2Config(**common), f"nsga2, since there are {objectives} objectives"
    if space.size <= trials:
        return GridConfig(), f"grid, since {trials} trials are enough for all {space.size:.0f} points of the space"
    if 2 * uneven >= d:
        kinds = "integers, steps or categories" + (", or conditional" if space.conditions else "")
        reason = f"pso, since {uneven} of {d} parameters are {kinds}"
        return PSOConfig(**common, model=config.model), reason
    if trials < _MANY * d:
        return PSOConfig(**common, model=config.model), f"pso, since {each} are few (below {_MANY} for each)"
    if replicates > 1:
        reason = f"cma without a model, since {each} are many and replicates tell of noise"
        return CMAConfig(**common, model=False), reason
    return CMAConfig(**common, model=config.model), f"cma, since {each} are many ({_MANY} or more for each)"
