"""A quadratic model of the objective, whose minimizers are worth a few points of every generation."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from prefect_simopt.optimizers.lattice import Lattice
from prefect_simopt.optimizers.linear import one_thread
from prefect_simopt.optimizers.ranking import better, order
from prefect_simopt.optimizers.state import copied

__all__ = ["Quadratic", "QuadraticModel", "trust_region_step"]

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_RADII = (1.0, 0.25)  # of the minimizers of one generation, in trust-region radii
_GROWTH = (1.5, 0.5, 1.0)  # of the radius, when the first, the second or another point finds the best so far
_SHRINK = 0.8  # of the radius, when none does
_SMALLEST, _LARGEST = 0.01, 3.0  # radius
_MOST = 600  # coefficients of a full quadratic, 33 parameters; from there on it is a diagonal one
_ENOUGH = 1.1  # trials for each coefficient
_TRUSTING = 0.3  # share of the last generation in the mean of Kendall's tau
_PRIOR = 0.05, 0.2  # of that mean: tau times weight, and weight; a mean of 1/4
_PROBE = 3  # generations in one of which it has a point while it is off
_LOOK = 10.0  # weight of a tau of 1 where people have shown the way: half a dozen generations
_NEAR, _GOOD = 1.5, 3.0  # neighbours, and the trials that they are chosen from, for each coefficient
_SAME = 1e-12  # distance at which two points are the same once they are a parameter's values
_ROUND = 0.1  # share of the sphere in the metric
_RIDGE = 1e-10
_POSITIVE = 1e-12  # least curvature of a step, as a share of the largest


@dataclass(frozen=True)
class Quadratic:
    """f(x) = c + g z + z H z / 2 with z = M^-1 (x - center): H = V diag(h) V'."""

    modelled: Mask
    center: Array
    metric: Array
    inverse: Array
    constant: float
    slope: Array
    eigenvalues: Array
    eigenvectors: Array

    def predict(self, x: Array) -> Array:
        """Values up to a positive factor and a constant, shape (n,)."""
        z = (x - self.center)[:, self.modelled] @ self.inverse.T @ self.eigenvectors
        return self.constant + z @ self.slope + 0.5 * (z**2) @ self.eigenvalues

    def around(self, radius: float, rng: np.random.Generator) -> Array:
        """A point at |z| = radius in a random direction, inside the cube, shape (d,)."""
        direction = rng.standard_normal(len(self.slope))
        step = self.metric @ (radius / np.sqrt((direction**2).sum()) * direction)
        x = self.center.copy()
        x[self.modelled] = np.minimum(np.maximum(x[self.modelled] + step, 0.0), 1.0)
        return x

    def minimize(self, radius: float) -> Array:
        """The minimizer with |z| <= radius, inside the cube, shape (d,)."""
        x = self.center.copy()
        step = self.metric @ (self.eigenvectors @ trust_region_step(self.eigenvalues, self.slope, radius))
        x[self.modelled] = np.minimum(np.maximum(x[self.modelled] + step, 0.0), 1.0)
        return x


