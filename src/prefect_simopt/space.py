"""What may vary: parameters, and the space they span, to and from the unit cube.

Optimizers work in the unit cube [0, 1]^d, one coordinate per parameter. A continuous parameter fills its
coordinate (logarithmically with `log: true`); one of L distinct values owns an interval of its coordinate for each
value, and `Space.snap` moves a point to the middle of the interval it is in.
"""

import math
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    TypeAdapter,
    field_validator,
    model_validator,
)

from prefect_simopt.errors import Problem, SpecError
from prefect_simopt.forms import MODEL, Tabs
from prefect_simopt.problems import wrong_at
from prefect_simopt.relations import Relation

__all__ = ["Categorical", "Choice", "Float", "Int", "Parameter", "Space"]

Array = npt.NDArray[np.float64]
Choice = StrictBool | StrictInt | Annotated[float, Field(strict=True, allow_inf_nan=False)] | StrictStr
"""A value of a categorical parameter."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_LEVELS = 2**53  # beyond it, neighbouring integers are the same double


class _Parameter(BaseModel):
    """What all parameters have. The fields in `_positional` may be given by position, as in `Float("x", 0, 1)`."""

    model_config = MODEL
    _positional: ClassVar[tuple[str, ...]] = ("name",)

    name: str = Field(description="Keyword under which the simulator receives the value.", max_length=200)
    unit: str | None = Field(default=None, description="Unit for tables, pictures and stores, such as nm.")
    description: str | None = Field(default=None, description="What the parameter is.")

    def __init__(self, *values: Any, **fields: Any) -> None:
        names = self._positional
        if len(values) > len(names):
            raise TypeError(f"{type(self).__name__} takes at most {len(names)} values by position: {', '.join(names)}")
        super().__init__(**dict(zip(names, values, strict=False)), **fields)

    @field_validator("name")
    @classmethod
    def _is_identifier(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError("a parameter's name has letters, digits and underscores and starts with no digit")
        return name

    @property
    def levels(self) -> int:
        """Number of distinct values; 0 for a continuous parameter."""
        return 0

    def decode(self, x: Array) -> npt.NDArray[Any]:
        """Values at the coordinates `x` of shape (n,), each in [0, 1]."""
        raise NotImplementedError

    def encode(self, values: Sequence[Any] | npt.NDArray[Any]) -> Array:
        """Coordinates, shape (n,), that `decode` turns into `values`: exactly for discrete parameters."""
        raise NotImplementedError

    def check(self, value: Any) -> Any:
        """The value as the simulator gets it.

        Raises:
            SpecError: it is not one that the parameter can have; the message says which are.
        """
        if isinstance(value, str | bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise SpecError([Problem(self.name, "must be a number", repr(value))])
        (x,) = self.encode([value])
        (nearest,) = self.decode(np.array([x])).tolist()
        if not math.isclose(nearest, value, rel_tol=1e-9, abs_tol=1e-12):
            raise SpecError(
                [Problem(self.name, f"is outside the space; the nearest value in it is {nearest!r}", repr(value))]
            )
        return type(nearest)(value)

    def to_number(self, value: Any) -> float:
        """The value as stored in the array `parameters`: itself, or the index of a choice."""
        return float(value)

    def from_number(self, number: float) -> Any:
        """The value of a stored number."""
        return float(number)


class Float(_Parameter):
    """A real number in [low, high].

    Example:
        ```python
        Float("thickness", 20, 300, unit="nm")
        ```
    """

    _positional: ClassVar[tuple[str, ...]] = ("name", "low", "high")

    type: Literal["float"] = "float"
    low: float = Field(description="Smallest value.", allow_inf_nan=False)
    high: float = Field(description="Largest value.", allow_inf_nan=False)
    log: bool = Field(default=False, description="Search the logarithm of the value; low must be above 0.")
    step: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Only low, low + step, low + 2 step and so on."
    )

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        _check_bounds(self.low, self.high, self.log)
        if self.log and self.step is not None:
            raise wrong_at("step", "log and step exclude each other; leave one out")
        if not math.isfinite(self.high - self.low):
            raise wrong_at("high", "high - low must be a finite number; narrow the bounds")
        if self.step is not None and (self.high - self.low) / self.step >= _MAX_LEVELS:
            raise wrong_at("step", "is too small for these bounds; leave it out for a continuous parameter")
        return self

    @property
    def levels(self) -> int:
        """Number of distinct values; 0 for a continuous parameter."""
        return 0 if self.step is None else int((self.high - self.low) / self.step + 1e-9) + 1

    def decode(self, x: Array) -> npt.NDArray[Any]:
        """Values at the coordinates `x` of shape (n,), each in [0, 1]."""
        if self.step is not None:
            return np.minimum(self.low + _cell(x, self.levels) * self.step, self.high)
        if self.log:
            values = np.exp(math.log(self.low) + x * (math.log(self.high) - math.log(self.low)))
        else:
            values = self.low + x * (self.high - self.low)
        return np.clip(values, self.low, self.high)

    def encode(self, values: Sequence[Any] | npt.NDArray[Any]) -> Array:
        """Coordinates, shape (n,), of the values."""
        given = np.asarray(values, dtype=np.float64)
        if self.step is not None:
            return (np.clip(np.rint((given - self.low) / self.step), 0, self.levels - 1) + 0.5) / self.levels
        if self.log:
            with np.errstate(all="ignore"):
                x = (np.log(given) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        else:
            x = (given - self.low) / (self.high - self.low)
        return np.clip(x, 0.0, 1.0)


class Int(_Parameter):
    """A whole number in [low, high].

    Example:
        ```python
        Int("layers", 2, 8)
        ```
    """

    _positional: ClassVar[tuple[str, ...]] = ("name", "low", "high")

    type: Literal["int"] = "int"
    low: int = Field(description="Smallest value.", ge=-_MAX_LEVELS, le=_MAX_LEVELS)
    high: int = Field(description="Largest value.", ge=-_MAX_LEVELS, le=_MAX_LEVELS)
    log: bool = Field(default=False, description="Search the logarithm of the value; low must be above 0.")
    step: int = Field(default=1, ge=1, description="Only low, low + step, low + 2 step and so on.")

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        _check_bounds(self.low, self.high, self.log)
        if self.log and self.step != 1:
            raise wrong_at("step", "log and step exclude each other; leave one out")
        return self

    @property
    def levels(self) -> int:
        """Number of distinct values."""
        return (self.high - self.low) // self.step + 1

    def decode(self, x: Array) -> npt.NDArray[Any]:
        """Values at the coordinates `x` of shape (n,), each in [0, 1]."""
        if self.log:
            bottom, top = math.log(self.low - 0.5), math.log(self.high + 0.5)
            return np.clip(np.rint(np.exp(bottom + x * (top - bottom))).astype(np.int64), self.low, self.high)
        return self.low + self.step * _cell(x, self.levels).astype(np.int64)

    def encode(self, values: Sequence[Any] | npt.NDArray[Any]) -> Array:
        """Coordinates, shape (n,), of the values."""
        given = np.asarray(values, dtype=np.float64)
        if self.log:
            bottom, top = math.log(self.low - 0.5), math.log(self.high + 0.5)
            return np.clip((np.log(np.clip(given, self.low, self.high)) - bottom) / (top - bottom), 0.0, 1.0)
        return (np.clip(np.rint((given - self.low) / self.step), 0, self.levels - 1) + 0.5) / self.levels

    def from_number(self, number: float) -> Any:
        """The value of a stored number."""
        return int(number)


class Categorical(_Parameter):
    """One of several choices without an order.

    Example:
        ```python
        Categorical("material", ["TiO2", "Ta2O5"])
        ```
    """

    _positional: ClassVar[tuple[str, ...]] = ("name", "choices")

    type: Literal["categorical"] = "categorical"
    choices: tuple[Choice, ...] = Field(description="The values to choose from.", min_length=2, max_length=10_000)

    @field_validator("choices")
    @classmethod
    def _distinct(cls, choices: tuple[Choice, ...]) -> tuple[Choice, ...]:
        keys = [(isinstance(choice, str), choice) for choice in choices]
        if len(set(keys)) < len(keys):
            raise ValueError("choices must differ from each other")
        return choices

    @property
    def levels(self) -> int:
        """Number of choices."""
        return len(self.choices)

    def decode(self, x: Array) -> npt.NDArray[Any]:
        """Choices at the coordinates `x` of shape (n,), each in [0, 1]; dtype object."""
        table = np.empty(self.levels, dtype=object)
        table[:] = self.choices
        return table[_cell(x, self.levels).astype(np.int64)]

    def encode(self, values: Sequence[Any] | npt.NDArray[Any]) -> Array:
        """Coordinates, shape (n,), of the choices."""
        return (np.array([self.to_number(value) for value in values]) + 0.5) / self.levels

    def check(self, value: Any) -> Any:
        """The choice.

        Raises:
            SpecError: it is none of the choices.
        """
        if value not in self.choices:
            allowed = ", ".join(map(repr, self.choices))
            raise SpecError([Problem(self.name, f"must be one of {allowed}", repr(value))])
        return value

    def to_number(self, value: Any) -> float:
        """The index of a choice."""
        return float(self.choices.index(value))

    def from_number(self, number: float) -> Any:
        """The choice of an index."""
        return self.choices[int(number)]


def _with_type(value: Any) -> Any:
    if isinstance(value, Mapping) and "type" not in value:
        return {"type": "categorical" if "choices" in value else "float", **value}
    return value


Parameter = Annotated[
    Annotated[Float | Int | Categorical, Field(discriminator="type"), Tabs()], BeforeValidator(_with_type)
]
"""Any parameter, told apart by `type`; left out, it is categorical where there are choices and float elsewhere."""


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
        middles = (_cell(inside, self.levels) + 0.5) / np.maximum(self.levels, 1)
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


def _check_bounds(low: float, high: float, log: bool) -> None:
    if not low < high:
        raise wrong_at("low", f"must be below high (low is {low:g}, high is {high:g})")
    if log and low <= 0:
        raise wrong_at(
            "low", f"must be above 0 for a log parameter (low is {low:g}); give a positive low or leave log out"
        )


def _cell(x: Array, levels: int | npt.NDArray[np.int64]) -> Array:
    """Index of the interval, of `levels` equal ones in [0, 1], that each coordinate is in."""
    return np.clip(np.floor(x * levels), 0, levels - 1)
