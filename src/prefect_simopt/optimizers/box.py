"""The part of the unit cube that a search was narrowed to while it ran."""

import math

import numpy as np
import numpy.typing as npt

from prefect_simopt.optimizers.lattice import reflect
from prefect_simopt.space import Int, Space

__all__ = ["Box"]

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class Box:
    """Bounds for each coordinate; of a discrete one, the values that the bounds stand for belong to the box.

    Args:
        space: the space.
        low: smallest coordinates, shape (d,), in [0, 1].
        high: largest coordinates, likewise.

    Raises:
        ValueError: the bounds have another shape, are outside [0, 1], or leave nothing.

    Attributes:
        low, high: smallest and largest coordinates of snapped points, shape (d,).
        width: of what belongs to the box along each coordinate, shape (d,); 0 where that is a single point.
    """

    def __init__(self, space: Space, low: npt.ArrayLike, high: npt.ArrayLike) -> None:
        bounds = np.array([np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)])
        if bounds.shape != (2, space.dimensions) or not ((bounds >= 0.0) & (bounds <= 1.0)).all():
            raise ValueError(
                f"bounds are two arrays of {space.dimensions} coordinates in [0, 1], not {low!r}, {high!r}"
            )
        if (bounds[0] > bounds[1]).any():
            i = int(np.argmax(bounds[0] > bounds[1]))
            raise ValueError(f"the bounds of {space.names[i]} leave nothing: {bounds[0, i]} is above {bounds[1, i]}")
        self._space = space
        edges = bounds.copy()
        for i, (parameter, levels) in enumerate(zip(space.parameters, space.levels.tolist(), strict=True)):
            if not levels:
                continue
            values = parameter.decode(bounds[:, i])
            bounds[:, i] = parameter.encode(values.tolist())
            if isinstance(parameter, Int) and parameter.log:
                bottom, top = math.log(parameter.low - 0.5), math.log(parameter.high + 0.5)
                edges[:, i] = (np.log(values + np.array([-0.5, 0.5])) - bottom) / (top - bottom)
            else:
                edges[:, i] = (np.floor(bounds[:, i] * levels) + np.array([0.0, 1.0])) / levels
        self.low, self.high = bounds
        self._floor, self._ceiling = np.clip(edges, 0.0, 1.0)
        self.width = self._ceiling - self._floor

    def inside(self, x: Array) -> Mask:
        """Which of the points `x` of shape (n, d) belong to the box, shape (n,); they need not be snapped."""
        snapped = self._space.snap(x)
        belongs: Mask = (self.snap(snapped) == snapped).all(axis=1)
        return belongs

    def snap(self, x: Array) -> Array:
        """The nearest points of the box, shape (n, d), from snapped ones."""
        snapped: Array = self._space.snap(self.clip(x))
        return snapped

    def clip(self, x: Array) -> Array:
        """Move coordinates beyond a bound to it. Shape (n, d)."""
        return np.asarray(np.minimum(np.maximum(x, self.low), self.high))

    def fold(self, x: Array) -> Array:
        """Fold coordinates beyond a bound back into the box, as often as needed; others stay. Shape (n, d)."""
        span = np.where(self.width > 0.0, self.width, 1.0)
        folded = self._floor + self.width * reflect((x - self._floor) / span)
        return np.asarray(np.where((x < self._floor) | (x > self._ceiling), folded, x))

    def stretch(self, x: Array) -> Array:
        """Points of the unit cube, such as samples, spread over the box in the same way. Shape (n, d)."""
        return np.asarray(self._floor + self.width * x)
