"""Turning candidates into points that may be proposed: snapped, within the relations, new.

Every optimizer places its points here, so that all of them keep the same promises.
"""

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from prefect_simopt.errors import Problem, SpecError
from prefect_simopt.optimizers.lattice import Lattice, reflect
from prefect_simopt.space import Space

__all__ = ["Placement", "feasible_point"]

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_ENUMERABLE = 2**20  # a bit for each point of a space up to this size is 128 KiB
_DRAWS = 256  # for samples: at one point in a hundred allowed, 92 % of them are found
_REDRAWS = 4  # for moves, which have a point to go back to
_BISECTIONS = 20  # to a millionth of the way
_NUDGES = 24  # from a millionth of the range to all of it


class Placement:
    """Keeps account of the points that are taken, and places new ones.

    A finite space of up to 2^20 points never gives a point twice; any other never gives a pending point again.

    Args:
        space: the space.
        rng: the optimizer's random numbers.
    """

    def __init__(self, space: Space, rng: np.random.Generator) -> None:
        self.space, self.rng, self.lattice = space, rng, Lattice(space)
        self._enumerated = space.size <= _ENUMERABLE
        self._used = np.zeros(int(space.size) if self._enumerated else 0, dtype=bool)
        self._swept = not space.relations
        self._pending: set[bytes] = set()
        self._feasible: Array | None = None
        if self._enumerated:
            self._strides = np.append(np.cumprod(space.levels[:0:-1])[::-1], 1).astype(np.int64)

    def place(self, n: int, draw: Callable[[Rows], Array], anchors: Array | None = None) -> Array:
        """Place `n` points.

        Candidates that are not allowed are drawn again, then pulled back towards a point that is known to be allowed
        by bisection, then moved a little, then replaced by any point that is left.

        Args:
            n: how many.
            draw: candidates, shape (k, d), for the given rows of the n points.
            anchors: for moves, the points that they start from, shape (n, d). Without them the points are samples.

        Returns:
            Shape (m, d), m <= n: fewer only when no more points were found.

        Raises:
            SpecError: no point satisfies the relations, or none could be found.
        """
        x = np.empty((n, self.space.dimensions))
        left = np.arange(n)
        candidates = x
        for _ in range(_DRAWS if anchors is None else _REDRAWS):
            candidates = self._snap(draw(left))
            taken = self._take(candidates, None if anchors is None else anchors[left])
            x[left[taken]] = candidates[taken]
            left, candidates = left[~taken], candidates[~taken]
            if not left.size:
                return x
        starts = None if anchors is None else anchors[left]
        if self.space.relations and not (self._enumerated and starts is None):
            candidates = self._pull(candidates, starts)
        for nudge in range(0 if self._enumerated and starts is None else _NUDGES):
            nudged = self._snap(self._nudge(candidates, 10.0 ** (6.0 * (nudge / (_NUDGES - 1) - 1.0))))
            taken = self._take(nudged, starts)
            x[left[taken]] = nudged[taken]
            left, candidates = left[~taken], candidates[~taken]
            starts = None if starts is None else starts[~taken]
            if not left.size:
                return x
        rest = self._unused(left.size)
        x[left[: len(rest)]] = rest
        return np.delete(x, left[len(rest) :], axis=0)

    def restore(self, used: npt.NDArray[np.uint8], pending: Array) -> None:
        """Take the points that `used` and the pending ones of shape (n, d) were in a saved state."""
        if len(used):
            self._used = np.unpackbits(used, count=len(self._used)).astype(bool)
        if not self._enumerated:
            self._pending = {row.tobytes() for row in pending}

    def release(self, x: Iterable[Array]) -> None:
        """Points that are no longer pending, each of shape (d,)."""
        if not self._enumerated:
            self._pending.difference_update([row.tobytes() for row in x])

    @property
    def used(self) -> npt.NDArray[np.uint8]:
        """The points used of an enumerable space, one bit each; empty when there are none."""
        return np.packbits(self._used) if self._used.any() else np.empty(0, dtype=np.uint8)

    def _snap(self, x: Array) -> Array:
        return self.space.snap(x) + 0.0  # no -0.0, since points are compared by their bytes

    def _allowed(self, x: Array) -> Mask:
        allowed: Mask = self.space.violation(x) == 0.0
        return allowed

    def _take(self, x: Array, anchors: Array | None) -> Mask:
        """Take the points that are allowed, new, and not where they came from; tell which, shape (n,)."""
        allowed = self._allowed(x) if self.space.relations else np.ones(len(x), dtype=bool)
        if anchors is not None:
            allowed &= (x != anchors).any(axis=1)
        taken = allowed.tolist()
        if self._enumerated:
            used = self._used
            for i, cell in enumerate((self.lattice.cells(x) @ self._strides).tolist()):
                if taken[i]:
                    taken[i] = not used[cell]
                    used[cell] = True
        else:
            pending = self._pending
            for i, row in enumerate(x):
                if taken[i]:
                    key = row.tobytes()
                    taken[i] = key not in pending
                    pending.add(key)
        return np.array(taken, dtype=bool)

    def _pull(self, x: Array, anchors: Array | None) -> Array:
        """The last allowed points on the ways from allowed points towards `x`, shape (n, d)."""
        anchors = np.zeros_like(x) if anchors is None else self._snap(anchors)
        lost = ~self._allowed(anchors)  # such as the unplaced points that a search starts from
        if lost.any():
            if self._feasible is None:
                self._feasible = feasible_point(self.space)
            anchors[lost] = self._feasible
        low, high, found = np.zeros(len(x)), np.ones(len(x)), anchors.copy()
        low[self._allowed(x)] = 1.0
        found[low == 1.0] = x[low == 1.0]
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2.0
            way = anchors + middle[:, None] * (x - anchors)
            tried = self._snap(np.where(self.lattice.categorical, np.where(middle[:, None] < 0.5, anchors, x), way))
            good = self._allowed(tried)
            found[good] = tried[good]
            low, high = np.where(good, middle, low), np.where(good, high, middle)
        return found

    def _nudge(self, x: Array, scale: float) -> Array:
        """Change one coordinate, and each other with probability 1 / d: shape (n, d)."""
        n, d = x.shape
        where = self.rng.random((n, d)) < 1.0 / d
        where[np.arange(n), self.rng.integers(d, size=n)] = True
        step = np.where(where & ~self.lattice.discrete, scale * self.rng.standard_normal((n, d)), 0.0)
        return self.lattice.jump(reflect(x + step), where, self.rng)

    def _unused(self, n: int) -> Array:
        """Up to `n` of the points of an enumerable space that are left, taken; none of any other space."""
        if not self._enumerated:
            return np.empty((0, self.space.dimensions))
        if not self._swept:
            self._sweep()
        cells = self.rng.permutation(np.flatnonzero(~self._used))[:n]
        self._used[cells] = True
        return self._snap(self._points(cells))

    def _points(self, cells: Rows) -> Array:
        digits = (cells[:, None] // self._strides) % self.space.levels
        return np.stack([self.lattice.coordinates(i, digits[:, i]) for i in range(digits.shape[1])], axis=1)

    def _sweep(self) -> None:
        """Mark every point that the relations exclude as used."""
        allowed = 0
        for start in range(0, len(self._used), 65_536):
            cells = np.arange(start, min(start + 65_536, len(self._used)))
            good = self._allowed(self._points(cells))
            self._used[cells[~good]] = True
            allowed += int(good.sum())
        if not allowed:
            raise _impossible(self.space, "no point of the space satisfies")
        self._swept = True


def feasible_point(space: Space) -> Array:
    """A snapped point that satisfies the space's relations, shape (d,); always the same one.

    Uniform sampling, then from each of the nearest points a random descent of the violation.

    Raises:
        SpecError: none was found.
    """
    rng, lattice = np.random.Generator(np.random.PCG64(0)), Lattice(space)
    samples = space.snap(rng.random((8192, space.dimensions)))
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
            tried = space.violation(near)
            i = int(np.argmin(tried))
            if tried[i] < violation:
                best, violation = near[i], float(tried[i])
            else:
                scale = max(scale * 0.7, 1e-12)
    raise _impossible(space, "no point of the space was found that satisfies")


def _impossible(space: Space, what: str) -> SpecError:
    texts = ", ".join(repr(relation.text) for relation in space.relations)
    advice = "widen the bounds or loosen them, and write an equality of real numbers as a band or drop a parameter"
    return SpecError([Problem("relations", f"{what} {texts}; {advice}")])
