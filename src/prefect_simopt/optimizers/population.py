"""What the methods with a population share: the first generation, slots, and whose result is whose."""

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from prefect_simopt.optimizers.engine import Engine
from prefect_simopt.optimizers.lattice import latin_hypercube
from prefect_simopt.space import Space

__all__ = ["Population"]

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]

_SMALLEST = 8  # members, where the size is left to us and compute runs less at once


class Population(Engine):
    """A population whose member k proposes the points k, k + N, k + 2N and so on.

    The first N points are a Latin hypercube. Until any trial has succeeded, points are random. With one generation
    asked and told after the other this is the textbook's form; a member asked again while its point is pending moves
    on from where it was, so that any number of points may be asked at any time (steady state).

    Attributes:
        size: number of members N.
    """

    memory: ClassVar[tuple[str, ...]] = ("_start", "_succeeded")

    def __init__(self, config: Any, space: Space, seed: int = 7, objectives: int = 1, batch: int = 16) -> None:
        super().__init__(config, space, seed, objectives, config.population or batch)
        self.size = config.population or max(batch, _SMALLEST)
        self._start = latin_hypercube(self.size, space.dimensions, self._rng)
        self._succeeded = False

    @abstractmethod
    def _anchors(self, slots: Ids) -> Array:
        """Where the members in `slots`, shape (n,), move from: shape (n, d). Drawn afresh for each generation."""

    @abstractmethod
    def _move(self, slots: Ids, anchors: Array) -> Array:
        """Candidates of the members in `slots`, shape (n,), from their anchors: shape (n, d)."""

    @abstractmethod
    def _update(self, ids: Ids, x: Array, values: Array, violations: Array) -> None:
        """Take in rankable results, at most one of each member: shapes (n,), (n, d), (n,), (n,)."""

    def _room(self) -> int:
        return self.size - self._next % self.size

    def _propose(self, n: int) -> Array:
        slots = np.arange(self._next, self._next + n) % self.size
        if self._next < self.size:
            fresh = np.ones(n, dtype=bool)

            def start(rows: Ids) -> Array:
                x = np.where(fresh[rows, None], self._start[slots[rows]], self._uniform(len(rows)))
                fresh[rows] = False
                return x

            return self._placement.place(n, start)
        if not self._succeeded:
            return self._placement.place(n, lambda rows: self._uniform(len(rows)))
        anchors = self._anchors(slots)
        return self._placement.place(n, lambda rows: self._move(slots[rows], anchors[rows]), anchors)

    def _learn(self, ids: Ids, x: Array, values: Array, violations: Array) -> None:
        self._succeeded = self._succeeded or bool(np.isfinite(values).any())
        generations = ids // self.size
        for generation in np.unique(generations):
            one = generations == generation
            self._update(ids[one], x[one], values[one], violations[one])

    def _uniform(self, n: int) -> Array:
        return self._rng.random((n, self.space.dimensions))
