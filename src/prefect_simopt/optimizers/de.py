"""Differential evolution: points move along the differences of others, by lengths that worked before."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from prefect_simopt.optimizers.config import DEConfig
from prefect_simopt.optimizers.population import Population, adopt
from prefect_simopt.optimizers.ranking import better, order

__all__ = ["DE"]

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class DE(Population):
    """Success-history based adaptive differential evolution (SHADE), current-to-pbest/1/bin with an archive.

    R. Tanabe, A. Fukunaga, "Success-history based parameter adaptation for differential evolution", IEEE Congress on
    Evolutionary Computation (2013) 71-78; J. Zhang, A. C. Sanderson, "JADE: adaptive differential evolution with
    optional external archive", IEEE Transactions on Evolutionary Computation 13 (2009) 945-958. With x a member, p one
    of the best, r1 another member, r2 another member or one that was replaced, and a random memory cell k:

        (1)  F = Cauchy(M_F[k], 0.1), at most 1, drawn again while not positive;  CR = Normal(M_CR[k], 0.1) in [0, 1]
        (2)  v = x + F (p - x) + F (r1 - r2)
        (3)  u = v with probability CR and in one random coordinate, else x
        (4)  M_F[k] = sum w F^2 / sum w F and M_CR[k] = sum w CR of the u that replaced their x, w their improvements

    Beyond a bound v is half way between x and the bound. Ordered values are rounded at random; a category of v is one
    of x, p and r1; any discrete coordinate jumps with probability 1/(4d).
    """

    config_type: ClassVar[type[DEConfig]] = DEConfig
    memory: ClassVar[tuple[str, ...]] = (
        *Population.memory, "_x", "_values", "_violations", "_archive", "_f", "_cr", "_memory_f", "_memory_cr",
        "_cell", "_idle",
    )  # fmt: skip

    def _reset(self) -> None:
        self._x = self._start.copy()
        self._values, self._violations = np.full(self.size, np.inf), np.full(self.size, np.inf)
        self._archive = np.empty((0, self.space.dimensions))
        self._f, self._cr = np.full(self.size, 0.5), np.full(self.size, 0.5)  # of the candidate of each member
        self._memory_f, self._memory_cr = np.full(self.config.history, 0.5), np.full(self.config.history, 0.5)
        self._cell, self._idle = 0, 0

    def _leave(self) -> Mask:
        gone = ~self._placement.inside(self._x)
        self._x[gone], self._values[gone], self._violations[gone] = self._start[gone], np.inf, np.inf
        self._archive = self._archive[self._placement.inside(self._archive)]
        return gone

    def _anchors(self, slots: Ids) -> Array:
        return self._x[slots]

    def _move(self, slots: Ids, anchors: Array) -> Array:
        lattice, rng, x = self._placement.lattice, self._rng, anchors
        n, d = x.shape
        cell = rng.integers(np.full(n, len(self._memory_f)))
        f = self._memory_f[cell] + 0.1 * np.tan(np.pi * (rng.random(n) - 0.5))  # (1)
        while (f <= 0.0).any():
            low = f <= 0.0
            f[low] = self._memory_f[cell[low]] + 0.1 * np.tan(np.pi * (rng.random(low.sum()) - 0.5))
        f = np.minimum(f, 1.0)
        cr = np.minimum(np.maximum(self._memory_cr[cell] + 0.1 * rng.standard_normal(n), 0.0), 1.0)
        self._f[slots], self._cr[slots] = f, cr
        elite = max(2, round(self.config.elite * self.size))
        p = self._x[order(self._values, self._violations)[rng.integers(elite, size=n)]]
        r1 = self._x[(slots + rng.integers(1, self.size, size=n)) % self.size]
        pool = np.concatenate([self._x, self._archive])
        r2 = pool[rng.integers(len(pool), size=n)]
        v = x + f[:, None] * (p - x) + f[:, None] * (r1 - r2)  # (2)
        v = np.where(v < 0.0, 0.5 * x, np.where(v > 1.0, 0.5 * (x + 1.0), v))
        if lattice.any_ordered:
            v = lattice.dither(v, rng)
        if lattice.any_categorical:
            choice = rng.integers(3, size=x.shape)
            v = np.where(lattice.categorical, np.where(choice == 0, x, np.where(choice == 1, p, r1)), v)
        cross = rng.random((n, d)) < cr[:, None]
        cross[np.arange(n), rng.integers(d, size=n)] = True
        u: Array = np.where(cross, v, x)  # (3)
        return lattice.jump(u, rng.random((n, d)) < 0.25 / d, rng) if lattice.any_discrete else u

    def _update(self, ids: Ids, x: Array, values: Array, violations: Array, modelled: Mask) -> None:
        first = order(self._values, self._violations)[0]
        best = self._values[first], self._violations[first]
        members = self._x, self._values, self._violations
        adopt(members, (x[modelled], values[modelled], violations[modelled]))
        ids, x, values, violations = ids[~modelled], x[~modelled], values[~modelled], violations[~modelled]
        slots = ids % self.size
        won = better(values, violations, self._values[slots], self._violations[slots])
        moved = slots[won]
        known = np.isfinite(self._values[moved])
        if known.any():
            self._remember(moved[known], self._gain(moved, values[won], violations[won])[known])
            self._archive = np.concatenate([self._archive, self._x[moved[known]]])
            extra = len(self._archive) - self.size
            if extra > 0:
                self._archive = np.delete(self._archive, self._rng.permutation(len(self._archive))[:extra], axis=0)
        self._x[moved], self._values[moved], self._violations[moved] = x[won], values[won], violations[won]
        fresh = ~np.isfinite(self._values[slots])
        self._x[slots[fresh]] = x[fresh]
        first = order(self._values, self._violations)[0]
        improved = best != (self._values[first], self._violations[first])
        self._idle = 0 if improved else self._idle + len(modelled)

    def _gain(self, members: Ids, values: Array, violations: Array) -> Array:
        """Improvements: of the values among feasible points, of the violations elsewhere."""
        feasible = self._violations[members] == 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            gain = np.where(feasible, self._values[members] - values, self._violations[members] - violations)
        return np.asarray(np.minimum(np.nan_to_num(gain, nan=1.0), 1e300 / self.size))

    def _remember(self, members: Ids, gain: Array) -> None:
        f, cr = self._f[members], self._cr[members]
        weight = gain / gain.max() if gain.max() > 0.0 else np.ones(len(gain))
        self._memory_f[self._cell] = (weight * f**2).sum() / (weight * f).sum()  # (4)
        self._memory_cr[self._cell] = (weight * cr).sum() / weight.sum()
        self._cell = (self._cell + 1) % len(self._memory_f)

    def _converged(self) -> bool:
        return self._exhausted(self._idle, self._x)
