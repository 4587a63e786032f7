"""Successive halving around any optimizer: its points are tried cheaply, the better ones again and more exactly."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from prefect_simopt.optimizers.base import Optimizer
from prefect_simopt.optimizers.ranking import order, rankable

__all__ = ["Halving"]

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_FORMAT = 1
_PAIRS = 48  # of results at a level and at the top, that a level's correction is made from
_FEWEST = 4  # below which it is a shift alone
_FLATTEST, _STEEPEST = 0.1, 2.0  # factor of a correction
_JUDGED, _RELATED = 8, 0.2  # pairs that a level is judged by, and the rank correlation below which it is left out
_PROBE = 4  # brackets, of which one begins at the lowest level all the same
_KEPT = 32  # points that may still be tried at the top when the search ends
_WAITS, _RUNS, _ENDED = 0, 1, 2  # a point's stage: at its level, told; asked and not told; no more to come


@dataclass
class _Bracket:
    """Points that are compared with each other.

    Attributes:
        size: how many there will be.
        start: level at which they begin.
        ids: the optimizer's, shape (m,), m <= size.
        x: shape (m, d).
        level: that each was last asked at, shape (m,).
        stage: shape (m,).
        values: at each level, shape (m, levels), NaN where there is none, infinite for a failure.
        violations: at the last level, shape (m,).
    """

    size: int
    start: int
    ids: Ids
    x: Array
    level: Ids
    stage: Ids
    values: Array
    violations: Array

    @property
    def last(self) -> Array:
        """Values at the last level, shape (m,)."""
        return np.asarray(self.values[np.arange(len(self.ids)), self.level])


class Halving(Optimizer):
    """Successive halving, bracket after bracket, of points that another optimizer proposes.

    K. Jamieson, A. Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", AISTATS (2016)
    240-248; L. Li et al., "Hyperband", Journal of Machine Learning Research 18 (2018) 1-52, for the levels. Of the n
    points of a bracket, a generation of the optimizer, the best n / eta go on to the next level, and so on to the top.
    Then the optimizer is told what each would have been at the top:

        (1)  y = a_k + b_k y_k, a regression on the last points that were at level k and at the top

    M. C. Kennedy, A. O'Hagan, "Predicting the output from a complex computer code when fast approximations are
    available", Biometrika 87 (2000) 1-13, for a factor and a shift between levels; and none that did not get there is
    told to be better than the best of its bracket that did. A level whose order has little to do with that at the top
    is left out, but for every fourth bracket.

    Args:
        inner: proposes the points; new.
        levels: how many there are, at least 2.
        eta: of so many points one goes on.
        dimensions: of the points.

    Attributes:
        inner: likewise.
        batch: points of a bracket.
    """

    adaptive = True

    def __init__(self, inner: Optimizer, levels: int, eta: float, dimensions: int) -> None:
        self.inner, self.batch, self._d = inner, inner.batch, dimensions
        self._top, self._eta = levels - 1, eta
        self._next, self._opened = 0, 0
        self._brackets: list[_Bracket] = []
        self._due: list[tuple[int, int]] = []  # bracket and row of the points that go on
        self._homes: dict[int, tuple[int, int]] = {}  # inner id and level of each pending point; -1 for a kept one
        self._told: dict[int, tuple[float, float]] = {}
        self._pairs = [np.empty((0, 2)) for _ in range(self._top)]
        self._kept: Array | None = None  # rows of level, value and violation there, x
        self._trying: dict[int, Array] = {}  # kept points that are pending: their rows

    @property
    def levels(self) -> dict[int, int]:
        """Levels of the pending points, by id, 0 for the lowest."""
        return {key: level for key, (_, level) in self._homes.items() if key not in self._told}

    def step(self) -> tuple[int, int]:
        """How many points `ask` has ready, and at which level: those that go on, or else new ones."""
        self._take_in()
        if self._due:
            bracket, row = self._due[0]
            return len(self._due), int(self._brackets[bracket].level[row]) + 1
        return self._opening()

    def ask(self, n: int) -> tuple[Ids, Array]:
        """See `Optimizer.ask`: points that go on to the next level, if there are any, or else new ones."""
        self._take_in()
        if not self._due:
            found = self._ask_new(n)
            if len(found[0]) or not n or not self._brackets:
                return found
            self._brackets[-1].size = len(self._brackets[-1].ids)  # the space is used up: it will not become fuller
            self._decide()
        taken, self._due = self._due[:n], self._due[n:]
        for bracket, row in taken:
            self._brackets[bracket].level[row] += 1
        return self._run(taken)

    def close(self, n: int) -> tuple[Ids, Array]:
        """Up to `n` points at the top: the best of those that were not there, as is expected of them; or new ones."""
        self._take_in()
        found: list[tuple[float, float, int, int]] = []
        for number, bracket in enumerate(self._brackets):
            told = self._expected(bracket.level, bracket.last)
            found += [
                (bracket.violations[row], told[row], number, row)
                for row in np.flatnonzero((bracket.stage == _WAITS) & np.isfinite(told)).tolist()
            ]
        if self._kept is not None:
            told = self._expected(self._kept[:, 0].astype(np.int64), self._kept[:, 1])
            found += [(self._kept[row, 2], told[row], -1, row) for row in range(len(told))]
        best = sorted(found)[:n]
        if not best:
            return self._ask_new(n, at_top=True)
        self._due = [each for each in self._due if each not in {(number, row) for _, _, number, row in best}]
        rows = [(number, row) for _, _, number, row in best if number >= 0]
        for number, row in rows:
            self._brackets[number].level[row] = self._top
        ids, x = self._run(rows)
        kept = [row for _, _, number, row in best if number < 0]
        if self._kept is None or not kept:
            return ids, x
        again = np.arange(self._next, self._next + len(kept))
        self._next += len(kept)
        self._homes |= dict.fromkeys(again.tolist(), (-1, self._top))
        self._trying |= dict(zip(again.tolist(), self._kept[kept], strict=True))
        more = self._kept[kept, 3:].copy()
        self._kept = np.delete(self._kept, kept, axis=0)
        return np.concatenate([ids, again]), np.concatenate([x, more])

    def tell(
        self,
        ids: npt.ArrayLike,
        values: npt.ArrayLike,
        violations: npt.ArrayLike | None = None,
        gradients: npt.ArrayLike | None = None,
    ) -> None:
        """See `Optimizer.tell`; each value is one at the level of its point. Gradients are left out."""
        keys, given = np.asarray(ids), np.asarray(values, dtype=np.float64)
        outside = np.zeros(keys.shape) if violations is None else np.asarray(violations, dtype=np.float64)
        if not keys.ndim == given.ndim == 1 or not keys.shape == given.shape == outside.shape:
            raise ValueError(f"ids, values and violations have shapes {keys.shape}, {given.shape} and {outside.shape}")
        unknown = [key for key in keys.tolist() if key not in self._homes or key in self._told]
        if unknown or len(set(keys.tolist())) < len(keys):
            raise ValueError(f"ids {unknown or keys.tolist()} are not pending; tell each point that was asked, once")
        given, outside = rankable(given, outside)
        self._told.update(zip(keys.tolist(), zip(given.tolist(), outside.tolist(), strict=True), strict=True))

    def suggest(self, x: npt.ArrayLike) -> Mask:
        """See `Optimizer.suggest`."""
        return self.inner.suggest(x)

    def narrow(self, low: npt.ArrayLike, high: npt.ArrayLike) -> None:
        """See `Optimizer.narrow`; points that are on their way to the top stay."""
        self.inner.narrow(low, high)

    def state(self) -> dict[str, Any]:
        """See `Optimizer.state`."""
        told = sorted(self._told)
        trying = sorted(self._trying)
        return {
            "format": _FORMAT,
            "halving": {"levels": self._top + 1, "eta": self._eta, "dimensions": self._d},
            "inner": self.inner.state(),
            "next": self._next,
            "opened": self._opened,
            "brackets": [{name: _copied(value) for name, value in vars(each).items()} for each in self._brackets],
            "due": [list(each) for each in self._due],
            "homes": [[key, *home] for key, home in sorted(self._homes.items())],
            "told": {"ids": np.array(told, dtype=np.int64), "results": np.array([self._told[key] for key in told])},
            "pairs": [pairs.copy() for pairs in self._pairs],
            "kept": None if self._kept is None else self._kept.copy(),
            "trying": [{"id": key, "row": self._trying[key].copy()} for key in trying],
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """See `Optimizer.from_state`.

        Raises:
            ValueError: the state has a format that this version does not know.
        """
        from prefect_simopt.optimizers.make import optimizer_from_state  # which makes this one, too

        if state.get("format") != _FORMAT:
            raise ValueError(f"this state has format {state.get('format')}; this version reads {_FORMAT}")
        self = cls(optimizer_from_state(state["inner"]), **state["halving"])
        self._next, self._opened = state["next"], state["opened"]
        self._brackets = [
            _Bracket(**{name: _copied(value) for name, value in each.items()}) for each in state["brackets"]
        ]
        self._due = [(bracket, row) for bracket, row in state["due"]]
        self._homes = {key: (inner, level) for key, inner, level in state["homes"]}
        told = state["told"]
        self._told = dict(zip(told["ids"].tolist(), map(tuple, told["results"].tolist()), strict=True))
        self._pairs = [pairs.copy() for pairs in state["pairs"]]
        self._kept = _copied(state["kept"])
        self._trying = {each["id"]: each["row"].copy() for each in state["trying"]}
        return self

    def _opening(self) -> tuple[int, int]:
        """How many new points there is room for in the bracket that is filled now, and at which level they begin."""
        last = self._brackets[-1] if self._brackets else None
        if last is not None and len(last.ids) < last.size:
            return last.size - len(last.ids), last.start
        return self.batch, self._start()

    def _start(self) -> int:
        """The lowest level whose order has something to do with the one at the top, as far as that is known."""
        if self._opened % _PROBE == 0:
            return 0
        levels = range(self._top)
        return next((k for k in levels if len(self._pairs[k]) < _JUDGED or _tau(self._pairs[k]) > _RELATED), self._top)

    def _ask_new(self, n: int, *, at_top: bool = False) -> tuple[Ids, Array]:
        found: list[tuple[int, int]] = []
        while len(found) < n:
            room, level = (n, self._top) if at_top else self._opening()
            count = min(room, n - len(found))
            ids, x = self.inner.ask(count)
            if not len(ids):
                break
            found += self._add(ids, x, n if at_top else self.batch, level)
            if len(ids) < count:
                break
        return self._run(found)

    def _add(self, ids: Ids, x: Array, size: int, level: int) -> list[tuple[int, int]]:
        """Put new points into the bracket that is filled now, or into a new one of `size`; returns their places."""
        m = len(ids)
        values = np.full((m, self._top + 1), np.nan)
        fresh = _Bracket(size, level, ids, x, np.full(m, level), np.full(m, _WAITS), values, np.full(m, np.inf))
        last = self._brackets[-1] if self._brackets else None
        if last is None or len(last.ids) == last.size:
            self._brackets.append(fresh)
            self._opened += 1
            return [(len(self._brackets) - 1, row) for row in range(m)]
        first = len(last.ids)
        for name in ("ids", "x", "level", "stage", "values", "violations"):
            setattr(last, name, np.concatenate([getattr(last, name), getattr(fresh, name)]))
        return [(len(self._brackets) - 1, first + row) for row in range(m)]

    def _run(self, rows: Sequence[tuple[int, int]]) -> tuple[Ids, Array]:
        """Number points of brackets that are to be run at their level."""
        ids = np.arange(self._next, self._next + len(rows))
        self._next += len(rows)
        found = []
        for key, (number, row) in zip(ids.tolist(), rows, strict=True):
            bracket = self._brackets[number]
            bracket.stage[row] = _RUNS
            self._homes[key] = int(bracket.ids[row]), int(bracket.level[row])
            found.append(bracket.x[row])
        return ids, np.array(found).reshape(-1, self._d)

    def _take_in(self) -> None:
        """Take in results, in the order of their points; see who goes on, and tell the optimizer of whole brackets."""
        places = {
            int(key): (number, row) for number, each in enumerate(self._brackets) for row, key in enumerate(each.ids)
        }
        for key in sorted(self._told):
            value, violation = self._told[key]
            inner, level = self._homes.pop(key)
            if inner < 0:
                self._add_pair(int(self._trying[key][0]), self._trying.pop(key)[1], value)
                continue
            number, row = places[inner]
            bracket = self._brackets[number]
            bracket.values[row, level], bracket.violations[row] = value, violation
            bracket.stage[row] = _ENDED if level == self._top or not np.isfinite(value) else _WAITS
            if level == self._top:
                for below in np.flatnonzero(np.isfinite(bracket.values[row, :-1])).tolist():
                    self._add_pair(below, bracket.values[row, below], value)
        self._told.clear()
        self._decide()

    def _decide(self) -> None:
        for number, bracket in enumerate(self._brackets):
            waits = bracket.stage == _WAITS
            asked = {row for each, row in self._due if each == number}
            if len(bracket.ids) < bracket.size or (bracket.stage == _RUNS).any() or not waits.any() or asked:
                continue
            here = bracket.level == bracket.level[waits].min()
            rows, count = np.flatnonzero(waits & here), max(1, round(int(here.sum()) / self._eta))
            best = rows[order(bracket.last[rows], bracket.violations[rows])]
            bracket.stage[best[count:]] = _ENDED
            self._due += [(number, row) for row in best[:count].tolist()]
        whole = [each for each in self._brackets if len(each.ids) == each.size and (each.stage == _ENDED).all()]
        for bracket in whole:
            self._tell_inner(bracket)
        if whole:
            left = [number for number, each in enumerate(self._brackets) if not any(each is one for one in whole)]
            self._due = [(left.index(number), row) for number, row in self._due]
            self._brackets = [self._brackets[number] for number in left]

    def _tell_inner(self, bracket: _Bracket) -> None:
        """Tell what each point would be at the top."""
        expected = self._expected(bracket.level, bracket.last)
        there = (bracket.level == self._top) & np.isfinite(expected) & (bracket.violations == 0.0)
        if there.any():
            expected = np.where(bracket.level == self._top, expected, np.maximum(expected, expected[there].min()))
        self.inner.tell(bracket.ids, np.where(np.isfinite(expected), expected, np.nan), bracket.violations)
        short = np.flatnonzero((bracket.level < self._top) & np.isfinite(expected))
        rows = np.column_stack([bracket.level[short], bracket.last[short], bracket.violations[short], bracket.x[short]])
        kept = rows if self._kept is None else np.concatenate([self._kept, rows])
        ranked = order(self._expected(kept[:, 0].astype(np.int64), kept[:, 1]), kept[:, 2])
        self._kept = kept[ranked[:_KEPT]]

    def _add_pair(self, level: int, value: float, at_top: float) -> None:
        if np.isfinite(at_top):
            self._pairs[level] = np.concatenate([self._pairs[level], [[value, at_top]]])[-_PAIRS:]

    def _expected(self, level: Ids, values: Array) -> Array:
        """What values at levels, both of shape (n,), are expected to be at the top: (1)."""
        expected = values.copy()
        for k, pairs in enumerate(self._pairs):
            here = level == k
            if not len(pairs) or not here.any():
                continue
            mean, above = pairs.mean(axis=0)
            spread = ((pairs[:, 0] - mean) ** 2).sum()
            factor = 1.0
            if len(pairs) >= _FEWEST and spread > 0.0:
                factor = ((pairs[:, 0] - mean) * (pairs[:, 1] - above)).sum() / spread
                factor = min(max(factor, _FLATTEST), _STEEPEST)
            expected[here] = above + factor * (values[here] - mean)
        return np.asarray(expected)


def _tau(pairs: Array) -> float:
    """Kendall's rank correlation of the columns."""
    a, b = (np.sign(column[:, None] - column[None, :]) for column in pairs.T)
    return float((a * b).sum() / max(np.sqrt((a**2).sum() * (b**2).sum()), 1.0))


def _copied(value: Any) -> Any:
    return value.copy() if isinstance(value, np.ndarray) else value