class QuadraticModel:
    """Regression on the best of the trials so far, minimized within a trust region.

    N. Hansen, "A global surrogate assisted CMA-ES", GECCO (2019) 664-672, for the regression; A. R. Conn, N. I. M.
    Gould, P. L. Toint, "Trust-region methods", SIAM (2000), section 7.3, for its minimizer. Kept are the best trials,
    from which those of a regression are chosen, and the last two generations, so neither memory nor cost grows.

    Args:
        lattice: the coordinates; those that are not discrete, and are there at the best trial, are modelled, with the
            others as they are at that trial.
        size: points of a generation.
        demand: mean of Kendall's tau, of forecasts and what came back, below which the model is off.

    Attributes:
        memory: names of the attributes that make up the state.
    """

    memory: ClassVar[tuple[str, ...]] = (
        "_x", "_values", "_violations", "_radius", "_quota", "_forecasts", "_judged", "_trust"
    )  # fmt: skip

    def __init__(self, lattice: Lattice, size: int, demand: float) -> None:
        self._space, self._continuous = lattice.space, ~lattice.discrete
        self._n, self._d = len(self._continuous), int(self._continuous.sum())
        always = [not parameter.when for parameter in lattice.space.parameters]
        self._fewest = _coefficients(max(int((self._continuous & always).sum()), 1))[0]
        self._size, self._base, self._demand = size, max(1.0, size / 8), demand
        diagonal, full = _coefficients(self._d)
        self._capacity = int(_GOOD * (full or diagonal)) + 2 * size
        self._fitted: tuple[bool, Quadratic | None] = (False, None)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._x, self._values, self._violations = np.empty((0, self._n)), np.empty(0), np.empty(0)
        self._radius, self._quota = 1.0, self._base
        self._forecasts = np.empty((0, 3))  # of pending points: id, place among the model's points or -1, value
        self._judged = np.empty((0, 2))  # forecast and value of the last ones told
        self._trust = np.array(_PRIOR)  # decaying sums of tau and of its weight
        self._fitted = (False, None)

    def state(self) -> dict[str, Any]:
        """All that is needed to go on; arrays are copies."""
        return {name.strip("_"): copied(getattr(self, name)) for name in self.memory}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        for name in self.memory:
            setattr(self, name, copied(state[name.strip("_")]))
        self._fitted = (False, None)

    @property
    def x(self) -> Array:
        """The trials that are kept, shape (n, d)."""
        return self._x

    def forget(self, gone: Mask) -> None:
        """Forget some of the trials that are kept, shape (n,)."""
        self._x, self._values, self._violations = self._x[~gone], self._values[~gone], self._violations[~gone]
        self._fitted = (False, None)

    @property
    def ready(self) -> bool:
        """Whether there are enough trials for a regression."""
        return self._d > 0 and len(self._x) >= _ENOUGH * self._fewest

    @property
    def trusted(self) -> bool:
        """Whether it has ranked well lately: noise and ruggedness switch the model off, and it goes on forecasting."""
        return self.ready and bool(self._trust[0] >= self._demand * self._trust[1])

    @property
    def chooses(self) -> bool:
        """Whether it may choose among candidates: not where some violate constraints, of which it has no forecast."""
        return self.trusted and not (np.isfinite(self._violations) & (self._violations > 0.0)).any()

    def wanted(self, generation: int) -> int:
        """Points that the model would like to have in a generation; one in some while it is off, to see."""
        if self.trusted:
            return int(self._quota)
        return int(self.ready and generation % _PROBE == 0)

    @property
    def tau(self) -> float:
        """Kendall's rank correlation of the last forecasts and values; 0 as long as there are too few."""
        if len(self._judged) < self._size // 2:
            return 0.0
        a, b = (np.sign(column[:, None] - column[None, :]) for column in self._judged.T)
        return float((a * b).sum() / max(np.sqrt((a**2).sum() * (b**2).sum()), 1.0))

    def look(self) -> None:
        """Be on for some generations, whatever was forecast: people have shown where to look."""
        self._trust = np.full(2, _LOOK)

    def suggest(self, n: int, rng: np.random.Generator) -> Array:
        """Up to `n` minimizers that have not been tried, shape (m, d)."""
        quadratic = self.fit()
        if quadratic is None:
            return np.empty((0, self._n))
        points = [
            quadratic.minimize(self._radius * _RADII[k]) if k < len(_RADII) else quadratic.around(self._radius, rng)
            for k in range(n)
        ]
        new = [not (np.abs(self._x - point) < _SAME).all(axis=1).any() for point in points]
        return np.array([point for point, is_new in zip(points, new, strict=True) if is_new]).reshape(-1, self._n)

    def forecast(self, ids: Ids, x: Array, places: Ids) -> None:
        """Note what is expected of the points proposed; `places` has -1 for points that are not the model's."""
        quadratic = self.fit()
        if quadratic is not None:
            rows = np.column_stack([ids, places, quadratic.predict(x)])
            self._forecasts = np.concatenate([self._forecasts, rows])

    def learn(self, ids: Ids, x: Array, values: Array, violations: Array) -> Mask:
        """Take in results; tells which of them are of the model's own points, shape (n,)."""
        known = np.isin(self._forecasts[:, 0], ids)
        told, self._forecasts = self._forecasts[known], self._forecasts[~known]
        places = np.full(len(ids), -1)
        if len(told):
            rows = np.searchsorted(ids, told[:, 0])
            places[rows] = told[:, 1]
            ok = np.isfinite(values[rows]) & (violations[rows] == 0.0)
            judged = np.column_stack([told[ok, 2], values[rows[ok]]])
            self._judged = np.concatenate([self._judged, judged])[-self._size :]
            if len(self._judged) >= self._size // 2:
                rate = _TRUSTING * len(judged) / self._size
                self._trust = (1.0 - rate) * self._trust + rate * np.array([self.tau, 1.0])
        mine: Mask = places >= 0
        if mine.any() and len(self._values):
            self._adapt(places, values, violations)
        self._keep(x, values, violations)
        return mine

    def _adapt(self, places: Ids, values: Array, violations: Array) -> None:
        """Follow the best of the model's points, if it is better than everything before."""
        best = order(self._values, self._violations)[0]
        mine = np.flatnonzero(places >= 0)
        first = mine[order(values[mine], violations[mine])[0]]
        if better(values[[first]], violations[[first]], self._values[[best]], self._violations[[best]])[0]:
            self._radius *= _GROWTH[min(int(places[first]), 2)]
            self._quota = min(self._quota + 0.5, 2.0 * self._base)
        else:
            self._radius *= _SHRINK
            self._quota = max(self._quota - 0.25, self._base)
        self._radius = min(max(self._radius, _SMALLEST), _LARGEST)

    def _keep(self, x: Array, values: Array, violations: Array) -> None:
        self._x = np.concatenate([self._x, x])
        self._values, self._violations = np.append(self._values, values), np.append(self._violations, violations)
        self._fitted = (False, None)
        extra = len(self._x) - self._capacity
        if extra > 0:
            older = len(self._x) - 2 * self._size
            kept = np.ones(len(self._x), dtype=bool)
            kept[order(self._values[:older], self._violations[:older])[older - extra :]] = False
            self._x, self._values, self._violations = self._x[kept], self._values[kept], self._violations[kept]

    def fit(self) -> Quadratic | None:
        """The regression on the trials kept; None when there are too few, or nothing to learn from them."""
        if not self._fitted[0]:
            with one_thread():
                self._fitted = (True, self._regression())
        return self._fitted[1]

    def _regression(self) -> Quadratic | None:
        if self._d == 0 or not len(self._x):
            return None
        ranked = order(self._values, self._violations)
        center = self._x[ranked[0]]
        modelled = self._continuous & self._space.active(center[None, :])[0]
        d = int(modelled.sum())
        if d == 0:
            return None
        diagonal, most = _coefficients(d)
        usable = np.isfinite(self._values) & (self._violations == self._violations[ranked[0]])
        if d < self._n:
            usable &= (self._x == center)[:, ~modelled].all(axis=1)
        rows = ranked[usable[ranked]]
        if len(rows) < _ENOUGH * diagonal:
            return None
        full = bool(most) and len(rows) >= _ENOUGH * most
        p = most if full else diagonal
        rows = rows[: int(_GOOD * p)]
        away = (self._x[rows] - center)[:, modelled]
        with np.errstate(over="ignore"):
            rise = self._values[rows] - self._values[rows[0]]
        top = away[: 2 * d]
        covariance = top.T @ top / len(top) if full else np.diag((top**2).mean(axis=0))
        size = np.trace(covariance) / d
        if not size > 0.0:
            return None
        metric = np.linalg.cholesky((1.0 - _ROUND) * covariance + _ROUND * size * np.eye(d))
        inverse = np.linalg.inv(metric)
        z = inverse @ away.T
        distance = (z**2).sum(axis=0)
        near = np.argsort(distance, kind="stable")[: int(_NEAR * p)]
        farthest = float(np.sqrt(distance[near[-1]]))
        if not farthest > 0.0:  # the same point over and over
            return None
        z, rise = z[:, near] / farthest, rise[near]
        with np.errstate(over="ignore"):
            median = float(np.median(rise))
        if not 0.0 < median < np.inf:
            return None
        with np.errstate(over="ignore"):
            rise = rise / median
        if not np.isfinite(rise).all():
            return None
        terms, root = _terms(z, np.sqrt(1.0 / (1.0 + rise)), full=full)
        gram = terms @ terms.T
        gram[np.diag_indices(p)] += _RIDGE * np.trace(gram) / p
        try:
            coefficients = np.linalg.solve(gram, terms @ (root * rise))
        except np.linalg.LinAlgError:
            return None
        if not np.isfinite(coefficients).all():
            return None
        hessian = np.zeros((d, d))
        hessian[np.triu_indices(d) if full else np.diag_indices(d)] = coefficients[d + 1 :]
        eigenvalues, eigenvectors = np.linalg.eigh(hessian + hessian.T)
        return Quadratic(
            modelled, center.copy(), metric * farthest, inverse / farthest, float(coefficients[0]),
            eigenvectors.T @ coefficients[1 : d + 1], eigenvalues, eigenvectors,
        )  # fmt: skip


