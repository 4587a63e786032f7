"""Comparing points with several objectives: domination, fronts, and how crowded each point's surroundings are."""

import numpy as np
import numpy.typing as npt

__all__ = ["dominates", "fronts", "spread"]

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def dominates(values: Array, violations: Array) -> Mask:
    """Which points dominate which: entry (i, j) of shape (n, n) tells whether i is better than j.

    K. Deb, A. Pratap, S. Agarwal, T. Meyarivan, "A fast and elitist multiobjective genetic algorithm: NSGA-II", IEEE
    Transactions on Evolutionary Computation 6 (2002) 182-197, definition 1: feasible before infeasible, of two
    infeasible points the smaller violation, of two feasible ones the one that is no worse in any objective and better
    in one.

    Args:
        values: to be minimized, shape (n, objectives), rankable.
        violations: shape (n,), rankable.
    """
    no_worse, better = np.ones((2, len(values), len(values)), dtype=bool)
    better[:] = False
    for column in values.T:
        no_worse &= column[:, None] <= column[None, :]
        better |= column[:, None] < column[None, :]
    ahead: Mask = violations[:, None] < violations[None, :]
    ahead |= (violations[:, None] == 0.0) & (violations[None, :] == 0.0) & no_worse & better
    return ahead


def fronts(values: Array, violations: Array) -> Ids:
    """Front of each point, shape (n,): 0 for those that no other dominates (Deb et al. 2002, section III.A)."""
    over = dominates(values, violations)
    dominators, rank = over.sum(axis=0), np.full(len(values), -1)
    number = 0
    while (current := (dominators == 0) & (rank < 0)).any():
        rank[current] = number
        dominators = dominators - over[current].sum(axis=0)
        number += 1
    return rank


def spread(values: Array, keep: int) -> tuple[Ids, Array]:
    """The `keep` points of a front that are spread best, and the crowding distance of each of them.

    The distance is that of Deb et al. 2002, section III.B: the sum over the objectives of the gap between a point's
    two neighbours, as a share of the objective's range; infinite at the ends. The point with the least one is dropped
    and its neighbours' distances are updated, one by one (S. Kukkonen, K. Deb, "Improved pruning of non-dominated
    solutions based on crowding distance", IEEE Congress on Evolutionary Computation (2006) 1179-1186), so that of
    two equal points one stays.

    Args:
        values: shape (n, objectives).
        keep: how many, at most n.

    Returns:
        indices, shape (keep,), in ascending order, and distances, shape (keep,).
    """
    n, objectives = values.shape
    sorted_by = np.argsort(values, axis=0, kind="stable")
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = np.nan_to_num((values - values.min(axis=0)) / np.ptp(values, axis=0))
    gaps = np.full((n, objectives), np.inf)
    for m in range(objectives):
        column = scaled[sorted_by[:, m], m]
        gaps[sorted_by[1:-1, m], m] = column[2:] - column[:-2]
    distance = gaps.sum(axis=1)
    kept = np.ones(n, dtype=bool)
    if keep < n:
        before, after = np.full((2, objectives, n), -1)
        for m in range(objectives):
            before[m, sorted_by[1:, m]], after[m, sorted_by[:-1, m]] = sorted_by[:-1, m], sorted_by[1:, m]
        left, right, at = before.tolist(), after.tolist(), scaled.T.tolist()
        for _ in range(n - keep):
            worst = int(np.argmin(distance))
            kept[worst], distance[worst] = False, np.inf
            for m in range(objectives):
                i, j = left[m][worst], right[m][worst]
                if i >= 0:
                    right[m][i] = j
                if j >= 0:
                    left[m][j] = i
                for k in (i, j):
                    if k >= 0 and left[m][k] >= 0 and right[m][k] >= 0:
                        gaps[k, m] = at[m][right[m][k]] - at[m][left[m][k]]
                        distance[k] = gaps[k].sum()
        distance = np.where(kept, gaps.sum(axis=1), 0.0)
    chosen = np.flatnonzero(kept)
    return chosen, distance[chosen]
