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

_SCAN = 1024  # combinations tried at once
_PATIENCE = 2**21  # combinations in a row that the relations may exclude, a few seconds' worth


class Grid(Engine):
    """The Cartesian product of each parameter's values, the last parameter running fastest.

    A continuous parameter has `points` values, evenly spaced over its range (logarithmically with `log`), both ends
    included; any other has all of its values.
    """

    adaptive = False
    several_objectives: ClassVar[bool] = True
    config_type: ClassVar[type[GridConfig]] = GridConfig
    memory: ClassVar[tuple[str, ...]] = ("_position",)

    def __init__(self, config: Any, space: Space, seed: int = 7, objectives: int = 1, batch: int = 16) -> None:
        super().__init__(config, space, seed, objectives, batch)
        self._shape = [levels or config.points for levels in space.levels.tolist()]
        self._position = 0

    @property
    def size(self) -> int:
        """Combinations, those included that the relations exclude."""
        return math.prod(self._shape)

    def _propose(self, n: int) -> Array:
        found: list[Array] = []
        scanned = 0
        while n > 0 and self._position < self.size:
            count = min(n if not self.space.relations else _SCAN, self.size - self._position)
            x = self._combinations(count)
            good = np.flatnonzero(self.space.violation(x) == 0.0)[:n]
            found.append(x[good])
            n -= len(good)
            # Go on behind the last point taken, so that the sequence does not depend on the sizes asked for.
            self._position += count if n > 0 else int(good[-1]) + 1
            scanned = 0 if len(good) else scanned + count
            if scanned > _PATIENCE:
                raise SpecError([Problem("relations", f"exclude {scanned:,} combinations of the grid in a row; take "
                                         "fewer points, narrower bounds or a sampler such as lhs")])  # fmt: skip
        return np.concatenate(found) if found else np.empty((0, self.space.dimensions))

    def _combinations(self, count: int) -> Array:
        """The next `count` combinations, shape (count, d). Python's integers, since there may be more than 2^63."""
        x = np.empty((count, self.space.dimensions))
        carry = np.arange(count) if self.size < 2**62 else np.arange(count).astype(object)
        carry = carry + self._position
        for i in range(self.space.dimensions - 1, -1, -1):
            carry, cell = carry // self._shape[i], (carry % self._shape[i]).astype(np.int64)
            levels = self.space.levels[i]
            x[:, i] = self._placement.lattice.coordinates(i, cell) if levels else cell / (self._shape[i] - 1)
        return self.space.snap(x)
