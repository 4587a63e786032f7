"""Particle swarm optimization: points that fly towards their own best and the swarm's best."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from prefect_simopt.optimizers.config import PSOConfig
from prefect_simopt.optimizers.lattice import reflect
from prefect_simopt.optimizers.population import Population, adopt
from prefect_simopt.optimizers.ranking import better, order

__all__ = ["PSO"]

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Ids = npt.NDArray[np.int64]


class PSO(Population):
    """Global-best particle swarm with inertia weight.

    J. Kennedy, R. Eberhart, "Particle swarm optimization", IEEE International Conference on Neural Networks (1995)
    1942-1948; Y. Shi, R. Eberhart, "A modified particle swarm optimizer", IEEE International Conference on
    Evolutionary Computation (1998) 69-73, which adds the inertia w. Pulls: M. Clerc, J. Kennedy, IEEE Transactions on
    Evolutionary Computation 6 (2002) 58-73. With x a particle's position, p its best and g the
    swarm's best point, r1 and r2 uniform random vectors:

        (1)  v <- w v + c1 r1 (p - x) + c2 r2 (g - x)
        (2)  |v| <= v_max, in each coordinate
        (3)  x <- x + v

    A share of the moves is instead differential (R. Storn, K. Price, Journal of Global Optimization 11 (1997)
    341-359), with a and b the best of any two particles, F uniform in [0.4, 0.9], and c either g or p + F (g - p):

        (5)  x <- c + F (a - b)

    At a bound a particle stops, and v is the way that it went. Ordered values are rounded at random. A category
    follows the three terms of (1) as probabilities:

        (4)  x <- x, p or g, in proportion to w, c1 r1 and c2 r2

    and any discrete coordinate jumps with probability 1/(4d).
    """

    config_type: ClassVar[type[PSOConfig]] = PSOConfig
    memory: ClassVar[tuple[str, ...]] = (
        *Population.memory, "_x", "_v", "_best_x", "_best_values", "_best_violations", "_idle"
    )  # fmt: skip

    def _reset(self) -> None:
        self._x = self._start.copy()
        self._v = self.config.velocity * (self._rng.random(self._x.shape) - 0.5)
        self._best_x = self._x.copy()
        self._best_values = np.full(self.size, np.inf)
        self._best_violations = np.full(self.size, np.inf)
        self._idle = 0

    def _leave(self) -> Mask:
        gone = ~self._placement.inside(self._best_x)
        self._x, self._best_x = self._placement.clip(self._x), self._best_x.copy()
        self._x[gone] = self._best_x[gone] = self._start[gone]
        self._best_values[gone] = self._best_violations[gone] = np.inf
        return gone

    def _anchors(self, slots: Ids) -> Array:
        return self._x[slots]

    def _move(self, slots: Ids, anchors: Array) -> Array:
        config, lattice, x = self.config, self._placement.lattice, anchors
        n = len(x)
        r1, r2 = self._rng.random((2, *x.shape))
        best = self._best_x[slots]
        leader = self._best_x[order(self._best_values, self._best_violations)[0]]
        v = (  # (1)
            config.inertia * self._v[slots] + config.cognitive * r1 * (best - x) + config.social * r2 * (leader - x)
        )
        v = np.minimum(np.maximum(v, -config.velocity), config.velocity)  # (2)
        moved = self._placement.clip(x + v)  # (3)
        differential = self._rng.random((n, 1)) < config.differential
        a, b = self._best_x[self._rng.integers(self.size, size=(2, n))]
        f = self._rng.uniform(0.4, 0.9, (n, 1))
        base = np.where(self._rng.random((n, 1)) < 0.5, leader, best + f * (leader - best))
        moved = np.where(differential, reflect(base + f * (a - b)), moved)  # (5)
        if not lattice.any_discrete:
            return moved
        moved = lattice.dither(moved, self._rng)
        if lattice.any_categorical:
            moved = np.where(lattice.categorical, self._choose(x, best, leader, r1, r2), moved)
        return lattice.jump(moved, self._rng.random(x.shape) < 0.25 / x.shape[1], self._rng)

    def _choose(self, x: Array, best: Array, leader: Array, r1: Array, r2: Array) -> Array:
        own, cognitive, social = self.config.inertia, self.config.cognitive * r1, self.config.social * r2
        draw = self._rng.random(x.shape) * (own + cognitive + social)
        return np.where(draw < own, x, np.where(draw < own + cognitive, best, leader))  # (4)

    def _update(self, ids: Ids, x: Array, values: Array, violations: Array, modelled: Mask) -> None:
        leader = order(self._best_values, self._best_violations)[0]
        before = self._best_values[leader], self._best_violations[leader]
        own = self._best_x, self._best_values, self._best_violations
        adopt(own, (x[modelled], values[modelled], violations[modelled]))
        ids, x, values, violations = ids[~modelled], x[~modelled], values[~modelled], violations[~modelled]
        slots = ids % self.size
        if len(ids):
            if ids[0] >= self.size:  # the first point is where a particle starts, no flight
                limit = self.config.velocity
                self._v[slots] = np.minimum(np.maximum(x - self._x[slots], -limit), limit)
            self._x[slots] = x
            won = better(values, violations, self._best_values[slots], self._best_violations[slots])
            winners = slots[won]
            self._best_x[winners] = x[won]
            self._best_values[winners] = values[won]
            self._best_violations[winners] = violations[won]
        leader = order(self._best_values, self._best_violations)[0]
        if (self._best_values[leader], self._best_violations[leader]) != before:
            self._idle = 0
        else:
            self._idle += len(values) + int(modelled.sum())

    def _converged(self) -> bool:
        return self._exhausted(self._idle, self._best_x)
