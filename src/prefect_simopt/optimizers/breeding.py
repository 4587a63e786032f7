"""What the genetic algorithms share: members without slots of their own, of whom tournaments choose the parents."""

from abc import abstractmethod
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from prefect_simopt.optimizers.population import Population

__all__ = ["Breeding"]

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Breeding(Population):
    """A population whose points are children of its members; any number of these live on."""

    memory: ClassVar[tuple[str, ...]] = (*Population.memory, "_x", "_values", "_violations")

    def _reset(self) -> None:
        self._x = np.empty((0, self.space.dimensions))
        self._values, self._violations = np.empty(0), np.empty(0)

    def _leave(self) -> Mask:
        self._keep(self._placement.inside(self._x))
        return np.arange(self.size) < self.size - len(self._x)

    def _keep(self, stays: Mask) -> None:
        """Forget the members that do not stay, shape (members,)."""
        self._x, self._values, self._violations = self._x[stays], self._values[stays], self._violations[stays]

    def _anchors(self, slots: Ids) -> Array:
        return self._x[self._tournament(len(slots))]

    @abstractmethod
    def _tournament(self, n: int) -> Ids:
        """Winners of `n` tournaments, as places in the population: shape (n,)."""

    def _draw(self, n: int) -> tuple[Array, Array, Array, Array, Array]:
        """What `n` children take beside their first parents.

        Returns:
            Their second parents, then uniform random numbers for the spread of a crossover, which values it swaps,
            which mutate, and how far: shape (n, d) each.
        """
        mates = self._x[self._tournament(n)]
        spread, swap, mutate, far = self._rng.random((4, n, self.space.dimensions))
        return mates, spread, swap, mutate, far

    def _differences(self, n: int) -> Array:
        """Differential moves F (p - q), shape (n, d), with p and q of anyone and F uniform in [0.4, 0.9]."""
        p, q = self._x[self._rng.integers(len(self._x), size=(2, n))]
        return np.asarray(self._rng.uniform(0.4, 0.9, (n, 1)) * (p - q))
