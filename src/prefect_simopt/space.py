"""The space that parameters span, to and from the unit cube.

Optimizers work in the unit cube [0, 1]^d, one coordinate per parameter. `Space.snap` moves a point to the middle of
the intervals of the distinct values that it is in; continuous coordinates stay.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from prefect_simopt.parameters import Categorical, Choice, Float, Int, Parameter, cell_of
from prefect_simopt.relations import Relation

__all__ = ["Categorical", "Choice", "Float", "Int", "Parameter", "Space", "numeric_names"]

Array = npt.NDArray[np.float64]


class Space:
    """The box that the parameters span, cut down by relations.

    Args:
        parameters: parameters, or dicts of their fields.
        relations: comparisons that every point must satisfy, such as `t1 + t2 <= 400`.

    Attributes:
        parameters: the parameters, in order: coordinate i belongs to parameter i.
        relations: the parsed relations.
    """

    def __init__(self, parameters: Sequence[Any], relations: Sequence[str] = ()) -> None:
        self.parameters: list[Float | Int | Categorical] = TypeAdapter(list[Parameter]).validate_python(
            list(parameters)
        )
        numeric = numeric_names(self.parameters)
        self.relations = [Relation.parse(text, numeric) for text in relations]

    @cached_property
    def names(self) -> list[str]:
        """The parameters' names, in order."""
        return [parameter.name for parameter in self.parameters]

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

    @property
    def size(self) -> float:
        """Number of distinct points; infinite when any parameter is continuous."""
        return math.inf if (self.levels == 0).any() else float(math.prod(self.levels.tolist()))

    def columns(self, x: Array) -> dict[str, npt.NDArray[Any]]:
        """Values by parameter at the points `x` of shape (n, d): arrays of shape (n,)."""
        return {parameter.name: parameter.decode(x[:, i]) for i, parameter in enumerate(self.parameters)}

    def decode(self, x: Array) -> list[dict[str, Any]]:
        """The points `x` of shape (n, d) as dicts of plain Python values, one per row."""
        columns = [column.tolist() for column in self.columns(np.asarray(x, dtype=np.float64)).values()]
        return [dict(zip(self.names, row, strict=True)) for row in zip(*columns, strict=True)]

    def encode(self, points: Sequence[Mapping[str, Any]]) -> Array:
        """The inverse of `decode`, shape (n, d); out-of-bounds values move to the bound."""
        if not points:
            return np.empty((0, self.dimensions))
        return np.stack([p.encode([point[p.name] for point in points]) for p in self.parameters], axis=1)

    def snap(self, x: Array) -> Array:
        """Move each discrete coordinate to the middle of its value's interval; continuous ones stay. Shape (n, d)."""
        inside = np.clip(np.asarray(x, dtype=np.float64), 0.0, 1.0)
        # All columns at once, since optimizers snap every point.
        middles = (cell_of(inside, self.levels) + 0.5) / np.maximum(self.levels, 1)
        snapped = np.where(self.levels > 0, middles, inside)
        for i in self._uneven:
            snapped[:, i] = self.parameters[i].encode(self.parameters[i].decode(inside[:, i]))
        return snapped

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
            for relation in self.relations:
                total += relation.violation(columns)
        return total

    def to_numbers(self, point: Mapping[str, Any]) -> list[float]:
        """The point as stored: numbers, with the index for a choice."""
        return [parameter.to_number(point[parameter.name]) for parameter in self.parameters]

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
