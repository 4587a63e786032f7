"""Simulated annealing: walkers that may also go uphill, less and less as the temperature falls."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from prefect_simopt.optimizers.config import SAConfig
from prefect_simopt.optimizers.lattice import reflect
from prefect_simopt.optimizers.population import Population, adopt
from prefect_simopt.optimizers.ranking import better, order

__all__ = ["SA"]

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Ids = npt.NDArray[np.int64]

_SHORTEST, _LONGEST = 0.05, 2.0  # factor s
_JUMPS = 0.05  # share of heavy-tailed steps
_COLDEST, _HOTTEST = float(np.finfo(float).tiny), float(np.finfo(float).max)


class SA(Population):
    """A population of Metropolis walkers under one falling temperature.

    N. Metropolis et al., Journal of Chemical Physics 21 (1953) 1087-1092; S. Kirkpatrick, C. D. Gelatt, M. P. Vecchi,
    "Optimization by simulated annealing", Science 220 (1983) 671-680; moves by C. J. F. ter Braak, "A Markov chain
    Monte Carlo version of the genetic algorithm differential evolution", Statistics and Computing 16 (2006) 239-249;
    their length by C. Andrieu, J. Thoms, "A tutorial on adaptive MCMC", Statistics and Computing 18 (2008) 343-373,
    algorithm 4; resampling by K. Hukushima, Y. Iba, "Population annealing and its application to a spin glass", AIP
    Conference Proceedings 690 (2003) 200-206. In generation k, with walkers x, a and b and f of the walkers:

        (1)  y = x + s (2.38 / sqrt(2d)) (1 + z / 10) (a - b), z standard normal; one in twenty times instead a Cauchy
             step of a few coordinates
        (2)  T = tau (quantile of f at alpha^k / 2 - min f)
        (3)  accept y with probability min(1, exp(-(f(y) - f(x)) / T))
        (4)  log s <- log s + (share accepted - acceptance)
        (5)  a share of the walkers goes to where another one is, drawn in proportion to exp(-f / T)

    Coordinates beyond a bound are reflected. Ordered values are rounded at random, and each discrete coordinate jumps
    with probability 1/(2d). Infeasible points are only ever left for better ones (Deb's rules), and a feasible
    one never for an infeasible one.
    """

    config_type: ClassVar[type[SAConfig]] = SAConfig
    memory: ClassVar[tuple[str, ...]] = (
        *Population.memory, "_x", "_values", "_violations", "_step", "_best", "_idle", "_cooled"
    )  # fmt: skip

    def _reset(self) -> None:
        self._x = self._start.copy()
        self._values, self._violations = np.full(self.size, np.inf), np.full(self.size, np.inf)
        self._step, self._best, self._idle, self._cooled = 1.0, np.inf, 0, 0

    def _leave(self) -> Mask:
        gone = ~self._placement.inside(self._x)
        self._x[gone], self._values[gone], self._violations[gone] = self._start[gone], np.inf, np.inf
        return gone

    def _anchors(self, slots: Ids) -> Array:
        return self._x[slots]

    def _move(self, slots: Ids, anchors: Array) -> Array:
        lattice, rng = self._placement.lattice, self._rng
        variants = self._variants
        slots, anchors = np.repeat(slots, variants), np.repeat(anchors, variants, axis=0)
        n, d = anchors.shape
        a = (slots + rng.integers(1, self.size, size=n)) % self.size
        b = (slots + rng.integers(1, self.size, size=n)) % self.size
        gamma = self._step * 2.38 / np.sqrt(2.0 * d)
        y = anchors + gamma * (1 + 0.1 * rng.standard_normal((n, 1))) * (self._x[a] - self._x[b])  # (1)
        jump = rng.random((n, 1)) < _JUMPS
        where = rng.random((n, d)) < 1.0 / d
        where[np.arange(n), rng.integers(d, size=n)] = True
        heavy = anchors + np.where(where, self.config.step * np.tan(np.pi * (rng.random((n, d)) - 0.5)), 0.0)
        y = np.where(jump, heavy, y)
        y = np.where(lattice.categorical, anchors, reflect(y))
        if lattice.any_discrete:
            y = lattice.jump(lattice.dither(y, rng), rng.random(y.shape) < 0.5 / y.shape[1], rng)
        return np.asarray(y[self._screened(y, variants)])

    def _temperature(self) -> float:
        known = np.sort(self._values[(self._violations == 0.0) & np.isfinite(self._values)])
        if len(known) < 2:
            return 0.0
        # The quantile, between its two neighbours: np.quantile takes a third of a generation's time.
        place = 0.5 * self.config.cooling**self._cooled * (len(known) - 1)
        below = known[int(place)]
        quantile = below + (place - int(place)) * (known[int(place) + 1] - below)
        return float(self.config.temperature) * float(quantile - known[0])  # (2)

    def _update(self, ids: Ids, x: Array, values: Array, violations: Array, modelled: Mask) -> None:
        best = order(values, violations)[0]
        improved = values[best] < self._best
        self._best = min(self._best, float(values[best]))
        self._idle = 0 if improved else self._idle + len(ids)
        temperature = self._temperature()
        walkers = self._x, self._values, self._violations
        adopt(walkers, (x[modelled], values[modelled], violations[modelled]))
        ids, x, values, violations = ids[~modelled], x[~modelled], values[~modelled], violations[~modelled]
        if not len(ids):
            return
        slots = ids % self.size
        self._cooled = int((ids[0] - self._since) // self.size)
        feasible = (violations == 0.0) & (self._violations[slots] == 0.0)
        with np.errstate(over="ignore"):  # an infinite rise is never accepted
            rise = np.where(feasible, values, 0.0) - np.where(feasible, self._values[slots], 0.0)
            uphill = np.exp(-np.maximum(rise, 0.0) / min(max(temperature, _COLDEST), _HOTTEST))
        won = ~better(self._values[slots], self._violations[slots], values, violations)
        won |= feasible & (self._rng.random(len(ids)) < uphill)  # (3)
        if self._cooled > 0:
            share = float(won.mean()) - self.config.acceptance
            self._step *= float(np.exp(share * len(ids) / self.size))  # (4)
            self._step = min(max(self._step, _SHORTEST), _LONGEST)
        moved = slots[won]
        self._x[moved], self._values[moved], self._violations[moved] = x[won], values[won], violations[won]
        self._resample(self._temperature())

    def _resample(self, temperature: float) -> None:
        if np.isfinite(self._values).all() and (self._violations == 0).all():
            with np.errstate(over="ignore"):
                rise = self._values - self._values.min()
                weights = np.exp(-rise / min(max(temperature, _COLDEST), _HOTTEST))
            gone = np.flatnonzero(self._rng.random(self.size) < self.config.resampling)
            kept = self._rng.choice(self.size, size=len(gone), p=weights / weights.sum())  # (5)
            self._x[gone], self._values[gone] = self._x[kept], self._values[kept]

    def _converged(self) -> bool:
        return self._exhausted(self._idle, self._x)
