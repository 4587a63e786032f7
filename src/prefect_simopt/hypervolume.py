"""The hypervolume: how much of the space of objectives a front dominates, in one number."""

import numpy as np
import numpy.typing as npt

__all__ = ["hypervolume"]

Array = npt.NDArray[np.float64]


def hypervolume(values: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Volume of what lies between the points and the reference point, in the product of the objectives' units.

    E. Zitzler, L. Thiele, IEEE Transactions on Evolutionary Computation 3 (1999) 257-271. Exact: by a sweep for two
    objectives, by slices of one objective less from there on (J. D. Knowles, D. W. Corne, "Properties of an adaptive
    archiving algorithm", IEEE Transactions on Evolutionary Computation 7 (2003) 100-116).

    Args:
        values: to be minimized, shape (n, objectives). Points that are not better than the reference in every
            objective add nothing.
        reference: shape (objectives,).

    Raises:
        ValueError: the shapes do not go together, or an entry is NaN.
    """
    points, corner = np.asarray(values, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if points.ndim != 2 or corner.shape != points.shape[1:] or not corner.size:
        raise ValueError(f"values have shape {points.shape}, the reference {corner.shape}; give (n, m) and (m,)")
    if np.isnan(points).any() or np.isnan(corner).any():
        raise ValueError("values and the reference must be numbers; leave failed trials out")
    return _volume(_undominated(points[(points < corner).all(axis=1)]), corner)


def _volume(points: Array, corner: Array) -> float:
    """The hypervolume of points that do not dominate each other, all of them better than the corner."""
    if not len(points):
        return 0.0
    if len(corner) == 1:
        return float(corner[0] - points.min())
    if len(corner) == 2:
        points = points[np.argsort(points[:, 0])]
        heights = np.append(corner[1], points[:-1, 1]) - points[:, 1]
        return float(((corner[0] - points[:, 0]) * heights).sum())
    points = points[np.argsort(points[:, -1], kind="stable")]
    depths = np.diff(np.append(points[:, -1], corner[-1]))
    total, slab = 0.0, points[:0, :-1]
    for point, depth in zip(points, depths, strict=True):
        new = point[:-1]
        if not (slab <= new).all(axis=1).any():
            slab = np.concatenate([slab[~(new <= slab).all(axis=1)], new[None, :]])
        if depth > 0.0:
            total += float(depth) * _volume(slab, corner[:-1])
    return total


def _undominated(points: Array) -> Array:
    """The points, each once, that no other one dominates."""
    points = np.unique(points, axis=0)  # sorted, so that only earlier points can dominate later ones
    kept = points[:0]
    for point in points:
        if not (kept <= point).all(axis=1).any():
            kept = np.concatenate([kept, point[None, :]])
    return kept
