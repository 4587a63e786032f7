"""What the samplers share: a fixed sequence of points, of which those that are allowed and new are proposed."""

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from prefect_simopt.optimizers.engine import Engine
from prefect_simopt.space import Space

__all__ = ["Sampler"]

Array = npt.NDArray[np.float64]


class Sampler(Engine):
    """A sequence of points in blocks, each a function of the seed and its number alone.

    So the state is one number, whatever the length of the sequence.
    """

    adaptive = False
    several_objectives: ClassVar[bool] = True
    memory: ClassVar[tuple[str, ...]] = ("_drawn",)

    def __init__(self, config: Any, space: Space, seed: int = 7, objectives: int = 1, batch: int = 16) -> None:
        super().__init__(config, space, seed, objectives, batch)
        self._drawn = 0
        self._cached = (-1, np.empty((0, space.dimensions)))

    @property
    def _length(self) -> int:
        """Points of one block."""
        return 64

    @abstractmethod
    def _block(self, number: int) -> Array:
        """Block `number` of the sequence, shape (length, d), in [0, 1]."""

    def _propose(self, n: int) -> Array:
        return self._placement.place(n, lambda rows: self._draw(len(rows)))

    def _draw(self, n: int) -> Array:
        parts = []
        while n > 0:
            number, offset = divmod(self._drawn, self._length)
            if self._cached[0] != number:
                self._cached = (number, self._block(number))
            parts.append(self._cached[1][offset : offset + n])
            self._drawn += len(parts[-1])
            n -= len(parts[-1])
        return self._placement.stretch(parts[0] if len(parts) == 1 else np.concatenate(parts))

    def _block_rng(self, number: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64([self.seed, number]))