def _coefficients(d: int) -> tuple[int, int]:
    """Numbers of coefficients of a diagonal and of a full quadratic in d parameters; 0 where that would be too many."""
    full = (d + 1) * (d + 2) // 2
    return 2 * d + 1, full if full <= _MOST else 0


def _terms(z: Array, root: Array, *, full: bool) -> tuple[Array, Array]:
    """1, z and the products of z, each of shape (n,), times `root`: shape (p, n); and `root` itself."""
    d, n = z.shape
    terms = np.empty((1 + d + (d * (d + 1) // 2 if full else d), n))
    terms[0], linear = root, np.multiply(z, root, out=terms[1 : d + 1])
    if not full:
        np.multiply(linear, z, out=terms[d + 1 :])
        return terms, root
    start = d + 1
    for i in range(d):  # row by row: picking both factors by index takes eight times as long
        np.multiply(linear[i:], z[i], out=terms[start : start + d - i])
        start += d - i
    return terms, root


def trust_region_step(eigenvalues: Array, slope: Array, radius: float) -> Array:
    """Minimizer of g s + s diag(h) s / 2 with |s| <= radius, shape (d,): s = -g / (h + mu), mu by bisection."""
    length = float(np.sqrt((slope**2).sum()))
    if length == 0.0:
        return np.zeros_like(slope)
    largest = max(length / radius, float(np.abs(eigenvalues).max()))
    if eigenvalues[0] > _POSITIVE * largest:
        step = -slope / eigenvalues
        if step @ step <= radius**2:
            return np.asarray(step)
    low = max(0.0, -float(eigenvalues[0])) + _POSITIVE * largest
    high = low + length / radius
    for _ in range(30):
        middle = 0.5 * (low + high)
        step = slope / (eigenvalues + middle)
        low, high = (middle, high) if step @ step > radius**2 else (low, middle)
    return -slope / (eigenvalues + high)
