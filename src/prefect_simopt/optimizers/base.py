"""The ask/tell interface that every optimizer implements."""

from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
import numpy.typing as npt

__all__ = ["Optimizer"]

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Optimizer(ABC):
    """Proposes points of the unit cube and learns from their values. No I/O, no clocks, no global state.

    The same calls in the same order give the same points, bit for bit, on one machine or after
    `from_state(state())` in another process.

    Attributes:
        batch: how many points one generation has; `ask` takes any number.
        adaptive: whether later points depend on values told. False for samplers, whose points may be asked ahead.
        takes_gradients: whether `tell` makes use of gradients, so that simulators are to be asked for them.
    """

    batch: int
    adaptive: bool = True
    takes_gradients: bool = False

    @abstractmethod
    def ask(self, n: int) -> tuple[Ids, Array]:
        """Propose up to `n` new points.

        Returns:
            ids: shape (m,), m <= n, int64, counted up from 0 over the whole run.
            x: shape (m, d), in [0, 1], snapped to representable values, satisfying the space's relations.
            m < n only when there are no more points to propose (a finished grid, a used-up discrete space).
            Asked and untold points are pending and are never proposed again.
        """

    @abstractmethod
    def tell(
        self,
        ids: npt.ArrayLike,
        values: npt.ArrayLike,
        violations: npt.ArrayLike | None = None,
        gradients: npt.ArrayLike | None = None,
    ) -> None:
        """Report results of any subset of the pending points, in any order.

        Args:
            ids: shape (n,).
            values: to be minimized, shape (n,) or (n, objectives); NaN for a failed trial, which counts as worse
                than anything seen.
            violations: how far each point is from feasible, shape (n,), 0 when it is; a feasible point is better
                than an infeasible one, and of two infeasible ones the smaller violation wins (Deb 2000).
            gradients: derivatives by the coordinates of each value and then of the violation, shape
                (n, objectives + 1, d); NaN where they are not known. Only where `takes_gradients` says so.

        Raises:
            ValueError: an id that is not pending, or arrays of different lengths. Nothing is changed then.
        """

    @abstractmethod
    def suggest(self, x: npt.ArrayLike) -> Mask:
        """Give points of one's own: they come first of what `ask` returns next, and are told like any other.

        Args:
            x: shape (n, d), in [0, 1].

        Returns:
            Which of them will be asked for, shape (n,): not those that are pending, that occur twice, or that a finite
            space has had.

        Raises:
            ValueError: a point is outside the space, its relations, or what the search was narrowed to. Nothing is
                changed then.
        """

    @abstractmethod
    def narrow(self, low: npt.ArrayLike, high: npt.ArrayLike) -> None:
        """Search only within bounds from now on: every point asked for later lies within them.

        Points that were suggested, not asked for yet and are now outside are dropped. What was told stays known.

        Args:
            low: smallest coordinates, shape (d,), in [0, 1]. A discrete parameter keeps the values that `low` and
                `high` stand for, and those between.
            high: largest coordinates, likewise.

        Raises:
            ValueError: they are no bounds, or leave nothing. Nothing is changed then.
        """

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """All that is needed to go on: arrays, numbers, strings, lists and dicts; JSON plus arrays, nothing pickled."""

    @classmethod
    @abstractmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The optimizer that `state` was taken from, in any process."""
