"""Bringing candidates back into the part of a space that its relations allow."""

import numpy as np
import numpy.typing as npt

from prefect_simopt.errors import Problem, SpecError
from prefect_simopt.optimizers.box import Box
from prefect_simopt.optimizers.lattice import Lattice, reflect
from prefect_simopt.space import Space

__all__ = ["Repair", "feasible_point", "impossible"]

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_PROJECTIONS = 12
_DIFFERENCE = 1e-9
_INSIDE = 1e-9  # how far behind a boundary a projection aims, so that rounding does not leave it outside
_FARTHEST = 1e3  # beyond any corner, and far from overflow
_BISECTIONS = 20  # to a millionth of the way


class Repair:
    """The relations of one space, and the ways back into what they allow.

    Args:
        lattice: the discrete coordinates of the space.

    Attributes:
        box: what the search was narrowed to; None for the whole space.
    """

    def __init__(self, lattice: Lattice) -> None:
        self.lattice, self.space = lattice, lattice.space
        self.box: Box | None = None
        self._known: Array | None = None

    def narrow(self, box: Box) -> None:
        """Allow only what is in the box."""
        self.box, self._known = box, None

    @property
    def is_free(self) -> bool:
        """Whether every point of the space is allowed."""
        return not self.space.relations and self.box is None

    def snap(self, x: Array) -> Array:
        """As `Space.snap`, into the box, and without -0.0, since points are compared by their bytes. Shape (n, d)."""
        snapped = self.space.snap(x)
        return (snapped if self.box is None else self.box.snap(snapped)) + 0.0

    def allowed(self, x: Array) -> Mask:
        """Which snapped points are in the box and satisfy the relations, shape (n,)."""
        allowed: Mask = self.space.violation(x) == 0.0
        return allowed if self.box is None else allowed & self.box.inside(x)

    def project(self, x: Array) -> Array:
        """Move snapped points of shape (n, d) down the slope of their violation h, as long as it is not 0.

        B. T. Polyak, "Minimization of unsmooth functionals", USSR Computational Mathematics and Mathematical Physics 9
        (1969) 14-29: x <- x - h(x) g / |g|^2, here with differences for the subgradient g. One step does for a linear
        relation. Not every point gets there: none on an equality of real numbers, which has no inside.
        """
        x = x.copy()
        for _ in range(_PROJECTIONS):
            violation = self.space.violation(x)
            rows = np.flatnonzero((violation > 0.0) & np.isfinite(violation))
            if not rows.size:
                break
            descent = self._descent(x[rows], violation[rows])
            steepest = np.abs(descent).max(axis=1)
            rows, descent, steepest = rows[steepest > 0.0], descent[steepest > 0.0], steepest[steepest > 0.0]
            direction = descent / steepest[:, None]  # of moderate length, since a violation may be of any size
            length = np.sqrt((direction**2).sum(axis=1))
            with np.errstate(over="ignore"):
                way = np.minimum(violation[rows] / steepest, _FARTHEST) / length + _INSIDE
            x[rows] = self.snap(x[rows] + (way / length)[:, None] * direction)
        return x

    def _descent(self, x: Array, violation: Array) -> Array:
        """How fast the violation falls along each coordinate, with the sign of the way down: shape (n, d).

        Both ways are tried, since along an integer that is just within a relation it only rises on one of them.
        """
        n, d = x.shape
        steps = np.where(self.lattice.ordered, self.lattice.widths(x), _DIFFERENCE) * ~self.lattice.categorical
        around = np.repeat(x[:, None, :], 2 * d, axis=1).reshape(n, 2, d, d)
        around[:, 0, np.arange(d), np.arange(d)] += steps
        around[:, 1, np.arange(d), np.arange(d)] -= steps
        around = np.minimum(np.maximum(around, 0.0), 1.0)
        falls = np.maximum(violation[:, None] - self.space.violation(around.reshape(-1, d)).reshape(n, 2 * d), 0.0)
        up, down = falls[:, :d], falls[:, d:]
        return np.where(up >= down, up, -down) / np.where(steps == 0.0, 1.0, steps)

    def pull(self, x: Array, anchors: Array | None) -> Array:
        """The last allowed points, by bisection, on the ways from anchors towards `x`, all of shape (n, d).

        An anchor that is not allowed itself, such as the unplaced point that a search starts from, is replaced by a
        point that is known to be allowed.

        Raises:
            SpecError: there is no such point.
        """
        found = np.zeros_like(x) if anchors is None else self.snap(anchors)
        lost = ~self.allowed(found) if anchors is not None else np.ones(len(x), dtype=bool)
        if lost.any():
            if self._known is None:
                self._known = feasible_point(self.space, self.box)
            found[lost] = self._known
        start, low, high = found.copy(), np.zeros((len(x), 1)), np.ones((len(x), 1))
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2.0
            choice = np.where(middle < 0.5, start, x)  # there is nothing between two categories
            tried = self.snap(np.where(self.lattice.categorical, choice, start + middle * (x - start)))
            good = self.allowed(tried)
            found[good] = tried[good]
            low, high = np.where(good[:, None], middle, low), np.where(good[:, None], high, middle)
        return found


def feasible_point(space: Space, box: Box | None = None) -> Array:
    """A snapped point that satisfies the space's relations, shape (d,); always the same one.

    Uniform sampling, then from each of the nearest points a random descent of the violation.

    Args:
        space: the space.
        box: the part of it to look in; None for all of it.

    Raises:
        SpecError: none was found.
    """
    rng, lattice = np.random.Generator(np.random.PCG64(0)), Lattice(space)
    samples = rng.random((8192, space.dimensions))
    samples = space.snap(samples) if box is None else box.snap(space.snap(box.stretch(samples)))
    violations = space.violation(samples)
    for start in np.argsort(violations, kind="stable")[:8]:
        best, violation, scale = samples[start], float(violations[start]), 0.25
        for _ in range(200):
            if violation == 0.0:
                return np.asarray(best + 0.0)
            near = np.repeat(best[None, :], 64, axis=0)
            where = rng.random(near.shape) < max(2.0 / space.dimensions, 0.2)
            near = reflect(near + np.where(where, scale * rng.standard_normal(near.shape), 0.0))
            near = space.snap(lattice.jump(near, where & (rng.random(near.shape) < 0.5), rng))
            near = near if box is None else box.snap(near)
            tried = space.violation(near)
            i = int(np.argmin(tried))
            if tried[i] < violation:
                best, violation = near[i], float(tried[i])
            else:
                scale = max(scale * 0.7, 1e-12)
    raise impossible(space, "no point of the space was found that satisfies")


def impossible(space: Space, what: str) -> SpecError:
    """The error for relations that leave nothing."""
    texts = ", ".join(repr(relation.text) for relation in space.relations)
    advice = "widen the bounds or loosen them, and write an equality of real numbers as a band or drop a parameter"
    return SpecError([Problem("relations", f"{what} {texts}; {advice}")])
