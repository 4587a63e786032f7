"""The BBOB functions of `ioh`, counted, with noise where wanted, and the score of what was found.

The score is COCO's ECDF at the end of a budget: the share of (function, instance, target) hit, over 51 targets
10^(2, 1.8, ..., -8) on the best f - f_opt. N. Hansen et al., "COCO: A platform for comparing continuous optimizers in
a black-box setting", Optimization Methods and Software 36 (2021) 114-144.
"""

import ioh
import numpy as np

__all__ = ["ExhaustedError", "Problem", "budgets", "score"]

TARGETS = 10.0 ** np.linspace(2, -8, 51)
BATCH = 16


class ExhaustedError(Exception):
    """The budget is used up."""


class Problem:
    """One instance in the box [-5, 5]^d, called with points of the unit cube of shape (n, d).

    Noise multiplies f - f_opt by 1 + noise * z, z standard normal; the score is of the values without it.

    Args:
        budget: evaluations; the next one raises `ExhaustedError`.
    """

    def __init__(self, function: int, instance: int, dimension: int, budget: int, noise: float = 0.0) -> None:
        self._problem = ioh.get_problem(function, instance, dimension, ioh.ProblemClass.BBOB)
        self._optimum = self._problem.optimum.y
        self._rng = np.random.default_rng([function, instance, dimension])
        self.dimension, self.noise, self.regrets, self._left = dimension, noise, [], budget

    def __call__(self, x: np.ndarray) -> np.ndarray:
        n = min(len(x), self._left)
        if n == 0:
            raise ExhaustedError
        self._left -= n
        regrets = np.array(self._problem((10.0 * np.clip(x[:n], 0, 1) - 5.0).tolist())) - self._optimum
        self.regrets += regrets.tolist()
        values = regrets * (1.0 + self.noise * self._rng.standard_normal(n)) if self.noise else regrets
        if n < len(x):
            raise ExhaustedError
        return values + self._optimum


def budgets(dimension: int) -> dict[str, int]:
    """Evaluations at which the score is taken."""
    evaluations = {f"{k}D": k * dimension for k in (10, 30, 100)}
    return evaluations | {f"R{k}": k * BATCH for k in (30, 100)}


def score(regrets: list[float], evaluations: int) -> float:
    """Share of the targets hit within the first evaluations."""
    return float((min(regrets[:evaluations], default=np.inf) <= TARGETS).mean())
