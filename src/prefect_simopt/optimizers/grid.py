"""Full factorial grid: every combination of values, in a fixed order."""

import math
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from prefect_simopt.errors import Problem, SpecError
from prefect_simopt.optimizers.config import GridConfig
from prefect_simopt.optimizers.engine import Engine
from prefect_simopt.space import Space

__all__ = ["Grid"]

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Cells = npt.NDArray[np.int64]

_SCAN = 1024  # combinations tried at once
_PATIENCE = 2**21  # combinations in a row that the relations may exclude, a few seconds' worth


class Grid(Engine):
    """The Cartesian product of each parameter's values, the last parameter running fastest.

    A continuous parameter has `points` values, evenly spaced over its range (logarithmically with `log`), both ends
    included; any other has all of its values. Conditional ones run faster than those that they depend on, and stand
    still where they are not there. Narrower bounds leave those values that are within them.
    """

    adaptive = False
    several_objectives: ClassVar[bool] = True
    config_type: ClassVar[type[GridConfig]] = GridConfig
    memory: ClassVar[tuple[str, ...]] = ("_position",)

    def __init__(self, config: Any, space: Space, seed: int = 7, objectives: int = 1, batch: int = 16) -> None:
        super().__init__(config, space, seed, objectives, batch)
        self._order = space.conditions.order
        self._points = [int(space.levels[i]) or config.points for i in self._order]
        self._first, self._shape = [0] * len(self._points), self._points
        self._position = 0

    @property
    def size(self) -> int:
        """Combinations, those included that relations or conditions exclude."""
        return math.prod(self._shape)

    def _propose(self, n: int) -> Array:
        found: list[Array] = []
        scanned = 0
        while n > 0 and self._position < self.size:
            skipping = self.space.relations or self.space.conditions
            count = min(_SCAN if skipping else n, self.size - self._position)
            x, still = self._combinations(count)
            good = np.flatnonzero(self._placement.allowed(x) & ~still.any(axis=1))[:n]
            found.append(x[good[self._placement.claim(x[good])]])  # without those that people have suggested
            # Go on behind the last point taken, so that the sequence does not depend on the sizes asked for.
            self._position += count if len(good) < n else int(good[-1]) + 1
            if len(good) < n and still[-1].any():
                self._skip(int(np.argmax(still[-1])))
            n -= len(found[-1])
            scanned = 0 if len(good) or still.any() else scanned + count
            if scanned > _PATIENCE:
                raise SpecError([Problem("relations", f"exclude {scanned:,} combinations of the grid in a row; take "
                                         "fewer points, narrower bounds or a sampler such as lhs")])  # fmt: skip
        return np.concatenate(found) if found else np.empty((0, self.space.dimensions))

    def _combinations(self, count: int) -> tuple[Array, Mask]:
        """The next `count` combinations, and which parameters have moved that are not there, in the grid's order.

        Both of shape (count, d). Python's integers, since there may be more than 2^63.
        """
        x = np.empty((count, self.space.dimensions))
        moved = np.empty(x.shape, dtype=bool)
        carry = np.arange(count) if self.size < 2**62 else np.arange(count).astype(object)
        carry = carry + self._position
        for place in range(self.space.dimensions - 1, -1, -1):
            i, values = self._order[place], self._shape[place]
            carry, cell = carry // values, (carry % values).astype(np.int64)
            moved[:, place] = cell > 0
            x[:, i] = self._coordinates(place, cell + self._first[place])
        there = self.space.active(x)[:, self._order] if self.space.conditions else True
        return self.space.snap(x), moved & ~np.asarray(there)

    def _coordinates(self, place: int, cell: Cells) -> Array:
        i = self._order[place]
        if self.space.levels[i]:
            return self._placement.lattice.coordinates(i, cell)
        return np.asarray(cell / (self._points[place] - 1))

    def _narrowed(self) -> None:
        """Keep those of the grid's values that are within the bounds, and go on behind the last combination."""
        carry, reached = self._position, list[int]()  # the value that each parameter has next
        for first, values in zip(reversed(self._first), reversed(self._shape), strict=True):
            carry, cell = divmod(carry, values) if values else (carry, 0)
            reached.insert(0, first + cell)
        self._keep()
        position, behind = int(carry > 0), carry > 0  # whether all that comes is behind what was reached
        for cell, first, values in zip(reached, self._first, self._shape, strict=True):
            position = position * values + (0 if behind else min(max(cell - first, 0), values))
            behind = behind or not first <= cell < first + values
        self._position = min(position, self.size)

    def _keep(self) -> None:
        box = self._placement.box
        if box is None:
            return
        cells = self._placement.lattice.cells(np.array([box.low, box.high]))
        self._first, self._shape = [], []
        for place, i in enumerate(self._order):
            first, last = cells[:, i].tolist()
            if not self.space.levels[i]:
                x = self._coordinates(place, np.arange(self._points[place]))
                inside = np.flatnonzero((x >= box.low[i]) & (x <= box.high[i]))
                first, last = (int(inside[0]), int(inside[-1])) if len(inside) else (0, -1)
            self._first.append(first)
            self._shape.append(last - first + 1)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """See `Optimizer.from_state`."""
        self = super().from_state(state)
        self._keep()
        return self

    def _skip(self, place: int) -> None:
        """Go to where the parameter at `place`, which is not there, and all that run faster begin again."""
        stride = math.prod(self._shape[place:])
        self._position = -(-self._position // stride) * stride
