"""Turning candidates into points that may be proposed: snapped, within the relations, new.

Every optimizer places its points here, so that all of them keep the same promises.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from prefect_simopt.optimizers.box import Box
from prefect_simopt.optimizers.lattice import Lattice, reflect
from prefect_simopt.optimizers.repair import Repair, impossible
from prefect_simopt.space import Space

__all__ = ["Placement"]

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_ENUMERABLE = 2**20  # a bit for each point of a space up to this size is 128 KiB
_DRAWS = 256  # for samples: at one point in a hundred allowed, 92 % of them are found
_REDRAWS = 4  # for moves, which have a point to go back to
_NUDGES = 24  # from a millionth of the range to all of it


class Placement:
    """Keeps account of the points that are taken, and places new ones.

    A finite space of up to 2^20 points never gives a point twice; any other never gives a pending point again. Where
    conditions leave nothing continuous, a space that is infinite elsewhere is finite.

    Args:
        space: the space.
        rng: the optimizer's random numbers.

    Attributes:
        lattice: the discrete coordinates of the space.
    """

    def __init__(self, space: Space, rng: np.random.Generator) -> None:
        self.lattice = Lattice(space)
        self._space, self._rng, self._repair = space, rng, Repair(self.lattice)
        self._discrete = bool(self.lattice.discrete.all())
        levels = np.maximum(space.levels, 1)
        counted = math.prod(levels.tolist()) if self._discrete or space.conditions else _ENUMERABLE + 1
        self._used = np.zeros(counted if counted <= _ENUMERABLE else 0, dtype=bool)
        self._enumerated = self._discrete and bool(len(self._used))
        self._swept = not space.relations and not space.conditions
        self._pending: set[bytes] = set()
        if len(self._used):
            self._strides = np.append(np.cumprod(levels[:0:-1])[::-1], 1).astype(np.int64)

    def place(self, n: int, draw: Callable[[Rows], Array], anchors: Array | None = None) -> Array:
        """Place `n` points.

        Candidates that are not allowed are drawn again, then repaired, then moved a little, and at last replaced by
        any point that is left.

        Args:
            n: how many.
            draw: candidates, shape (k, d), for the given rows of the n points.
            anchors: for moves, the points that they start from, shape (n, d). Without them the points are samples.

        Returns:
            Shape (m, d), m <= n: fewer only when no more points were found.

        Raises:
            SpecError: no point satisfies the relations, or none could be found.
        """
        x, left = np.empty((n, self._space.dimensions)), np.arange(n)
        if anchors is not None and self._space.conditions:
            anchors = self._repair.snap(anchors)
        for _ in range(_DRAWS if anchors is None else _REDRAWS):
            candidates = self._repair.snap(self._fold(draw(left)))
            taken = self._take(candidates, None if anchors is None else anchors[left])
            # Samples close ranks, so that they keep the order of their sequence; moves belong to their rows.
            rows, left = (left[taken], left[~taken]) if anchors is not None else np.split(left, [taken.sum()])
            x[rows], candidates = candidates[taken], candidates[~taken]
            if not left.size:
                return x
        # Samples of an enumerable space stay uniform if they are replaced at once.
        for attempt in range(0 if n == 0 or (self._enumerated and anchors is None) else _NUDGES):
            starts = None if anchors is None else anchors[left]
            tried = candidates if attempt == 0 else self._nudge(candidates, 10.0 ** (6.0 * (attempt / _NUDGES - 1.0)))
            if not self._repair.is_free:
                tried = self._inside(tried, starts)
            taken = self._take(tried, starts)
            x[left[taken]] = tried[taken]
            left, candidates = left[~taken], (tried if attempt == 0 else candidates)[~taken]
            if not left.size:
                return x
        rest = self._unused(left.size)
        x[left[: len(rest)]] = rest
        return np.delete(x, left[len(rest) :], axis=0)

    def claim(self, x: Array) -> Mask:
        """Take given snapped points of shape (n, d) that are allowed and new; tells which, shape (n,)."""
        return self._take(x, None)

    def narrow(self, low: npt.ArrayLike, high: npt.ArrayLike) -> None:
        """From now on place points only within bounds, and within those of before.

        Args:
            low: smallest coordinates, shape (d,).
            high: largest coordinates, shape (d,).

        Raises:
            ValueError: they are no bounds, or leave nothing.
        """
        box = Box(self._space, low, high)
        if self.box is not None:
            box = Box(self._space, np.maximum(box.low, self.box.low), np.minimum(box.high, self.box.high))
        self._repair.narrow(box)
        self._swept = False

    @property
    def box(self) -> Box | None:
        """What the search was narrowed to; None for the whole space."""
        return self._repair.box

    def allowed(self, x: Array) -> Mask:
        """Which snapped points of shape (n, d) may be proposed, shape (n,)."""
        return self._repair.allowed(x)

    def inside(self, x: Array) -> Mask:
        """Which points of shape (n, d), snapped or not, the search was not narrowed away from, shape (n,)."""
        return np.ones(len(x), dtype=bool) if self.box is None else self.box.inside(x)

    def stretch(self, x: Array) -> Array:
        """Samples of the unit cube, shape (n, d), spread over what is searched."""
        return x if self.box is None else self.box.stretch(x)

    def clip(self, x: Array) -> Array:
        """Candidates of shape (n, d), those beyond a bound moved to it."""
        inside = np.minimum(np.maximum(x, 0.0), 1.0)
        return inside if self.box is None else self.box.clip(inside)

    def _fold(self, x: Array) -> Array:
        return x if self.box is None else self.box.fold(x)

    def release(self, x: Iterable[Array]) -> None:
        """Points that are no longer pending, each of shape (d,)."""
        if self._pending:
            self._pending.difference_update([row.tobytes() for row in x])

    @property
    def used(self) -> npt.NDArray[np.uint8]:
        """The counted points that were used, one bit each; empty when there are none."""
        return np.packbits(self._used) if self._used.any() else np.empty(0, dtype=np.uint8)

    def restore(self, used: npt.NDArray[np.uint8], pending: Array) -> None:
        """Take the points that `used` and the pending ones of shape (n, d) were in a saved state."""
        if len(used):
            self._used = np.unpackbits(used, count=len(self._used)).astype(bool)
        if not self._enumerated:
            self._pending = {row.tobytes() for row in pending}

    def _take(self, x: Array, anchors: Array | None) -> Mask:
        """Take the points that are allowed, new, and not where they came from; tell which, shape (n,)."""
        allowed = np.ones(len(x), dtype=bool) if self._repair.is_free else self._repair.allowed(x)
        if anchors is not None:
            allowed &= (x != anchors).any(axis=1)
        taken = allowed.tolist()
        used, pending = self._used, self._pending
        for i, cell in enumerate(self._cells(x)):
            if not taken[i]:
                continue
            if cell >= 0:
                taken[i] = not used[cell]
                used[cell] = True
            else:
                key = x[i].tobytes()
                taken[i] = key not in pending
                pending.add(key)
        return np.array(taken, dtype=bool)

    def _cells(self, x: Array) -> list[int]:
        """Which of the counted points each of `x` is, shape (n, d); -1 for one that is not counted."""
        if not len(self._used):
            return [-1] * len(x)
        cells = self.lattice.cells(x) @ self._strides
        if not self._discrete:
            cells[(self._space.active(x) & ~self.lattice.discrete).any(axis=1)] = -1
        counted: list[int] = cells.tolist()
        return counted

    def _inside(self, x: Array, anchors: Array | None) -> Array:
        """Allowed points near `x`, shape (n, d). Samples are spread over what lies between them."""
        inside = self._repair.project(x)
        lost = ~self._repair.allowed(inside)
        if lost.any():
            inside[lost] = self._repair.pull(x[lost], None if anchors is None else anchors[lost])
        if anchors is None:
            others = inside[self._rng.permutation(len(inside))]
            share = np.where(self._space.categorical, 0.0, self._rng.random((len(inside), 1)))
            between = self._repair.snap(inside + share * (others - inside))
            inside = np.where(self._repair.allowed(between)[:, None], between, inside)
        return inside

    def _nudge(self, x: Array, scale: float) -> Array:
        """Change one coordinate, and each other with probability 1 / d: shape (n, d), snapped."""
        n, d = x.shape
        where = self._rng.random((n, d)) < 1.0 / d
        where[np.arange(n), self._rng.integers(d, size=n)] = True
        step = np.where(where & ~self.lattice.discrete, scale * self._rng.standard_normal((n, d)), 0.0)
        return self._repair.snap(self._fold(self.lattice.jump(reflect(x + step), where, self._rng)))

    def _unused(self, n: int) -> Array:
        """Up to `n` of the points of an enumerable space that are left, taken; none of any other space."""
        if not self._enumerated:
            return np.empty((0, self._space.dimensions))
        if not self._swept:
            self._sweep()
        cells = self._rng.permutation(np.flatnonzero(~self._used))[:n]
        self._used[cells] = True
        return self._points(cells)

    def _points(self, cells: Rows) -> Array:
        digits = (cells[:, None] // self._strides) % self._space.levels
        columns = [self.lattice.coordinates(i, digits[:, i]) for i in range(digits.shape[1])]
        return self._repair.snap(np.stack(columns, axis=1))

    def _sweep(self) -> None:
        """Mark every point as used that the relations exclude, or that is another one but for what is not there."""
        allowed = 0
        for start in range(0, len(self._used), 65_536):
            cells = np.arange(start, min(start + 65_536, len(self._used)))
            points = self._points(cells)
            good = self._repair.allowed(points) & (self.lattice.cells(points) @ self._strides == cells)
            self._used[cells[~good]] = True
            allowed += int(good.sum())
        if not allowed:
            raise impossible(self._space, "no point of the space satisfies")
        self._swept = True
