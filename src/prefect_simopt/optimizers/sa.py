"""Simulated annealing: walkers that may also go uphill, less and less as the temperature falls."""

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from prefect_simopt.optimizers.config import SAConfig
from prefect_simopt.optimizers.lattice import reflect
from prefect_simopt.optimizers.population import Population
from prefect_simopt.optimizers.ranking import better
from prefect_simopt.space import Space

__all__ = ["SA"]

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]

_SMALLEST_STEP = 1e-9
_COLDEST, _HOTTEST = float(np.finfo(float).tiny), float(np.finfo(float).max)


class SA(Population):
    """Independent Metropolis walkers under one falling temperature.

    N. Metropolis et al., Journal of Chemical Physics 21 (1953) 1087-1092; S. Kirkpatrick, C. D. Gelatt, M. P. Vecchi,
    "Optimization by simulated annealing", Science 220 (1983) 671-680; step size by C. Andrieu, J. Thoms, "A tutorial
    on adaptive MCMC", Statistics and Computing 18 (2008) 343-373, algorithm 4. In generation k, with z a standard
    normal vector and f0 the values of the first generation:

        (1)  y = x + s z
        (2)  accept y with probability min(1, exp(-(f(y) - f(x)) / T))
        (3)  T = tau (median f0 - min f0) alpha^k
        (4)  log s <- log s + (share accepted - acceptance)

    Coordinates beyond a bound are reflected. Ordered values are rounded at random, and each discrete coordinate jumps
    with probability 1/(2d). Infeasible points are only ever left for better ones (Deb's rules), and a feasible
    one never for an infeasible one.
    """

    config_type: ClassVar[type[SAConfig]] = SAConfig
    memory: ClassVar[tuple[str, ...]] = (
        *Population.memory, "_x", "_values", "_violations", "_step", "_spread"
    )  # fmt: skip

    def __init__(self, config: Any, space: Space, seed: int = 7, objectives: int = 1, batch: int = 16) -> None:
        super().__init__(config, space, seed, objectives, batch)
        self._x = self._start.copy()
        self._values, self._violations = np.full(self.size, np.inf), np.full(self.size, np.inf)
        self._step = float(self.config.step)
        self._spread = 0.0

    def _anchors(self, slots: Ids) -> Array:
        return self._x[slots]

    def _move(self, slots: Ids, anchors: Array) -> Array:
        lattice, rng = self._placement.lattice, self._rng
        z = rng.standard_normal(anchors.shape)
        y = np.where(lattice.categorical, anchors, reflect(anchors + self._step * z))  # (1)
        if not lattice.any_discrete:
            return y
        return lattice.jump(lattice.dither(y, rng), rng.random(y.shape) < 0.5 / y.shape[1], rng)

    def _update(self, ids: Ids, x: Array, values: Array, violations: Array) -> None:
        slots, generation = ids % self.size, int(ids[0]) // self.size
        feasible = (violations == 0.0) & (self._violations[slots] == 0.0)
        temperature = self.config.temperature * self._spread * self.config.cooling**generation  # (3)
        with np.errstate(over="ignore"):  # an infinite rise is never accepted
            rise = np.where(feasible, values, 0.0) - np.where(feasible, self._values[slots], 0.0)
            uphill = np.exp(-np.maximum(rise, 0.0) / min(max(temperature, _COLDEST), _HOTTEST))
        won = ~better(self._values[slots], self._violations[slots], values, violations)
        won |= feasible & (self._rng.random(len(ids)) < uphill)  # (2)
        if generation > 0 and self._spread > 0.0:
            share = float(won.mean()) - self.config.acceptance
            self._step *= float(np.exp(share * len(ids) / self.size))  # (4)
            self._step = min(max(self._step, _SMALLEST_STEP), 1.0)
        moved = slots[won]
        self._x[moved], self._values[moved], self._violations[moved] = x[won], values[won], violations[won]
        known = self._values[self._violations == 0.0]
        if self._spread == 0.0 and len(known) > 1:
            with np.errstate(over="ignore"):
                self._spread = min(float(np.median(known) - known.min()), _HOTTEST)
