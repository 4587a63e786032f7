"""Particle swarm optimization: points that fly towards their own best and the swarm's best."""

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from prefect_simopt.optimizers.config import PSOConfig
from prefect_simopt.optimizers.population import Population
from prefect_simopt.optimizers.ranking import better, order
from prefect_simopt.space import Space

__all__ = ["PSO"]

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]


class PSO(Population):
    """Global-best particle swarm with inertia weight.

    J. Kennedy, R. Eberhart, "Particle swarm optimization", IEEE International Conference on Neural Networks (1995)
    1942-1948; Y. Shi, R. Eberhart, "A modified particle swarm optimizer", IEEE International Conference on
    Evolutionary Computation (1998) 69-73, which adds the inertia w. Default coefficients: M. Clerc, J. Kennedy, IEEE
    Transactions on Evolutionary Computation 6 (2002) 58-73. With x a particle's position, p its best and g the
    swarm's best point, r1 and r2 uniform random vectors:

        (1)  v <- w v + c1 r1 (p - x) + c2 r2 (g - x)
        (2)  |v| <= v_max, in each coordinate
        (3)  x <- x + v

    At a bound a particle stops, and v is the way that it went. Ordered values are rounded at random. A category
    follows the three terms of (1) as probabilities:

        (4)  x <- x, p or g, in proportion to w, c1 r1 and c2 r2

    and any discrete coordinate jumps with probability 1/(4d).
    """

    config_type: ClassVar[type[PSOConfig]] = PSOConfig
    memory: ClassVar[tuple[str, ...]] = (
        *Population.memory, "_x", "_v", "_best_x", "_best_values", "_best_violations"
    )  # fmt: skip

    def __init__(self, config: Any, space: Space, seed: int = 7, objectives: int = 1, batch: int = 16) -> None:
        super().__init__(config, space, seed, objectives, batch)
        limit = self.config.velocity
        self._x = self._start.copy()
        self._v = limit * (self._rng.random(self._x.shape) - 0.5)
        self._best_x = self._x.copy()
        self._best_values = np.full(self.size, np.inf)
        self._best_violations = np.full(self.size, np.inf)

    def _anchors(self, slots: Ids) -> Array:
        return self._x[slots]

    def _move(self, slots: Ids, anchors: Array) -> Array:
        config, lattice, x = self.config, self._placement.lattice, anchors
        r1, r2 = self._rng.random((2, *x.shape))
        best = self._best_x[slots]
        leader = self._best_x[order(self._best_values, self._best_violations)[0]]
        v = (  # (1)
            config.inertia * self._v[slots] + config.cognitive * r1 * (best - x) + config.social * r2 * (leader - x)
        )
        v = np.minimum(np.maximum(v, -config.velocity), config.velocity)  # (2)
        moved: Array = np.minimum(np.maximum(x + v, 0.0), 1.0)  # (3)
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

    def _update(self, ids: Ids, x: Array, values: Array, violations: Array) -> None:
        slots = ids % self.size
        if ids[0] >= self.size:  # the first point is where a particle starts, no flight
            limit = self.config.velocity
            self._v[slots] = np.minimum(np.maximum(x - self._x[slots], -limit), limit)
        self._x[slots] = x
        won = better(values, violations, self._best_values[slots], self._best_violations[slots])
        winners = slots[won]
        self._best_x[winners] = x[won]
        self._best_values[winners] = values[won]
        self._best_violations[winners] = violations[won]
