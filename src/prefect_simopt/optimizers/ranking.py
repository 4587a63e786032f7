"""Which of two trials is better: Deb's feasibility rules, in one place for every optimizer.

K. Deb, "An efficient constraint handling method for genetic algorithms", Computer Methods in Applied Mechanics and
Engineering 186 (2000) 311-338, section 3: a feasible point is better than an infeasible one; of two feasible points
the smaller value wins, of two infeasible ones the smaller violation. A failed trial is worse than any other.
"""

import numpy as np
import numpy.typing as npt

__all__ = ["better", "order", "rankable"]

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def rankable(values: Array, violations: Array) -> tuple[Array, Array]:
    """Values and violations that compare as the rules say: no NaN, and infinity in both for a failed trial.

    Args:
        values: shape (n,) or (n, objectives); a trial with any entry that is not finite has failed.
        violations: shape (n,); below 0 counts as 0 and NaN as infinitely far from feasible.
    """
    failed = ~np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
    values, violations = values.copy(), np.where(failed | np.isnan(violations), np.inf, np.maximum(violations, 0.0))
    values[failed] = np.inf
    return values, violations


def order(values: Array, violations: Array) -> npt.NDArray[np.int64]:
    """Indices from best to worst, shape (n,), of rankable trials with one objective; equals keep their order."""
    return np.lexsort((values, violations))


def better(values: Array, violations: Array, than_values: Array, than_violations: Array) -> Mask:
    """Where the first trials beat the second ones, shape (n,); equals do not."""
    ties: Mask = (violations == than_violations) & (values < than_values)
    return ties | (violations < than_violations)
