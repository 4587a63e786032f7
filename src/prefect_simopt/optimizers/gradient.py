"""Gradient descent from many starts, for simulators that give derivatives: projected L-BFGS, and Adam."""

from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from prefect_simopt.optimizers.config import GradientConfig
from prefect_simopt.optimizers.engine import Engine
from prefect_simopt.optimizers.lattice import latin_hypercube
from prefect_simopt.optimizers.lbfgs import first_step, free, newton_step
from prefect_simopt.space import Space

__all__ = ["Gradient"]

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_DECREASE = 1e-4  # c1 of (3.4)
_TRIES = 20  # of one line search
_SHORTEST = 1e-9  # a step that is shorter, as a share of the range, goes nowhere
_PATIENCE = {"lbfgsb": 3, "adam": 30}  # steps without progress after which a search has converged
_PROGRESS = 1e-10  # of a value, relative to it, that still counts
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8  # Adam's, the last relative to the gradient
_TINY = float(np.finfo(float).tiny)
_MARGIN = 2.0  # by which the penalty outweighs the value


class Gradient(Engine):
    """Local searches side by side: search k proposes the points k, k + N, k + 2N and so on.

    J. Nocedal, S. J. Wright, "Numerical Optimization", 2nd edition (2006); bounds by projection as in D. P. Bertsekas,
    "Projected Newton methods for optimization problems with simple constraints", SIAM Journal on Control and
    Optimization 20 (1982) 221-246; D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR (2015). Of
    each search, with P the projection to the unit cube:

        (1)  phi(x) = f(x) + mu h(x), h the violation of the constraints                             (17.22)
        (2)  x(t) = P(x + t p)                                                                       (Bertsekas 12)
        (3)  phi(x(t)) <= phi(x) + c1 g (x(t) - x), or else a smaller t                              (3.4)
        (4)  t <- the minimizer of the parabola through both values and the slope, in [t/10, t/2]    (3.58)
        (5)  p = -H g by the two-loop recursion over the last pairs (s, y), see `lbfgs.py`           (algorithm 7.4)
        (6)  p = -rate m / (sqrt(k) (sqrt(v) + epsilon)), m and v running means of g and g^2, for step k of Adam

    mu grows as far as it has to, so that the way down leads towards feasible points. A search that asks for another
    point while its own is out tries a step half as long, so that any number of points may be asked at any time. One
    that gets no further starts again elsewhere, the first time in a Latin hypercube, later anywhere.

    Only continuous parameters are moved; others stay what they were at the start of a search. A trial that failed, or
    whose gradient is missing or not finite, ends the step that led to it.

    Attributes:
        size: number of searches N.
    """

    config_type: ClassVar[type[GradientConfig]] = GradientConfig
    takes_gradients = True
    memory: ClassVar[tuple[str, ...]] = (
        "_start", "_fresh", "_x", "_value", "_violation", "_slopes", "_penalty", "_s", "_y", "_direction", "_length",
        "_turn", "_tries", "_best", "_idle", "_flight"
    )  # fmt: skip

    def __init__(self, config: Any, space: Space, seed: int = 7, objectives: int = 1, batch: int = 16) -> None:
        super().__init__(config, space, seed, objectives, config.starts or batch)
        n, d = self.batch, space.dimensions
        self.size = n
        self._continuous = space.levels == 0
        self._told_slopes: dict[int, Array] = {}
        self._start, self._fresh = latin_hypercube(n, d, self._rng), np.ones(n, dtype=bool)
        self._x, self._direction, self._slopes = np.zeros((n, d)), np.zeros((n, d)), np.zeros((n, 2, d))
        self._value, self._violation, self._penalty = np.full(n, np.inf), np.zeros(n), np.zeros(n)
        pairs = config.pairs if config.method == "lbfgsb" else 2  # Adam's two means
        self._s, self._y = np.zeros((n, pairs, d)), np.zeros((n, pairs, d))
        self._length, self._best = np.ones(n), np.full(n, np.inf)
        self._turn, self._tries, self._idle = (np.zeros(n, dtype=np.int64) for _ in range(3))
        self._flight = np.empty((0, 3))  # of each pending point: its id, the turn it belongs to, its length t

    # Asking

    def _room(self) -> int:
        return self.size - self._next % self.size

    def _propose(self, n: int) -> Array:
        ids = np.arange(self._next, self._next + n)
        slots = ids % self.size
        mine = self._flight[:, 0].astype(np.int64) % self.size
        out = self._flight[self._flight[:, 1] == self._turn[mine], 0].astype(np.int64) % self.size
        waiting = np.bincount(out, minlength=self.size)[slots]  # points of this step that are out already
        lengths = self._length[slots] * 0.5**waiting
        x = np.full((n, self.space.dimensions), np.nan)
        fresh = self._fresh[slots]
        if fresh.any():
            turn, first = slots[fresh], waiting[fresh] == 0

            def begin(rows: Ids) -> Array:
                points = np.where(first[rows, None], self._start[turn[rows]], self._uniform(len(rows)))
                first[rows] = False
                return points

            placed = self._placement.place(len(turn), begin)
            x[np.flatnonzero(fresh)[: len(placed)]] = placed
        if not fresh.all():
            turn, t = slots[~fresh], lengths[~fresh, None]
            anchors = self._x[turn]
            ahead = np.clip(anchors + t * self._direction[turn], 0.0, 1.0)  # (2)
            placed = self._placement.place(len(turn), lambda rows: ahead[rows], anchors)
            x[np.flatnonzero(~fresh)[: len(placed)]] = placed
        whole = ~np.isnan(x[:, 0])
        kept = np.flatnonzero(whole)
        flight = np.stack([self._next + np.arange(len(kept)), self._turn[slots[kept]], lengths[kept]], axis=1)
        self._flight = np.concatenate([self._flight, flight])
        return np.asarray(x[whole])

    def _uniform(self, n: int) -> Array:
        return self._placement.stretch(self._rng.random((n, self.space.dimensions)))

    def _narrowed(self) -> None:
        self._start_again(np.flatnonzero(~self._fresh & ~self._placement.inside(self._x)))
        self._start = np.where(self._fresh[:, None], self._placement.stretch(self._start), self._start)

    # Telling

    def tell(
        self,
        ids: npt.ArrayLike,
        values: npt.ArrayLike,
        violations: npt.ArrayLike | None = None,
        gradients: npt.ArrayLike | None = None,
    ) -> None:
        """See `Optimizer.tell`."""
        keys = self._keys(ids)
        shape = (len(keys), 2, self.space.dimensions)
        slopes = np.full(shape, np.nan) if gradients is None else np.array(gradients, dtype=np.float64)
        if slopes.shape != shape:
            raise ValueError(f"gradients have shape {slopes.shape}; {len(keys)} ids need {shape}")
        super().tell(ids, values, violations)
        self._told_slopes.update(zip(keys, slopes, strict=True))

    def _learn(self, ids: Ids, x: Array, values: Array, violations: Array) -> None:
        slopes = np.array([self._told_slopes.pop(key) for key in ids.tolist()])
        slopes[:, :, ~self._continuous] = 0.0
        where = np.searchsorted(self._flight[:, 0], ids)
        where = np.minimum(where, max(len(self._flight) - 1, 0))
        known = self._flight[where, 0] == ids if len(self._flight) else np.zeros(len(ids), dtype=bool)
        turns, lengths = np.full(len(ids), -1), np.zeros(len(ids))
        turns[known], lengths[known] = self._flight[where[known], 1], self._flight[where[known], 2]
        self._flight = self._flight[~np.isin(self._flight[:, 0], ids)]
        generations = ids // self.size
        with np.errstate(over="ignore", invalid="ignore"):
            for generation in np.unique(generations):  # at most one point of each search
                one = generations == generation
                self._update(ids[one] % self.size, x[one], values[one], violations[one], slopes[one],
                             turns[one], lengths[one])  # fmt: skip

    def _update(
        self, slots: Ids, x: Array, values: Array, violations: Array, slopes: Array, turns: Ids, lengths: Array
    ) -> None:
        usable = np.isfinite(values) & np.isfinite(violations) & np.isfinite(slopes).all(axis=(1, 2))
        self._weigh(slots[usable], violations[usable], slopes[usable])
        fresh, current = self._fresh[slots], turns == self._turn[slots]
        merit = np.where(usable, values + self._penalty[slots] * violations, np.inf)
        before = np.where(fresh, np.inf, self._value[slots] + self._penalty[slots] * self._violation[slots])
        step = x - self._x[slots]
        slope = (self._gradient(slots) * step).sum(axis=1)
        enough = merit <= before + _DECREASE * np.minimum(slope, 0.0)  # (3)
        downhill = merit < before
        if self.config.method == "adam":
            enough = downhill = np.ones(len(slots), dtype=bool)
        accepted = usable & (fresh | (current & enough & downhill))
        jumped = usable & ~fresh & ~current & (merit < before) & (self.config.method == "lbfgsb")
        self._shorten(slots, ~fresh & current & ~accepted, merit - before, slope, lengths)
        lost = slots[fresh & current & ~usable]
        old = self._gradient(slots)
        for moved, follows in ((accepted & ~fresh, True), (jumped | (accepted & fresh), False)):
            to = slots[moved]
            self._x[to], self._value[to], self._violation[to] = x[moved], values[moved], violations[moved]
            self._slopes[to], self._fresh[to] = slopes[moved], False
            if not follows:
                self._s[to], self._y[to] = 0.0, 0.0
            elif self.config.method == "lbfgsb":
                self._remember(to, step[moved], self._gradient(to) - old[moved])
        moved = accepted | jumped
        self._go_on(slots[moved])
        self._start_again(np.append(lost, self._stuck(slots)))

    def _gradient(self, slots: Ids) -> Array:
        """The gradient of (1), shape (n, d)."""
        total: Array = self._slopes[slots, 0] + self._penalty[slots, None] * self._slopes[slots, 1]
        return total

    def _weigh(self, slots: Ids, violations: Array, slopes: Array) -> None:
        """Raise mu of (1) where a violation would not pay; what was learned with a smaller one is forgotten."""
        lengths = np.sqrt((slopes**2).sum(axis=2))
        outside = (violations > 0) & (lengths[:, 1] > 0)
        needed = np.where(outside, _MARGIN * lengths[:, 0] / np.where(outside, lengths[:, 1], 1.0), 0.0)
        rises = np.isfinite(needed) & (needed > self._penalty[slots])
        raised = slots[rises]
        self._penalty[raised] = _MARGIN * needed[rises]  # seldom, since it makes all pairs useless
        self._s[raised], self._y[raised], self._best[raised] = 0.0, 0.0, np.inf

    def _remember(self, slots: Ids, s: Array, y: Array) -> None:
        """Keep a pair, newest last, where its curvature is positive."""
        curved = (s * y).sum(axis=1) > 1e-10 * np.sqrt((s**2).sum(axis=1) * (y**2).sum(axis=1))
        slots, s, y = slots[curved], s[curved], y[curved]
        self._s[slots] = np.concatenate([self._s[slots, 1:], s[:, None]], axis=1)
        self._y[slots] = np.concatenate([self._y[slots, 1:], y[:, None]], axis=1)

    def _shorten(self, slots: Ids, where: Mask, rise: Array, slope: Array, lengths: Array) -> None:
        """The line search goes on with a smaller t."""
        to, rise, slope, tried = slots[where], rise[where], slope[where], lengths[where]
        parabola = rise - slope
        sound = np.isfinite(parabola) & (parabola > 0) & (slope < 0)
        share = np.where(sound, -slope / np.where(sound, 2.0 * parabola, 1.0), 0.25)
        t = np.clip(share, 0.1, 0.5) * tried  # (4)
        shorter = t < self._length[to]
        to, t = to[shorter], t[shorter]
        self._length[to] = t
        self._tries[to] += 1
        reach = t * np.abs(self._direction[to]).max(axis=1, initial=0.0)
        spent = to[(self._tries[to] > _TRIES) | (reach < _SHORTEST)]
        again = spent[(self._s[spent] != 0).any(axis=(1, 2)) & (self.config.method == "lbfgsb")]
        self._idle[np.setdiff1d(spent, again)] = _PATIENCE[self.config.method]
        self._s[again], self._y[again] = 0.0, 0.0  # once more, straight down
        self._aim(again)

    def _go_on(self, slots: Ids) -> None:
        """Searches that have moved: the next direction, and whether they still get anywhere."""
        merit = self._value[slots] + self._penalty[slots] * self._violation[slots]
        better = merit < self._best[slots] - _PROGRESS * np.abs(self._best[slots])
        better |= np.isinf(self._best[slots])
        self._idle[slots] = np.where(better, 0, self._idle[slots] + 1)
        self._best[slots] = np.minimum(self._best[slots], merit)
        self._aim(slots)

    def _aim(self, slots: Ids) -> None:
        """A new direction from where each search is; points of the old one that are out belong to no turn any more."""
        x, g = self._x[slots], self._gradient(slots)
        able = free(x, g) & self._continuous
        if self.config.method == "adam":
            self._direction[slots] = np.where(able, -self.config.step * self._adam(slots, g), 0.0)
        else:
            p = newton_step(g, self._s[slots], self._y[slots], able)  # (5)
            uphill = ~((p * g).sum(axis=1) < 0)
            self._direction[slots] = np.where(uphill[:, None], first_step(g, able, self.config.step), p)
        self._length[slots], self._tries[slots] = 1.0, 0
        self._turn[slots] += 1
        reach = np.abs(np.clip(x + self._direction[slots], 0.0, 1.0) - x).max(axis=1, initial=0.0)
        self._idle[slots[reach < _SHORTEST]] = _PATIENCE[self.config.method]

    def _adam(self, slots: Ids, g: Array) -> Array:
        """The step of Adam for a rate of 1, shape (n, d). Its means are kept where L-BFGS has pairs."""
        self._s[slots, 0] = _BETA1 * self._s[slots, 0] + (1 - _BETA1) * g
        self._s[slots, 1] = _BETA2 * self._s[slots, 1] + (1 - _BETA2) * g**2
        self._y[slots, 0] += 1.0  # steps so far
        steps = self._y[slots, 0]
        m, v = self._s[slots, 0] / (1 - _BETA1**steps), self._s[slots, 1] / (1 - _BETA2**steps)
        scale = np.sqrt(v) + _EPSILON * np.abs(g).max(axis=1, keepdims=True, initial=0.0) + _TINY
        return np.asarray(m / (np.sqrt(steps) * scale))

    def _stuck(self, slots: Ids) -> Ids:
        return slots[(self._idle[slots] >= _PATIENCE[self.config.method]) & ~self._fresh[slots]]

    def _start_again(self, slots: Ids) -> None:
        self._start[slots] = self._uniform(len(slots))
        self._fresh[slots] = True
        self._turn[slots] += 1
        self._s[slots], self._y[slots], self._penalty[slots] = 0.0, 0.0, 0.0
        self._best[slots], self._idle[slots] = np.inf, 0
        self._length[slots], self._tries[slots] = 1.0, 0

    def state(self) -> dict[str, Any]:
        """See `Optimizer.state`."""
        told = sorted(self._told_slopes)
        slopes = np.array([self._told_slopes[key] for key in told]).reshape(-1, 2, self.space.dimensions)
        return super().state() | {"slopes": {"ids": np.array(told, dtype=np.int64), "slopes": slopes}}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """See `Optimizer.from_state`."""
        self = super().from_state(state)
        told = state["slopes"]
        self._told_slopes = dict(zip(told["ids"].tolist(), told["slopes"].copy(), strict=True))
        return self
