"""Covariance matrix adaptation evolution strategy: a normal distribution that learns where better points lie."""

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from prefect_simopt.optimizers.config import CMAConfig
from prefect_simopt.optimizers.lattice import reflect
from prefect_simopt.optimizers.population import Population
from prefect_simopt.optimizers.ranking import order
from prefect_simopt.space import Space

__all__ = ["CMA"]

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_MODEL_GENERATIONS = 2  # between two real ones, while the model ranks well
_VARIANTS = 4  # candidates for each point, at most: with more the distribution shrinks
_DOUBLINGS = 4  # of the population, at most
_TRUSTED = 0.7  # Kendall's tau from which on it does
_THINNEST = 1e-3  # of a box that the distribution follows; in a thinner one points are folded


class CMA(Population):
    """CMA-ES with weighted recombination, rank-one and rank-mu updates and restarts with twice the population.

    N. Hansen, "The CMA evolution strategy: a tutorial", arXiv:1604.00772, whose equation numbers are given; A. Auger,
    N. Hansen, "A restart CMA evolution strategy with increasing population size", IEEE Congress on Evolutionary
    Computation (2005) 1769-1776; N. Hansen, "Injecting external solutions into CMA-ES", arXiv:1110.4181, for points
    of the model and points that were moved to satisfy bounds and relations; N. Hansen, "A global surrogate assisted
    CMA-ES", GECCO (2019) 664-672, for the generations that are judged by the model alone.

    Every point moves the distribution here, a wrong one too: where noise hides what is better, points of the model pull
    it together before it has arrived. So the model must rank better than elsewhere to be used.

    Ordered values are rounded at random. A category is drawn from probabilities that follow the better half.
    """

    config_type: ClassVar[type[CMAConfig]] = CMAConfig
    memory: ClassVar[tuple[str, ...]] = (
        *Population.memory, "_restarts", "_mean", "_sigma", "_covariance", "_path_c", "_path_sigma", "_updates",
        "_waiting_x", "_waiting_values", "_waiting_violations", "_best", "_idle", "_shares",
    )  # fmt: skip

    def __init__(self, config: Any, space: Space, seed: int = 7, objectives: int = 1, batch: int = 16) -> None:
        self._restarts = -1
        super().__init__(config, space, seed, objectives, batch)

    @property
    def demand(self) -> float:
        """0.6 where every parameter is continuous and always there; elsewhere the model is on whatever it forecast.

        Across discrete and conditional parameters forecasts say little, yet it is the model's points that converge.
        """
        even = not self._placement.lattice.any_discrete and not self.space.conditions
        return 0.6 if even else -1.0

    def _reset(self) -> None:
        d = self.space.dimensions
        self._restarts = min(self._restarts + 1, _DOUBLINGS)
        self._mean = self._placement.stretch(np.full(d, 0.5) if self._restarts == 0 else self._rng.uniform(0.2, 0.8, d))
        self._sigma, self._covariance = float(self.config.sigma), np.diag(self._widths() ** 2)
        self._path_c, self._path_sigma = np.zeros(d), np.zeros(d)
        self._updates = 0
        self._waiting_x, self._waiting_values, self._waiting_violations = np.empty((0, d)), np.empty(0), np.empty(0)
        self._best, self._idle = np.full((2, 2), np.inf), 0
        lattice = self._placement.lattice
        levels = np.where(lattice.categorical, lattice.levels, 0)
        self._shares = np.where(np.arange(max(levels.max(), 1)) < levels[:, None], 1.0, 0.0)
        self._shares /= np.maximum(self._shares.sum(axis=1, keepdims=True), 1.0)
        self._factored: tuple[Array, Array, Array] | None = None

    def _widths(self) -> Array:
        """Of what is searched, shape (d,)."""
        box = self._placement.box
        if box is None:
            return np.ones(self.space.dimensions)
        return np.where(box.width > 0.0, np.maximum(box.width, _THINNEST), 1.0)

    def _leave(self) -> Mask:
        stays = self._placement.inside(self._waiting_x)
        self._waiting_x = self._waiting_x[stays]
        self._waiting_values, self._waiting_violations = self._waiting_values[stays], self._waiting_violations[stays]
        if self._placement.inside(self._mean[None, :])[0]:
            # No wider than a search that begins within these bounds, with the correlations that it has learned.
            spread = self._sigma * np.sqrt(np.diag(self._covariance))
            shrink = np.minimum(1.0, self.config.sigma * self._widths() / spread)
            self._covariance = shrink[:, None] * self._covariance * shrink
            self._path_c = shrink * self._path_c
        else:
            self._restarts -= 1
            self._reset()
        return np.zeros(self.size, dtype=bool)

    @property
    def _parents(self) -> int:
        """Points that one update takes."""
        return self.size * int(2**self._restarts)

    def _anchors(self, slots: Ids) -> Array:
        return np.repeat(self._placement.lattice.space.snap(self._mean[None, :]), len(slots), axis=0)

    def _move(self, slots: Ids, anchors: Array) -> Array:
        lattice, rng = self._placement.lattice, self._rng
        variants = min(self._variants, _VARIANTS)
        x = reflect(self._draw(len(slots) * variants))
        x = x[self._screened(x, variants)]
        if not lattice.any_discrete:
            return x
        x = lattice.dither(x, rng)
        for i in np.flatnonzero(lattice.categorical).tolist():
            shares = self._shares[i, : lattice.levels[i]]
            x[:, i] = lattice.coordinates(i, rng.choice(len(shares), size=len(x), p=shares))
        return lattice.jump(x, rng.random(x.shape) < 0.25 / x.shape[1], rng)

    def _draw(self, n: int) -> Array:
        scales, vectors = self._factors()
        z = self._rng.standard_normal((n, len(scales)))
        return self._mean + self._sigma * (z * scales) @ vectors.T  # (38)-(40)

    def _hidden(self, n: int) -> Array:
        return np.repeat(self._mean[None, :], n, axis=0)  # which leaves the mean where it is

    def _factors(self) -> tuple[Array, Array]:
        """Square roots of the eigenvalues of the covariance, and its eigenvectors."""
        if self._factored is None or self._factored[0] is not self._covariance:
            values, vectors = np.linalg.eigh(self._covariance)
            self._factored = self._covariance, np.sqrt(np.maximum(values, values[-1] * 1e-14)), vectors
        return self._factored[1:]

    def _update(self, ids: Ids, x: Array, values: Array, violations: Array, modelled: Mask) -> None:
        self._idle += len(ids)
        for i, which in enumerate((modelled, ~modelled)):  # or a find of the model's would outdate the distribution
            if which.any():
                best = order(values[which], violations[which])[0]
                found = float(violations[which][best]), float(values[which][best])
                if found < tuple(self._best[i]):
                    self._best[i], self._idle = found, 0
        self._waiting_x = np.concatenate([self._waiting_x, x])
        self._waiting_values = np.append(self._waiting_values, values)
        self._waiting_violations = np.append(self._waiting_violations, violations)
        if len(self._waiting_x) < self._parents:
            return
        ranked = order(self._waiting_values, self._waiting_violations)
        self._follow(self._waiting_x[ranked])
        self._evolve(self._waiting_x[ranked])
        self._waiting_x, self._waiting_values, self._waiting_violations = x[:0], values[:0], violations[:0]
        model = self._model
        if model is None or not model.trusted or model.tau < _TRUSTED or (quadratic := model.fit()) is None:
            return
        sigma = self._sigma
        for _ in range(_MODEL_GENERATIONS):
            drawn = self._placement.clip(self._draw(self.size))
            drawn[:, ~quadratic.modelled] = quadratic.center[~quadratic.modelled]
            self._evolve(drawn[np.argsort(quadratic.predict(drawn), kind="stable")])
            self._sigma = min(self._sigma, sigma)  # the model knows nothing beyond the points it is made of

    def _evolve(self, ranked: Array) -> None:
        """One update from points of shape (n, d), the best first."""
        n, d = ranked.shape
        raw = np.log((n + 1) / 2) - np.log(np.arange(1, n + 1))  # (49)
        mu = n // 2
        mu_eff = raw[:mu].sum() ** 2 / (raw[:mu] ** 2).sum()
        mu_eff_minus = raw[mu:].sum() ** 2 / (raw[mu:] ** 2).sum()
        c_sigma = (mu_eff + 2) / (d + mu_eff + 5)  # (55)
        d_sigma = 1 + 2 * max(0.0, np.sqrt((mu_eff - 1) / (d + 1)) - 1) + c_sigma
        c_c = (4 + mu_eff / d) / (d + 4 + 2 * mu_eff / d)  # (56)
        c_1 = 2 / ((d + 1.3) ** 2 + mu_eff)  # (57)
        c_mu = min(1 - c_1, 2 * (0.25 + mu_eff + 1 / mu_eff - 2) / ((d + 2) ** 2 + mu_eff))  # (58)
        negative = min(1 + c_1 / c_mu, 1 + 2 * mu_eff_minus / (mu_eff + 2), (1 - c_1 - c_mu) / (d * c_mu))  # (50)-(52)
        weights = np.where(raw >= 0, raw / raw[raw >= 0].sum(), negative * raw / -raw[raw < 0].sum())  # (53)
        scales, vectors = self._factors()
        y = (ranked - self._mean) / self._sigma
        white = (y @ vectors) / scales
        lengths = np.sqrt((white**2).sum(axis=1))
        allowed = np.sqrt(d) + 2 * d / (d + 2)
        y = y * np.minimum(1.0, allowed / np.maximum(lengths, 1e-300))[:, None]
        lengths = np.minimum(lengths, allowed)
        step = weights[:mu] @ y[:mu]  # (41)
        self._mean = self._placement.clip(self._mean + self._sigma * step)  # (42)
        self._updates += 1
        whitened = vectors @ ((step @ vectors) / scales)
        self._path_sigma = (1 - c_sigma) * self._path_sigma + np.sqrt(
            c_sigma * (2 - c_sigma) * mu_eff
        ) * whitened  # (43)
        length = float(np.sqrt((self._path_sigma**2).sum()))
        expected = np.sqrt(d) * (1 - 1 / (4 * d) + 1 / (21 * d**2))
        self._sigma *= float(np.exp(min(1.0, c_sigma / d_sigma * (length / expected - 1))))  # (44)
        self._sigma = min(self._sigma, 1.0)
        stalled = length / np.sqrt(1 - (1 - c_sigma) ** (2 * self._updates)) >= (1.4 + 2 / (d + 1)) * expected
        self._path_c = (1 - c_c) * self._path_c  # (45)
        if not stalled:
            self._path_c = self._path_c + np.sqrt(c_c * (2 - c_c) * mu_eff) * step
        signed = np.where(weights >= 0, weights, weights * d / np.maximum(lengths**2, 1e-300))  # (46)
        kept = 1 + c_1 * stalled * c_c * (2 - c_c) - c_1 - c_mu * weights.sum()
        self._covariance = (  # (47)
            kept * self._covariance + c_1 * np.outer(self._path_c, self._path_c) + c_mu * (signed * y.T) @ y
        )
        self._covariance = (self._covariance + self._covariance.T) / 2

    def _follow(self, ranked: Array) -> None:
        """Move the probabilities of categories towards the better half."""
        lattice = self._placement.lattice
        if not lattice.any_categorical:
            return
        cells = lattice.cells(ranked[: len(ranked) // 2])
        for i in np.flatnonzero(lattice.categorical):
            levels = lattice.levels[i]
            counts = np.bincount(cells[:, i], minlength=levels) / len(cells)
            self._shares[i, :levels] = np.maximum(0.8 * self._shares[i, :levels] + 0.2 * counts, 0.05 / levels)
            self._shares[i] /= self._shares[i].sum()

    def _converged(self) -> bool:
        scales, _ = self._factors()
        return self._idle / self.size > (20 + 2 * self.space.dimensions) * 2**self._restarts or (
            self._sigma * float(scales[-1]) < 1e-11 or float(scales[-1] / scales[0]) > 1e7
        )
