"""The discrete coordinates of a space, and the moves that keep them moving.

A step of an optimizer is a real number; rounded, a small one never leaves an integer's interval. So ordered values
are rounded at random, which is right on average, and may jump; categories know no nearer or farther and only jump.
"""

import math

import numpy as np
import numpy.typing as npt

from prefect_simopt.space import Int, Space

__all__ = ["Lattice", "latin_hypercube", "reflect"]

Array = npt.NDArray[np.float64]
Cells = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def latin_hypercube(n: int, dimensions: int, rng: np.random.Generator) -> Array:
    """Draw n points, of which each of the n slices along each coordinate holds one: shape (n, dimensions), in [0, 1).

    M. D. McKay, R. J. Beckman, W. J. Conover, Technometrics 21 (1979) 239-245, section 2.
    """
    slices = rng.permuted(np.tile(np.arange(n)[:, None], (1, dimensions)), axis=0)
    return (slices + rng.random((n, dimensions))) / n


def reflect(x: Array) -> Array:
    """Fold coordinates outside of [0, 1] back at the bounds, as often as needed."""
    return 1.0 - np.abs(np.abs(x) % 2.0 - 1.0)


class Lattice:
    """Cells of the discrete coordinates: cell i of a coordinate with L values belongs to its i-th value.

    Attributes:
        discrete, ordered, categorical: which coordinates are so, shape (d,); ordered ones are discrete.
        levels: number of values of each coordinate, shape (d,), 0 for continuous ones.
        any_discrete, any_ordered, any_categorical: whether any coordinate is so.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.levels = space.levels
        self.discrete = space.levels > 0
        self.categorical = space.categorical
        self.ordered = self.discrete & ~space.categorical
        self.any_ordered, self.any_categorical = bool(self.ordered.any()), bool(self.categorical.any())
        self.any_discrete = self.any_ordered or self.any_categorical
        # Values of a logarithmic integer own intervals of different widths, all others equal ones.
        self._logs = [(i, p) for i, p in enumerate(space.parameters) if isinstance(p, Int) and p.log]
        self._width = np.where(self.discrete, 1.0 / np.maximum(self.levels, 1), 0.0)

    def cells(self, x: Array) -> Cells:
        """Cell of each coordinate at the points `x` of shape (n, d); 0 for continuous coordinates."""
        cells = np.clip(np.floor(x * self.levels), 0, np.maximum(self.levels - 1, 0)).astype(np.int64)
        for i, parameter in self._logs:
            cells[:, i] = parameter.cells(x[:, i])
        return cells

    def coordinates(self, i: int, cells: Cells) -> Array:
        """The discrete coordinate i at the middle of its cells, both of shape (n,)."""
        return self.space.parameters[i].middles(cells)

    def widths(self, x: Array) -> Array:
        """Width of the interval that each coordinate is in, shape (n, d); 0 for continuous coordinates."""
        widths = np.broadcast_to(self._width, x.shape)
        if self._logs:
            widths = widths.copy()
            for i, parameter in self._logs:
                value = parameter.decode(x[:, i])
                span = math.log(parameter.high + 0.5) - math.log(parameter.low - 0.5)
                widths[:, i] = np.log((value + 0.5) / (value - 0.5)) / span
        return widths

    def dither(self, x: Array, rng: np.random.Generator) -> Array:
        """Add half an interval's noise to ordered coordinates, so that snapping rounds up and down at random.

        The probabilities are those that make the rounded coordinate right on average. Shape (n, d).
        """
        if not self.any_ordered:
            return x
        noise = (rng.random(x.shape) - 0.5) * self.widths(x)
        return np.where(self.ordered, np.clip(x + noise, 0.0, 1.0), x)

    def jump(self, x: Array, where: Mask, rng: np.random.Generator) -> Array:
        """Move the discrete coordinates marked in `where`, both of shape (n, d), to another value.

        A category goes to any other with equal probability; an ordered value goes 1 to L/2 cells up or down, small
        and large steps being equally likely on a logarithmic scale.
        """
        where = where & self.discrete
        if not self.any_discrete or not where.any():
            return x
        u = rng.random((2, *x.shape))
        steps = np.floor(np.maximum(self.levels / 2.0, 1.0) ** u[0])
        shift = np.where(u[1] < 0.5, -steps, steps) * self.widths(x)
        outside = np.abs(x + shift - 0.5) > 0.5
        ordered = np.where(outside, x - shift, x + shift)
        ordered = np.where(np.abs(ordered - 0.5) > 0.5, np.where(x < 0.5, 1.0, 0.0), ordered)  # the farther end
        other = 1.0 + np.floor(u[0] * np.maximum(self.levels - 1, 0))
        category = ((np.floor(x * self.levels) + other) % np.maximum(self.levels, 1) + 0.5) / np.maximum(self.levels, 1)
        return np.where(where, np.where(self.categorical, category, ordered), x)
