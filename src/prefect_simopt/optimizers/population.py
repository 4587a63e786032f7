"""What the methods with a population share: first points, slots, restarts, the model, and whose result is whose."""

from abc import abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from prefect_simopt.optimizers.engine import Engine
from prefect_simopt.optimizers.lattice import latin_hypercube
from prefect_simopt.optimizers.model import QuadraticModel
from prefect_simopt.optimizers.ranking import better, order
from prefect_simopt.space import Space

__all__ = ["Population", "adopt"]

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_SMALLEST = 8  # members, where the size is left to us and compute runs less at once
_PATIENCE, _PATIENCE_EACH = 20, 2  # idle generations before a new start: so many, and for each parameter
_VARIANTS = 8  # candidates for each point, while the model ranks well
_SAME = 1e-10  # spread of a population that has converged


class Population(Engine):
    """A population whose member k proposes the points k, k + N, k + 2N and so on, but for those of the model.

    The first N points are a Latin hypercube. Until any trial has succeeded, points are random. With one generation
    asked and told after the other this is the textbook's form; a member asked again while its point is pending moves
    on from where it was, so that any number of points may be asked at any time (steady state).

    In each generation a few members, others each time, leave their turn to the model, and some to points that people
    suggest. While the model ranks well, members draw several candidates for each point and it picks one. A search that
    has converged starts again. Members outside of what it is narrowed to do so by themselves.

    Attributes:
        size: number of members N.
    """

    memory: ClassVar[tuple[str, ...]] = ("_start", "_fresh", "_succeeded", "_since")

    def __init__(self, config: Any, space: Space, seed: int = 7, objectives: int = 1, batch: int = 16) -> None:
        super().__init__(config, space, seed, objectives, config.population or batch)
        self.size = config.population or max(batch, _SMALLEST)
        modelled = objectives == 1 and getattr(config, "model", False)
        self._model = QuadraticModel(self._placement.lattice, self.size, self.demand) if modelled else None
        self._start_again()

    def _start_again(self) -> None:
        """Forget everything and begin with a new hypercube; results of points already asked no longer count."""
        self._start = self._hypercube()
        self._fresh = np.ones(self.size, dtype=bool)
        self._succeeded = False
        self._since = self._next
        if self._model is not None:
            self._model.reset()
        self._reset()

    def _reset(self) -> None:
        """Forget what was learned."""

    def _narrowed(self) -> None:
        self._start = self._hypercube()
        if self._model is not None:
            self._model.forget(~self._placement.inside(self._model.x))
        self._fresh |= self._leave()
        self._succeeded = self._succeeded and not self._fresh.all()

    @abstractmethod
    def _leave(self) -> Mask:
        """Forget what is outside of what the search was narrowed to; tells which members start again, shape (size,)."""

    @abstractmethod
    def _anchors(self, slots: Ids) -> Array:
        """Where the members in `slots`, shape (n,), move from: shape (n, d). Drawn afresh for each generation."""

    @abstractmethod
    def _move(self, slots: Ids, anchors: Array) -> Array:
        """Candidates of the members in `slots`, shape (n,), from their anchors: shape (n, d)."""

    @abstractmethod
    def _update(self, ids: Ids, x: Array, values: Array, violations: Array, modelled: Mask) -> None:
        """Take in rankable results, at most one of each member: shapes (n,), (n, d), (n,), (n,).

        Those of points that are `modelled`, shape (n,), are no member's own: the model's, and those of people.
        """

    def _converged(self) -> bool:
        """Whether to start again."""
        return False

    def _room(self) -> int:
        return self.size - self._next % self.size

    def _propose(self, n: int) -> Array:
        slots = np.arange(self._next, self._next + n) % self.size
        fresh = self._fresh[slots]
        x = np.full((n, self.space.dimensions), np.nan)
        if fresh.any():
            self._put(x, fresh, self._begin(slots[fresh]))
        if fresh.all():
            return np.asarray(x[~np.isnan(x[:, 0])])
        if not self._succeeded:
            return self._placement.place(n, lambda rows: self._uniform(len(rows)))
        model, places = self._model, np.full(n, -1)
        if model is not None:
            places = self._put_modelled(x, slots, fresh, model)
        moving = np.isnan(x[:, 0])
        if moving.any():
            turn = slots[moving]
            anchors = self._anchors(turn)
            self._put(x, moving, self._placement.place(len(turn), lambda k: self._move(turn[k], anchors[k]), anchors))
        whole = ~np.isnan(x[:, 0])
        x = np.asarray(x[whole])
        if model is not None and model.ready:
            model.forecast(self._next + np.arange(len(x)), x, places[whole])
        return x

    @property
    def demand(self) -> float:
        """How well the model must rank to be used, as a mean of Kendall's tau.

        Where a member only ever leaves for something better, a wrong point costs no more than its trial.
        """
        return 0.2

    @property
    def _variants(self) -> int:
        """Candidates that a member draws for each point, of which `_screened` picks one."""
        return _VARIANTS if self._model is not None and self._model.chooses else 1

    def _screened(self, candidates: Array, variants: int) -> Ids:
        """Rows of the candidates of which the model expects most, one of each `variants` that follow one another.

        Pre-selection: M. Emmerich et al., PPSN VII (2002) 361-370; the shapes are (n variants, d) and (n,).
        """
        first = np.arange(0, len(candidates), variants)
        quadratic = self._model.fit() if self._model is not None and variants > 1 else None
        if quadratic is None:
            return first
        return np.asarray(first + quadratic.predict(candidates).reshape(-1, variants).argmin(axis=1))

    def _put(self, x: Array, where: Mask, points: Array) -> None:
        x[np.flatnonzero(where)[: len(points)]] = points

    def _put_modelled(self, x: Array, slots: Ids, fresh: Mask, model: QuadraticModel) -> Ids:
        """Put the model's points into a few rows; returns the place of each row's among them, -1 elsewhere."""
        places = np.full(len(x), -1)
        generation = self._next // self.size
        wanted = model.wanted(generation)
        turn = (slots - generation * wanted) % self.size  # others in the next generation
        rows = np.flatnonzero((turn < wanted) & ~fresh)
        points = model.suggest(len(rows), self._rng) if len(rows) else x[:0]
        quadratic = model.fit()
        if quadratic is None or not len(points):
            return places
        # From where the model has its best trial, so that relations pull a point back instead of drawing it again.
        anchors = np.repeat(quadratic.center[None, :], len(points), axis=0)
        placed = self._placement.place(len(points), lambda k: self._placement.clip(points[k]), anchors)
        rows = rows[: len(placed)]
        x[rows], places[rows] = placed, turn[rows]
        return places

    def _begin(self, slots: Ids) -> Array:
        untried = np.ones(len(slots), dtype=bool)
        self._fresh[slots] = False

        def start(rows: Ids) -> Array:
            x = np.where(untried[rows, None], self._start[slots[rows]], self._uniform(len(rows)))
            untried[rows] = False
            return x

        return self._placement.place(len(slots), start)

    def _learn(self, ids: Ids, x: Array, values: Array, violations: Array) -> None:
        current = ids >= self._since
        ids, x, values, violations = ids[current], x[current], values[current], violations[current]
        if not len(ids):
            return
        self._succeeded = self._succeeded or bool(np.isfinite(values).any())
        generations = ids // self.size
        for generation in np.unique(generations):
            one = generations == generation
            modelled = np.zeros(int(one.sum()), dtype=bool)
            if self._model is not None:
                modelled = self._model.learn(ids[one], x[one], values[one], violations[one])
            given = np.isin(ids[one], list(self._given))
            if self._model is not None and given.any():
                self._model.look()
            modelled = modelled | given
            self._update(ids[one], self._filled(x[one]), values[one], violations[one], modelled)
        if self._converged():
            self._start_again()

    def state(self) -> dict[str, Any]:
        """See `Optimizer.state`."""
        return super().state() | ({} if self._model is None else {"model": self._model.state()})

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """See `Optimizer.from_state`."""
        self = super().from_state(state)
        if self._model is not None:
            self._model.restore(state["model"])
        return self

    def _exhausted(self, idle: int, x: Array) -> bool:
        """Whether nothing was found for long, in points, or the members are all the same, shape (size, d)."""
        long = idle > self.size * (_PATIENCE + _PATIENCE_EACH * self.space.dimensions)
        if self.space.conditions:
            x = self.space.snap(x)
        return long or (len(x) > 1 and float(np.ptp(x, axis=0).max()) < _SAME)

    def _filled(self, x: Array) -> Array:
        """The points with random coordinates for parameters that are not there, shape (n, d).

        So a parameter that comes to be there starts anywhere, and does not pull others to where it waited.
        """
        if not self.space.conditions:
            return x
        return np.where(self.space.active(x), x, self._hidden(len(x)))

    def _hidden(self, n: int) -> Array:
        """Coordinates for parameters that are not there, shape (n, d)."""
        return self._uniform(n)

    def _uniform(self, n: int) -> Array:
        return self._placement.stretch(self._rng.random((n, self.space.dimensions)))

    def _hypercube(self) -> Array:
        return self._placement.stretch(latin_hypercube(self.size, self.space.dimensions, self._rng))


def adopt(members: tuple[Array, Array, Array], points: tuple[Array, Array, Array]) -> None:
    """Put each point in the place of the worst member, if it is better: points, values and violations of both."""
    x, values, violations = members
    for point, value, violation in zip(*points, strict=True):
        worst = order(values, violations)[[-1]]
        if better(np.array([value]), np.array([violation]), values[worst], violations[worst])[0]:
            x[worst], values[worst], violations[worst] = point, value, violation
