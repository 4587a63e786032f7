"""What a Python simulator sees of us: the `simulator` mark, `Result`, `Field` and `Context`. All of it is optional.

A simulator is a function with one keyword per parameter that returns a number (the metric `value`), a dict of
metrics, or a `Result`. Nothing here imports anything heavy, NumPy included, so that a simulator's module stays light.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["BATCH_SIZE", "Context", "Field", "Result", "Traits", "simulator", "traits"]

F = TypeVar("F", bound=Callable[..., Any])

BATCH_SIZE = 16
"""Rows in each call of a `batch=True` simulator that asks for no other number."""


@dataclass(frozen=True)
class Field:
    """An array output with the names of its axes.

    Attributes:
        values: the array.
        dims: one name per axis; left out: `<field>_0`, `<field>_1` and so on.
        unit: unit of the values, such as `V/m`.
        coords: coordinate values by axis name; the same for every trial of a study.
        coord_units: units of the coordinates by axis name.
    """

    values: "npt.ArrayLike"
    dims: tuple[str, ...] = ()
    unit: str = ""
    coords: "Mapping[str, npt.ArrayLike]" = field(default_factory=dict)
    coord_units: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """Metrics and fields of one trial, or of a whole batch when each has a leading axis of trials.

    Attributes:
        metrics: finite numbers by name.
        fields: arrays, or `Field`s, by name.
        gradients: derivatives of metrics by float parameters, as `{metric: {parameter: number}}`, from a simulator
            marked `gradients=True`.
    """

    metrics: Mapping[str, Any]
    fields: "Mapping[str, npt.ArrayLike | Field]" = field(default_factory=dict)
    gradients: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Context:
    """What a simulator may ask to know, by having a parameter called `context`.

    Attributes:
        seed: the trial's own seed, below 2**31; an array of shape (n,) in a `batch=True` simulator.
        trial: the trial's number; likewise.
        directory: an empty directory of the trial's own (in a batch: of the batch), removed when it has ended.
        progress: call with the finished fraction, 0 to 1.
        log: call with a line for the run's log.
    """

    seed: Any
    trial: Any
    directory: Path
    progress: Callable[[float], None]
    log: Callable[[str], None]


@dataclass(frozen=True)
class Traits:
    """What a simulator's author declared with `@simulator(...)`.

    Attributes:
        batch: rows in each call, 0 for one trial at a time.
        differentiable: whether JAX may differentiate it.
        gradients: whether it returns gradients itself.
    """

    batch: int = 0
    differentiable: bool = False
    gradients: bool = False


@overload
def simulator(function: F) -> F: ...
@overload
def simulator(
    *, batch: bool = False, batch_size: int = BATCH_SIZE, differentiable: bool = False, gradients: bool = False
) -> Callable[[F], F]: ...
def simulator(
    function: F | None = None,
    *,
    batch: bool = False,
    batch_size: int = BATCH_SIZE,
    differentiable: bool = False,
    gradients: bool = False,
) -> F | Callable[[F], F]:
    """Declare how a function may be called. The function itself stays as it is.

    Args:
        function: the function, when used without parentheses.
        batch: it takes each parameter as an array of shape (n,) and returns metrics of shape (n,) and fields of
            shape (n, ...). Every call has exactly `batch_size` rows, filled up with repeated rows where there are
            fewer trials, and a trial always stands in the same row among the same neighbours: so a compiled
            simulator compiles once, and its results depend neither on the number of workers nor on interruptions.
        batch_size: rows of a call.
        differentiable: its metrics may be differentiated by JAX with respect to the float parameters.
        gradients: it returns derivatives by all float parameters itself, in `Result(metrics, gradients=...)`.

    Example:
        ```python
        @simulator(batch=True, batch_size=64)
        def sphere(x, y):
            return {"value": x**2 + y**2}
        ```
    """
    declared = Traits(batch_size if batch else 0, differentiable, gradients)

    def mark(marked: F) -> F:
        marked.__simopt__ = declared  # type: ignore[attr-defined]
        return marked

    return mark if function is None else mark(function)


def traits(function: Callable[..., Any]) -> Traits:
    """What the function's author declared; the defaults for an unmarked one."""
    found = getattr(function, "__simopt__", None)
    return found if isinstance(found, Traits) else Traits()
