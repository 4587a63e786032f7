"""What the genetic algorithms share: members of whom tournaments choose the parents."""

from abc import abstractmethod

import numpy as np
import numpy.typing as npt

from prefect_simopt.optimizers.population import Population

__all__ = ["Breeding"]

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]


class Breeding(Population):
    """A population whose points are children of its members."""

    _x: Array  # members, shape (members, d)

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

    def _differences(self, n: int) -> tuple[Array, Array]:
        """Differences p - q of anyone, shape (n, d), and F uniform in [0.4, 0.9], shape (n, 1)."""
        p, q = self._x[self._rng.integers(len(self._x), size=(2, n))]
        return p - q, self._rng.uniform(0.4, 0.9, (n, 1))
