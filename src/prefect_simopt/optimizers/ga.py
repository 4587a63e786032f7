"""Genetic algorithm: the better points have children, and a child lives on in its parent's place if it is better."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from prefect_simopt.optimizers.breeding import Breeding
from prefect_simopt.optimizers.config import GAConfig
from prefect_simopt.optimizers.lattice import reflect
from prefect_simopt.optimizers.population import adopt
from prefect_simopt.optimizers.ranking import better, order
from prefect_simopt.optimizers.variation import crossed, polynomial

__all__ = ["GA"]

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_LEARNING = 0.1  # rate of the operators' credit
_LEAST = 0.1  # share of differential moves


class GA(Breeding):
    """Real-coded genetic algorithm: tournaments, two operators that earn their share, mutation, crowding.

    Crossover and mutation are those of `variation.py`; R. Storn, K. Price, Journal of Global Optimization 11 (1997)
    341-359, for the differential move; D. Thierens, "An adaptive pursuit strategy for allocating operator
    probabilities", GECCO (2005) 1539-1546, for their shares; D. J. Cavicchio, "Adaptive search using simulated
    evolution", University of Michigan (1970), and S. W. Mahfoud, "Crowding and preselection revisited", PPSN II (1992)
    27-36, for survival. With x the first parent, e from the best quarter, p and q of anyone, F uniform in [0.4, 0.9]:

        (1)  child = the crossover of x and the winner of a tournament, in half of the coordinates, or
        (2)  child = x + F (e - x) + F (p - q)
        (3)  child <- child + delta, the mutation, in a few coordinates
        (4)  x <- child, if it is better

    By (4) a child competes with the one it is most like, so that small populations keep their variety; survival of
    the best of all loses it, the sooner with points of the model among them. The probability of (2) is its share of
    the credit, which follows how many of either's children lived on. Coordinates beyond a bound are reflected.
    Ordered values are rounded at random; a category comes from either parent; mutation of a discrete coordinate is a
    jump.
    """

    config_type: ClassVar[type[GAConfig]] = GAConfig
    memory: ClassVar[tuple[str, ...]] = (
        *Breeding.memory, "_x", "_values", "_violations", "_differential", "_credit", "_idle"
    )  # fmt: skip

    def _reset(self) -> None:
        self._x = self._start.copy()
        self._values, self._violations = np.full(self.size, np.inf), np.full(self.size, np.inf)
        self._differential = np.zeros(self.size, dtype=bool)  # which operator made the child of each slot
        self._credit = np.array([0.5, 0.5])
        self._idle = 0

    def _leave(self) -> Mask:
        gone = ~self._placement.inside(self._x)
        self._x[gone], self._values[gone], self._violations[gone] = self._start[gone], np.inf, np.inf
        return gone

    def _anchors(self, slots: Ids) -> Array:
        return self._x[slots]

    def _move(self, slots: Ids, anchors: Array) -> Array:
        config, lattice, rng = self.config, self._placement.lattice, self._rng
        variants = self._variants
        anchors = np.repeat(anchors, variants, axis=0)
        n, d = anchors.shape
        mates, u, swap, mutate, v = self._draw(n)
        mixed = crossed(anchors, mates, u, config.crossover_eta)  # (1)
        mixed = np.where((swap < 0.5) & (rng.random((n, 1)) < config.crossover), mixed, anchors)
        ranked = order(self._values, self._violations)
        elite = self._x[ranked[rng.integers(max(self.size // 4, 1), size=n)]]
        difference, f = self._differences(n)
        moved = anchors + f * (elite - anchors) + f * difference  # (2)
        share = min(max(self._credit[1] / self._credit.sum(), _LEAST), config.differential)
        differential = rng.random(n) < share
        child = np.where(differential[:, None], moved, mixed)
        if lattice.any_ordered:
            child = lattice.dither(child, rng)
        if lattice.any_categorical:
            child = np.where(lattice.categorical, np.where(swap < 0.5, mates, anchors), child)
        rate = rng.uniform(0.1, 0.5, (n, 1)) / d if config.mutation is None else config.mutation
        mutated = mutate < np.where(lattice.discrete, 1.0 / d if config.mutation is None else config.mutation, rate)
        delta = polynomial(v, config.mutation_eta)
        child = reflect(np.where(mutated & ~lattice.discrete, child + delta, child))  # (3)
        child = lattice.jump(child, mutated, rng)
        chosen = self._screened(child, variants)
        self._differential[slots] = differential[chosen]
        return np.asarray(child[chosen])

    def _tournament(self, n: int) -> Ids:
        """Winners of `n` tournaments, as places in the population: shape (n,)."""
        entrants = self._rng.integers(self.size, size=(n, self.config.tournament))
        winners: Ids = order(self._values, self._violations)[entrants.min(axis=1)]
        return winners

    def _update(self, ids: Ids, x: Array, values: Array, violations: Array, modelled: Mask) -> None:
        best = order(values, violations)[0]
        first = order(self._values, self._violations)[[0]]
        improved = better(values[[best]], violations[[best]], self._values[first], self._violations[first])[0]
        self._idle = 0 if improved else self._idle + len(ids)
        members = self._x, self._values, self._violations
        adopt(members, (x[modelled], values[modelled], violations[modelled]))
        ids, x, values, violations = ids[~modelled], x[~modelled], values[~modelled], violations[~modelled]
        slots = ids % self.size
        won = better(values, violations, self._values[slots], self._violations[slots])
        child, differential = np.isfinite(self._values[slots]), self._differential[slots]
        for operator, made in enumerate((child & ~differential, child & differential)):
            if made.any():
                rate = _LEARNING * made.sum() / self.size * 2
                self._credit[operator] += rate * (won[made].mean() + 0.01 - self._credit[operator])
        moved = slots[won]
        self._x[moved], self._values[moved], self._violations[moved] = x[won], values[won], violations[won]  # (4)

    def _converged(self) -> bool:
        return self._exhausted(self._idle, self._x)
