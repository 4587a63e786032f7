"""What may vary: real, whole and categorical parameters, each to and from a coordinate in [0, 1].

A continuous parameter fills its coordinate, logarithmically with `log: true`. One of L distinct values owns an
interval of its coordinate for each value.
"""

import math
import re
from collections.abc import Mapping, Sequence
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
    WithJsonSchema,
    field_validator,
    model_validator,
)

from prefect_simopt.errors import Problem, SpecError
from prefect_simopt.forms import MODEL, Tabs
from prefect_simopt.problems import wrong_at

__all__ = ["Categorical", "Choice", "Float", "Int", "Parameter", "When", "cell_of"]

Array = npt.NDArray[np.float64]
Choice = StrictBool | StrictInt | Annotated[float, Field(strict=True, allow_inf_nan=False)] | StrictStr
"""A value of a categorical parameter."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_LEVELS = 2**53  # beyond it, neighbouring integers are the same double


def _listed(given: Any) -> Any:
    """Conditions with a list of values for each parameter."""
    if not isinstance(given, Mapping):
        return given
    listed = {name: list(each) if isinstance(each, list | tuple) else [each] for name, each in given.items()}
    for name, values in listed.items():
        for value in values:
            if not isinstance(value, str | int | float) or (isinstance(value, float) and not math.isfinite(value)):
                raise ValueError(f"{name!r} takes a value, or a list of values, of that parameter, not {value!r}")
        if not values:
            raise ValueError(f"{name!r} has no value: the parameter would never be there")
    return listed


When = Annotated[
    dict[str, tuple[Choice, ...]],
    BeforeValidator(_listed),
    WithJsonSchema({"type": "object", "additionalProperties": True}),
]
"""Values of other parameters: a mapping of their names to a value, or to a list of values."""


class _Parameter(BaseModel):
    """What all parameters have. The fields in `_positional` may be given by position, as in `Float("x", 0, 1)`."""

    model_config = MODEL
    _positional: ClassVar[tuple[str, ...]] = ("name",)

    name: str = Field(description="Keyword under which the simulator receives the value.", max_length=200)
    unit: str | None = Field(default=None, description="Unit for tables, pictures and stores, such as nm.")
    description: str | None = Field(default=None, description="What the parameter is.")
    when: When | None = Field(
        default=None,
        description="There only where other parameters have one of these values, as in {material: TiO2}.",
    )

    @field_validator("when", mode="before")
    @classmethod
    def _nothing(cls, given: Any) -> Any:
        return None if given == {} else given  # as a form may send what was left out

    def __init__(self, *values: Any, **fields: Any) -> None:
        names = self._positional
        if len(values) > len(names):
            raise TypeError(f"{type(self).__name__} takes at most {len(names)} values by position: {', '.join(names)}")
        super().__init__(**dict(zip(names, values, strict=False)), **fields)

    @field_validator("name")
    @classmethod
    def _is_identifier(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError("a parameter's name has letters a-z, digits and underscores and starts with no digit")
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

    def cells(self, x: Array) -> npt.NDArray[np.int64]:
        """Which of the distinct values, counted from 0, the coordinates `x` of shape (n,) stand for."""
        return cell_of(x, self.levels).astype(np.int64)

    def middles(self, cells: npt.NDArray[np.int64]) -> Array:
        """Coordinates, shape (n,), in the middle of the intervals that the distinct values `cells` own."""
        return np.asarray((cells + 0.5) / self.levels)

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
            return np.minimum(self.low + cell_of(x, self.levels) * self.step, self.high)
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
        return self.low + self.step * cell_of(x, self.levels).astype(np.int64)

    def encode(self, values: Sequence[Any] | npt.NDArray[Any]) -> Array:
        """Coordinates, shape (n,), of the values."""
        given = np.asarray(values, dtype=np.float64)
        if self.log:
            bottom, top = math.log(self.low - 0.5), math.log(self.high + 0.5)
            return np.clip((np.log(np.clip(given, self.low, self.high)) - bottom) / (top - bottom), 0.0, 1.0)
        return (np.clip(np.rint((given - self.low) / self.step), 0, self.levels - 1) + 0.5) / self.levels

    def cells(self, x: Array) -> npt.NDArray[np.int64]:
        """Which of the values, counted from 0, the coordinates `x` of shape (n,) stand for."""
        return np.asarray(self.decode(x) - self.low, dtype=np.int64) if self.log else super().cells(x)

    def middles(self, cells: npt.NDArray[np.int64]) -> Array:
        """Coordinates, shape (n,), in the middle of the intervals that the values `cells` own."""
        return self.encode(cells + self.low) if self.log else super().middles(cells)

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
        return table[cell_of(x, self.levels).astype(np.int64)]

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


def _check_bounds(low: float, high: float, log: bool) -> None:
    if not low < high:
        raise wrong_at("low", f"must be below high (low is {low:g}, high is {high:g})")
    if log and low <= 0:
        raise wrong_at(
            "low", f"must be above 0 for a log parameter (low is {low:g}); give a positive low or leave log out"
        )


def cell_of(x: Array, levels: int | npt.NDArray[np.int64]) -> Array:
    """Index of the interval, of `levels` equal ones in [0, 1], that each coordinate is in."""
    return np.clip(np.floor(x * levels), 0, levels - 1)
