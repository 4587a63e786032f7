"""The space that parameters span, to and from the unit cube.

Optimizers work in the unit cube [0, 1]^d, one coordinate per parameter. `Space.snap` moves a point to the middle of
the intervals of the distinct values that it is in; continuous coordinates stay. The coordinate of a parameter that a
point does not have, since the condition of the parameter does not hold there, goes to the middle of the cube: so
points that are the same are so in the cube.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from prefect_simopt.conditions import Conditions
from prefect_simopt.errors import Problem, SpecError
from prefect_simopt.parameters import Categorical, Choice, Float, Int, Parameter, cell_of
from prefect_simopt.relations import Relation

__all__ = ["Categorical", "Choice", "Float", "Int", "Parameter", "Space", "numeric_names"]

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_COUNTED = 2**20  # combinations of the parameters that others depend on, up to which points are counted


class Space:
    """The box that the parameters span, cut down by relations.

    Args:
        parameters: parameters, or dicts of their fields.
        relations: comparisons that every point must satisfy, such as `t1 + t2 <= 400`; one holds where a parameter
            in it is not there.

    Attributes:
        parameters: the parameters, in order: coordinate i belongs to parameter i.
        relations: the parsed relations.
        conditions: which parameters there are where.

    Raises:
        SpecError: a parameter's condition is wrong.
        RelationSyntaxError: a relation is not in the grammar, or uses an unknown name.
    """

    def __init__(self, parameters: Sequence[Any], relations: Sequence[str] = ()) -> None:
        self.parameters: list[Float | Int | Categorical] = TypeAdapter(list[Parameter]).validate_python(
            list(parameters)
        )
        numeric = numeric_names(self.parameters)
        self.relations = [Relation.parse(text, numeric) for text in relations]
        self.conditions = Conditions(self.parameters)

    @cached_property
    def names(self) -> list[str]:
        """The parameters' names, in order."""
        return [parameter.name for parameter in self.parameters]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}

    @property
    def dimensions(self) -> int:
        """Number of coordinates, one per parameter."""
        return len(self.parameters)

    @cached_property
    def levels(self) -> npt.NDArray[np.int64]:
        """Distinct values of each parameter, shape (d,); 0 where it is continuous."""
        return np.array([parameter.levels for parameter in self.parameters], dtype=np.int64)

    @cached_property
    def categorical(self) -> npt.NDArray[np.bool_]:
        """Which coordinates have no order, shape (d,)."""
        return np.array([isinstance(parameter, Categorical) for parameter in self.parameters], dtype=bool)

    @cached_property
    def size(self) -> float:
        """Number of distinct points; infinite when any parameter is continuous."""
        product = math.inf if (self.levels == 0).any() else float(math.prod(self.levels.tolist()))
        parents = self.conditions.parents
        combinations = math.prod(self.levels[parents].tolist())
        if not parents or math.isinf(product) or combinations > _COUNTED:
            return product  # of very many parents, an upper bound
        cells = np.stack(np.unravel_index(np.arange(combinations), self.levels[parents].tolist()), axis=1)
        x = np.repeat(self._middle[None, :], combinations, axis=0)
        x[:, parents] = np.stack([self.parameters[i].middles(cells[:, k]) for k, i in enumerate(parents)], axis=1)
        distinct = (self.snap(x) == x).all(axis=1)  # elsewhere a parent differs that is not there
        others = np.delete(np.arange(self.dimensions), parents)
        there = self.active(x[distinct])[:, others]
        return float(np.where(there, self.levels[others].astype(float), 1.0).prod(axis=1).sum())

    def active(self, x: Array) -> Mask:
        """Which parameters there are at the points `x`, both of shape (n, d)."""
        return self.conditions.active(x)

    def columns(self, x: Array) -> dict[str, npt.NDArray[Any]]:
        """Values by parameter at the points `x` of shape (n, d), also of parameters that are not there: shape (n,)."""
        return {parameter.name: parameter.decode(x[:, i]) for i, parameter in enumerate(self.parameters)}

    def decode(self, x: Array) -> list[dict[str, Any]]:
        """The points `x` of shape (n, d) as dicts of plain Python values, one per row, of the parameters there are."""
        x = np.asarray(x, dtype=np.float64)
        columns = [column.tolist() for column in self.columns(x).values()]
        points = [dict(zip(self.names, row, strict=True)) for row in zip(*columns, strict=True)]
        if not self.conditions:
            return points
        return [
            {name: value for (name, value), there in zip(point.items(), row, strict=True) if there}
            for point, row in zip(points, self.active(x).tolist(), strict=True)
        ]

    def encode(self, points: Sequence[Mapping[str, Any]]) -> Array:
        """The inverse of `decode`, shape (n, d); out-of-bounds values move to the bound."""
        if not points:
            return np.empty((0, self.dimensions))
        if not self.conditions:
            return np.stack([p.encode([point[p.name] for point in points]) for p in self.parameters], axis=1)
        x = np.repeat(self._middle[None, :], len(points), axis=0)
        for i, parameter in enumerate(self.parameters):
            rows = [row for row, point in enumerate(points) if parameter.name in point]
            x[rows, i] = parameter.encode([points[row][parameter.name] for row in rows])
        return x

    def snap(self, x: Array) -> Array:
        """Move each discrete coordinate to the middle of its value's interval; continuous ones stay. Shape (n, d).

        Coordinates of parameters that are not there go to the middle of the cube.
        """
        snapped = self._snap(np.clip(np.asarray(x, dtype=np.float64), 0.0, 1.0))
        return np.where(self.active(snapped), snapped, self._middle) if self.conditions else snapped

    def _snap(self, inside: Array) -> Array:
        # All columns at once, since optimizers snap every point.
        middles = (cell_of(inside, self.levels) + 0.5) / np.maximum(self.levels, 1)
        snapped = np.where(self.levels > 0, middles, inside)
        for i in self._uneven:
            snapped[:, i] = self.parameters[i].encode(self.parameters[i].decode(inside[:, i]))
        return snapped

    @cached_property
    def _middle(self) -> Array:
        """Coordinates of parameters that are not there, shape (d,)."""
        middle: Array = self._snap(np.full((1, self.dimensions), 0.5))[0]
        return middle

    @cached_property
    def _uneven(self) -> list[int]:
        """The discrete coordinates whose intervals have different widths."""
        return [i for i, parameter in enumerate(self.parameters) if isinstance(parameter, Int) and parameter.log]

    def violation(self, x: Array) -> Array:
        """How far the points `x` of shape (n, d) are from satisfying all relations: shape (n,), 0 where they do."""
        total = np.zeros(len(x))
        if self.relations:
            columns = {name: column for name, column in self.columns(x).items() if column.dtype != object}
            columns |= {
                p.name: np.array(p.decode(x[:, i]).tolist(), dtype=np.float64)
                for i, p in enumerate(self.parameters)
                if isinstance(p, Categorical) and p.name in numeric_names(self.parameters)
            }
            active = self.active(x) if self.conditions else None
            for relation in self.relations:
                violation = relation.violation(columns)
                if active is not None:
                    used = [self._places[name] for name in relation.names]
                    violation = np.where(active[:, used].all(axis=1), violation, 0.0)
                total += violation
        return total

    def check(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """The point as the simulator gets it: every parameter that there is, in the space's order.

        Raises:
            SpecError: a parameter is missing, unknown, or not there with the others as they are, or a value is outside.
                Relations are not looked at.
        """
        problems = [
            Problem(name, f"is no parameter of the space; those are {', '.join(self.names)}")
            for name in point
            if name not in self._places
        ]
        values: dict[str, Any] = {}
        for parameter in self.parameters:
            if parameter.name in point:
                try:
                    values[parameter.name] = parameter.check(point[parameter.name])
                except SpecError as error:
                    problems += error.problems
        active = self.active(self.encode([values]))[0].tolist() if self.conditions else [True] * self.dimensions
        for parameter, there in zip(self.parameters, active, strict=True):
            if there and parameter.name not in point:
                problems.append(Problem(parameter.name, "is missing: every parameter needs a value"))
            elif not there and parameter.name in values:
                problems.append(Problem(parameter.name, f"is not there: {_described(parameter)}; leave it out"))
        if problems:
            raise SpecError(problems)
        return values

    def to_numbers(self, point: Mapping[str, Any]) -> list[float]:
        """The point as stored: numbers, with the index for a choice, and NaN for a parameter that is not there."""
        return [
            parameter.to_number(point[parameter.name]) if parameter.name in point else math.nan
            for parameter in self.parameters
        ]

    def from_numbers(self, numbers: Iterable[float]) -> dict[str, Any]:
        """The inverse of `to_numbers`."""
        return {
            parameter.name: parameter.from_number(number)
            for parameter, number in zip(self.parameters, numbers, strict=True)
            if not math.isnan(number)
        }

    def describe(self) -> dict[str, Any]:
        """A JSON document from which `Space(**document)` makes this space again."""
        return {
            "parameters": [parameter.model_dump(mode="json", exclude_none=True) for parameter in self.parameters],
            "relations": [relation.text for relation in self.relations],
        }


def numeric_names(parameters: Sequence[Float | Int | Categorical]) -> list[str]:
    """Names of the parameters that relations may use: all but categorical ones with a choice that is no number."""
    return [
        parameter.name
        for parameter in parameters
        if not isinstance(parameter, Categorical)
        or all(isinstance(choice, int | float) and not isinstance(choice, bool) for choice in parameter.choices)
    ]


def _described(parameter: Float | Int | Categorical) -> str:
    """A parameter's condition in words."""
    conditions = [f"{name} is {' or '.join(map(repr, values))}" for name, values in (parameter.when or {}).items()]
    return f"it is only where {' and '.join(conditions)}"
