"""NSGA-II: a genetic algorithm for several objectives, whose survivors are spread along the front."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from prefect_simopt.optimizers.breeding import Breeding
from prefect_simopt.optimizers.config import NSGA2Config
from prefect_simopt.optimizers.fronts import fronts, spread
from prefect_simopt.optimizers.variation import crossed, polynomial

__all__ = ["NSGA2"]

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class NSGA2(Breeding):
    """Non-dominated sorting genetic algorithm II with constraint domination.

    K. Deb, A. Pratap, S. Agarwal, T. Meyarivan, "A fast and elitist multiobjective genetic algorithm: NSGA-II", IEEE
    Transactions on Evolutionary Computation 6 (2002) 182-197, whose sections are given. Crossover and mutation are
    those of `variation.py`. More members live on than a generation has children, so that a front of many points is
    followed with as few simulations at once as compute can run. A share of the children come from a differential
    move instead of the crossover (S. Kukkonen, J. Lampinen, "GDE3: the third evolution step of generalized
    differential evolution", IEEE Congress on Evolutionary Computation (2005) 443-450), with x the parent, p and q of
    anyone, and F uniform in [0.4, 0.9], in half of the coordinates:

        (1)  child = x + F (p - q)

    A coordinate beyond a bound stays at it. Ordered values are rounded at random; a category comes from either
    parent; mutation of a discrete coordinate is a jump.
    """

    config_type: ClassVar[type[NSGA2Config]] = NSGA2Config
    several_objectives: ClassVar[bool] = True
    memory: ClassVar[tuple[str, ...]] = (*Breeding.memory, "_x", "_values", "_violations", "_front", "_crowding")

    def _reset(self) -> None:
        self._x = np.empty((0, self.space.dimensions))
        self._values, self._violations = np.empty((0, self.objectives)), np.empty(0)
        self._front, self._crowding = np.empty(0, dtype=np.int64), np.empty(0)

    def _leave(self) -> Mask:
        stays = self._placement.inside(self._x)
        self._x, self._values, self._violations = self._x[stays], self._values[stays], self._violations[stays]
        self._front, self._crowding = self._front[stays], self._crowding[stays]
        return np.arange(self.size) < self.size - len(self._x)

    def _anchors(self, slots: Ids) -> Array:
        return self._x[self._tournament(len(slots))]

    def _move(self, slots: Ids, anchors: Array) -> Array:
        config, lattice, rng = self.config, self._placement.lattice, self._rng
        n, d = anchors.shape
        mates, u, swap, mutate, v = self._draw(n)
        near, far = (crossed(*parents, u, config.crossover_eta) for parents in ((anchors, mates), (mates, anchors)))
        pairs = rng.random((n, 1)) < config.crossover
        child = np.where((swap < 0.5) & pairs, np.where(swap < 0.25, near, far), anchors)
        difference, f = self._differences(n)
        moved = np.where(swap < 0.5, anchors + f * difference, anchors)  # (1)
        child = np.where(rng.random((n, 1)) < config.differential, moved, child)
        if lattice.any_ordered:
            child = lattice.dither(child, rng)
        if lattice.any_categorical:
            child = np.where(lattice.categorical, np.where((swap < 0.5) & pairs, mates, anchors), child)
        mutated = mutate < (1.0 / d if config.mutation is None else config.mutation)
        child = np.where(mutated & ~lattice.discrete, child + polynomial(v, config.mutation_eta), child)
        return lattice.jump(self._placement.clip(child), mutated, rng)

    def _tournament(self, n: int) -> Ids:
        """Winners of `n` tournaments of two by the crowded comparison (III.B): the better front, then more room."""
        a, b = self._rng.integers(len(self._x), size=(2, n))
        front, room = self._front, self._crowding
        ahead = (front[a] < front[b]) | ((front[a] == front[b]) & (room[a] >= room[b]))
        winners: Ids = np.where(ahead, a, b)
        return winners

    def _update(self, ids: Ids, x: Array, values: Array, violations: Array, modelled: Mask) -> None:
        x = np.concatenate([self._x, x])
        values = np.concatenate([self._values, values.reshape(len(values), -1)])
        violations = np.append(self._violations, violations)
        rank, left = fronts(values, violations), self.config.members
        chosen, crowding = [], []
        for number in range(int(rank.max()) + 1):  # III.C: front by front, and of the last one the best spread
            front = np.flatnonzero(rank == number)
            kept, room = spread(values[front], min(len(front), left))
            chosen.append(front[kept])
            crowding.append(room)
            left -= len(kept)
            if not left:
                break
        best = np.concatenate(chosen)
        self._x, self._values, self._violations = x[best], values[best], violations[best]
        self._front, self._crowding = rank[best], np.concatenate(crowding)
