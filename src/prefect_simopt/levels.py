"""How a search with levels of fidelity asks: so that what it may cost is enough for an end at the highest one."""

import math

import numpy as np
import numpy.typing as npt

from prefect_simopt.fidelity import Fidelity
from prefect_simopt.optimizers.base import Optimizer
from prefect_simopt.optimizers.halving import Halving

__all__ = ["afforded", "proposed"]

Array = npt.NDArray[np.float64]

RESERVE = 2  # trials at the highest fidelity that are kept for the end


def afforded(optimizer: Optimizer, fidelity: Fidelity | None, size: int, trials: int, cost: float) -> tuple[int, bool]:
    """How many of `size` points to ask for, and whether as the last ones, at the highest fidelity.

    Args:
        optimizer: what is asked.
        fidelity: its levels; None where there are none.
        size: points of a generation.
        trials: that are left of the budget.
        cost: likewise, in trials at the highest fidelity.
    """
    at_top = math.floor(min(size, trials, cost))
    if fidelity is None or not isinstance(optimizer, Halving):
        return at_top, False
    ready, level = optimizer.step()
    wanted, values = min(ready, size), fidelity.values
    kept = 0 if level == len(values) - 1 else RESERVE
    if wanted <= trials - kept and wanted * fidelity.cost(values[level]) <= cost - kept:
        return wanted, False
    return at_top, True


def proposed(
    optimizer: Optimizer, fidelity: Fidelity | None, size: int, *, closing: bool
) -> tuple[list[int], Array, list[float]]:
    """The optimizer's next points: their ids, their coordinates, and their fidelities, if there are levels of it.

    Args:
        optimizer: what is asked.
        fidelity: its levels.
        size: points that are asked for.
        closing: whether as the last ones.
    """
    if not isinstance(optimizer, Halving) or fidelity is None:
        ids, x = optimizer.ask(size)
        return ids.tolist(), x, [] if fidelity is None else [fidelity.high] * len(ids)
    ids, x = optimizer.close(size) if closing else optimizer.ask(size)
    levels, values = optimizer.levels, fidelity.values
    return ids.tolist(), x, [values[levels[key]] for key in ids.tolist()]
