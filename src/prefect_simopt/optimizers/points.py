"""Given points, in the order given: a simulation of what somebody chose rather than a search."""

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from prefect_simopt.errors import Problem, SpecError
from prefect_simopt.optimizers.config import PointsConfig
from prefect_simopt.optimizers.engine import Engine
from prefect_simopt.space import Space

__all__ = ["Points"]

Array = npt.NDArray[np.float64]


class Points(Engine):
    """The points of the configuration, each once, also where two are equal.

    Narrower bounds leave out those that are outside.

    Raises:
        SpecError: a point lacks a parameter, has one that is unknown or not there, or is outside the space or its
            relations.
    """

    adaptive = False
    several_objectives: ClassVar[bool] = True
    config_type: ClassVar[type[PointsConfig]] = PointsConfig
    memory: ClassVar[tuple[str, ...]] = ("_position",)

    def __init__(self, config: Any, space: Space, seed: int = 7, objectives: int = 1, batch: int = 16) -> None:
        super().__init__(config, space, seed, objectives, batch)
        self._position = 0
        self._x = space.snap(space.encode(_checked(config.points, space)))
        for row in np.flatnonzero(space.violation(self._x) > 0).tolist():
            raise SpecError([Problem(f"optimizer.points[{row}]", "violates a relation of the space")])

    def _propose(self, n: int) -> Array:
        left = np.flatnonzero(self._placement.inside(self._x[self._position :]))[:n] + self._position
        self._position = int(left[-1]) + 1 if len(left) == n else len(self._x)
        return self._x[left]


def _checked(points: Any, space: Space) -> list[dict[str, Any]]:
    problems: list[Problem] = []
    checked = []
    for row, point in enumerate(points):
        try:
            checked.append(space.check(point))
        except SpecError as error:
            problems += [replace(each, path=f"optimizer.points[{row}].{each.path}") for each in error.problems]
    if problems:
        raise SpecError(problems)
    return checked
