"""Full factorial grid: every combination of values, in a fixed order."""

import math
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from prefect_simopt.errors import Problem, SpecError
from prefect_simopt.optimizers.config import GridConfig
from prefect_simopt.optimizers.engine import Engine
from prefect_simopt.space import Space

__all__ = ["Grid"]

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_SCAN = 1024  # combinations tried at once
_PATIENCE = 2**21  # combinations in a row that the relations may exclude, a few seconds' worth


class Grid(Engine):
    """The Cartesian product of each parameter's values, the last parameter running fastest.

    A continuous parameter has `points` values, evenly spaced over its range (logarithmically with `log`), both ends
    included; any other has all of its values. Conditional ones run faster than those that they depend on, and stand
    still where they are not there.
    """

    adaptive = False
    several_objectives: ClassVar[bool] = True
    config_type: ClassVar[type[GridConfig]] = GridConfig
    memory: ClassVar[tuple[str, ...]] = ("_position",)

    def __init__(self, config: Any, space: Space, seed: int = 7, objectives: int = 1, batch: int = 16) -> None:
        super().__init__(config, space, seed, objectives, batch)
        self._order = space.conditions.order
        self._shape = [int(space.levels[i]) or config.points for i in self._order]
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
            good = np.flatnonzero((self.space.violation(x) == 0.0) & ~still.any(axis=1))[:n]
            found.append(x[good])
            n -= len(good)
            # Go on behind the last point taken, so that the sequence does not depend on the sizes asked for.
            self._position += count if n > 0 else int(good[-1]) + 1
            if n > 0 and still[-1].any():
                self._skip(int(np.argmax(still[-1])))
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
            x[:, i] = self._placement.lattice.coordinates(i, cell) if self.space.levels[i] else cell / (values - 1)
        there = self.space.active(x)[:, self._order] if self.space.conditions else True
        return self.space.snap(x), moved & ~np.asarray(there)

    def _skip(self, place: int) -> None:
        """Go to where the parameter at `place`, which is not there, and all that run faster begin again."""
        stride = math.prod(self._shape[place:])
        self._position = -(-self._position // stride) * stride
