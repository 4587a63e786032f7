"""Genetic algorithm: the better points have children, and the better of all live on."""

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from prefect_simopt.optimizers.config import GAConfig
from prefect_simopt.optimizers.lattice import reflect
from prefect_simopt.optimizers.population import Population
from prefect_simopt.optimizers.ranking import order
from prefect_simopt.space import Space

__all__ = ["GA"]

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]


class GA(Population):
    """Real-coded genetic algorithm: tournaments, simulated binary crossover, polynomial mutation, (N + N) survival.

    K. Deb, R. B. Agrawal, "Simulated binary crossover for continuous search space", Complex Systems 9 (1995) 115-148;
    K. Deb, M. Goyal, "A combined genetic adaptive search (GeneAS) for engineering design", Computer Science and
    Informatics 26 (1996) 30-45; the elitist survival is that of NSGA-II (Deb et al. 2002) with one objective. With
    parents a and b, a uniform random number u for each coordinate, and distribution indices eta_c and eta_m:

        (1)  beta = (2u)^(1/(eta_c + 1)) if u <= 1/2, else (1 / (2 (1 - u)))^(1/(eta_c + 1))
        (2)  child = ((1 + beta) a + (1 - beta) b) / 2
        (3)  delta = (2u)^(1/(eta_m + 1)) - 1 if u < 1/2, else 1 - (2 (1 - u))^(1/(eta_m + 1))
        (4)  child <- child + delta

    Half of the coordinates of a crossing are crossed, and coordinates beyond a bound are reflected. Ordered values
    are rounded at random; a category comes from either parent; mutation of a discrete coordinate is a jump.
    """

    config_type: ClassVar[type[GAConfig]] = GAConfig
    memory: ClassVar[tuple[str, ...]] = (*Population.memory, "_x", "_values", "_violations")

    def __init__(self, config: Any, space: Space, seed: int = 7, objectives: int = 1, batch: int = 16) -> None:
        super().__init__(config, space, seed, objectives, batch)
        self._x = np.empty((0, space.dimensions))
        self._values, self._violations = np.empty(0), np.empty(0)

    def _anchors(self, slots: Ids) -> Array:
        return self._x[self._tournament(len(slots))]

    def _move(self, slots: Ids, anchors: Array) -> Array:
        config, lattice, rng = self.config, self._placement.lattice, self._rng
        n, d = anchors.shape
        mates = self._x[self._tournament(len(slots))]
        u, swap, mutate, v = rng.random((4, n, d))
        power = 1.0 / (config.crossover_eta + 1.0)
        beta = np.where(u <= 0.5, 2.0 * u, 0.5 / (1.0 - u)) ** power  # (1)
        child = 0.5 * ((1.0 + beta) * anchors + (1.0 - beta) * mates)  # (2)
        child = np.where((swap < 0.5) & (rng.random((n, 1)) < config.crossover), child, anchors)
        if lattice.any_ordered:
            child = lattice.dither(child, rng)
        if lattice.any_categorical:
            child = np.where(lattice.categorical, np.where(swap < 0.5, mates, anchors), child)
        mutated = mutate < (1.0 / d if config.mutation is None else config.mutation)
        power = 1.0 / (config.mutation_eta + 1.0)
        delta = np.where(v < 0.5, (2.0 * v) ** power - 1.0, 1.0 - (2.0 * (1.0 - v)) ** power)  # (3)
        child = reflect(np.where(mutated & ~lattice.discrete, child + delta, child))  # (4)
        return lattice.jump(child, mutated, rng)

    def _tournament(self, n: int) -> Ids:
        """Winners of `n` tournaments. The population is sorted, so the smallest index wins."""
        entrants: Ids = self._rng.integers(len(self._x), size=(n, self.config.tournament)).min(axis=1)
        return entrants

    def _update(self, ids: Ids, x: Array, values: Array, violations: Array) -> None:
        values, violations = np.append(self._values, values), np.append(self._violations, violations)
        best = order(values, violations)[: self.size]
        self._x = np.concatenate([self._x, x])[best]
        self._values, self._violations = values[best], violations[best]
