"""Genetic algorithm: the better points have children, and the better of all live on."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from prefect_simopt.optimizers.breeding import Breeding
from prefect_simopt.optimizers.config import GAConfig
from prefect_simopt.optimizers.lattice import reflect
from prefect_simopt.optimizers.ranking import order
from prefect_simopt.optimizers.variation import crossed, polynomial

__all__ = ["GA"]

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_PARENTS = 1.5  # members that live on, for each point of a generation
_LEARNING = 0.1  # rate of the operators' credit
_LEAST = 0.1  # share of differential moves


class GA(Breeding):
    """Real-coded genetic algorithm: tournaments, two operators that earn their share, mutation, elitist survival.

    Crossover and mutation are those of `variation.py`; R. Storn, K. Price, Journal of Global Optimization 11 (1997)
    341-359, for the differential move; D. Thierens, "An adaptive pursuit strategy for allocating operator
    probabilities", GECCO (2005) 1539-1546, for their shares. With e from the best quarter, p and q of anyone, F
    uniform in [0.4, 0.9]:

        (1)  child = the crossover of two parents, in half of the coordinates, or
        (2)  child = e + F (p - q)
        (3)  child <- child + delta, the mutation, in a few coordinates

    The probability of (2) is its share of the credit, which follows how many of either's children lived on.
    Coordinates beyond a bound are reflected. Ordered values are rounded at random; a category comes from either
    parent; mutation of a discrete coordinate is a jump.
    """

    config_type: ClassVar[type[GAConfig]] = GAConfig
    memory: ClassVar[tuple[str, ...]] = (*Breeding.memory, "_differential", "_credit", "_idle")

    def _reset(self) -> None:
        super()._reset()
        self._differential = np.zeros(self.size, dtype=bool)  # which operator made the child of each slot
        self._credit = np.array([0.5, 0.5])
        self._idle = 0

    def _move(self, slots: Ids, anchors: Array) -> Array:
        config, lattice, rng = self.config, self._placement.lattice, self._rng
        n, d = anchors.shape
        mates, u, swap, mutate, v = self._draw(n)
        mixed = crossed(anchors, mates, u, config.crossover_eta)  # (1)
        mixed = np.where((swap < 0.5) & (rng.random((n, 1)) < config.crossover), mixed, anchors)
        elite = self._x[rng.integers(max(len(self._x) // 4, 1), size=n)]
        moved = elite + self._differences(n)  # (2)
        share = min(max(self._credit[1] / self._credit.sum(), _LEAST), config.differential)
        self._differential[slots] = differential = rng.random(n) < share
        child = np.where(differential[:, None], moved, mixed)
        if lattice.any_ordered:
            child = lattice.dither(child, rng)
        if lattice.any_categorical:
            child = np.where(lattice.categorical, np.where(swap < 0.5, mates, anchors), child)
        rate = rng.uniform(0.1, 0.5, (n, 1)) / d if config.mutation is None else config.mutation
        mutated = mutate < np.where(lattice.discrete, 1.0 / d if config.mutation is None else config.mutation, rate)
        delta = polynomial(v, config.mutation_eta)
        child = reflect(np.where(mutated & ~lattice.discrete, child + delta, child))  # (3)
        return lattice.jump(child, mutated, rng)

    def _tournament(self, n: int) -> Ids:
        """Winners of `n` tournaments. The population is sorted, so the smallest index wins."""
        entrants: Ids = self._rng.integers(len(self._x), size=(n, self.config.tournament)).min(axis=1)
        return entrants

    def _update(self, ids: Ids, x: Array, values: Array, violations: Array, modelled: Mask) -> None:
        before, capacity = len(self._x), int(_PARENTS * self.size)
        all_values, all_violations = np.append(self._values, values), np.append(self._violations, violations)
        best = order(all_values, all_violations)[:capacity]
        lives = np.isin(np.arange(before, before + len(x)), best)
        self._idle = 0 if not before or best[0] >= before else self._idle + len(x)
        if before == capacity:
            child = ~modelled
            for operator, made in enumerate((child & ~self._differential[ids % self.size],
                                             child & self._differential[ids % self.size])):  # fmt: skip
                if made.any():
                    rate = _LEARNING * made.sum() / self.size * 2
                    self._credit[operator] += rate * (lives[made].mean() + 0.01 - self._credit[operator])
        self._x = np.concatenate([self._x, x])[best]
        self._values, self._violations = all_values[best], all_violations[best]

    def _converged(self) -> bool:
        return self._exhausted(self._idle, self._x)
