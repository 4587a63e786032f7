"""What a simulator returned, turned into plain metrics and fields, or into the reason why that cannot be done."""

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

from prefect_simopt.simulators.contract import Field, Result
from prefect_simopt.simulators.failure import RunFailure
from prefect_simopt.trial import Reason

__all__ = ["check_metrics", "split_batch", "to_fields", "to_metrics"]

_SHOWN = 80


def to_result(returned: Any) -> Result:
    """A `Result` out of anything that a simulator may return."""
    if isinstance(returned, Result):
        if not isinstance(returned.metrics, Mapping):
            raise RunFailure(Reason.BAD_RESULT, f"the metrics are {_a(returned.metrics)}; return a dict of numbers")
        if not isinstance(returned.fields, Mapping):
            raise RunFailure(Reason.BAD_FIELD, f"the fields are {_a(returned.fields)}; return a dict of arrays")
        return returned
    if isinstance(returned, Mapping):
        return Result(returned)
    if returned is None:
        raise RunFailure(Reason.BAD_RESULT, "the simulator returned None; is a return statement missing?")
    return Result({"value": returned})


def to_metrics(metrics: Mapping[str, Any], required: Sequence[str] = ()) -> dict[str, float]:
    """Finite numbers by name.

    Raises:
        RunFailure: a value is no number or not finite, a name is no text, or a required metric is missing.
    """
    plain = {}
    for name, value in metrics.items():
        check_name(name, "metric")
        plain[name] = value if type(value) is float else to_number(name, value)
    check_metrics(plain, required)
    return plain


def check_metrics(metrics: Mapping[str, float], required: Sequence[str]) -> None:
    """Raise `RunFailure` where a required metric is missing or a metric is not finite."""
    for name in required:
        if name not in metrics:
            there = ", ".join(map(repr, list(metrics)[:20])) or "none"
            raise RunFailure(Reason.MISSING_METRIC, f"metric {name!r} is missing (those there are: {there})")
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise RunFailure(Reason.NOT_FINITE, f"metric {name!r} is {value}")


def to_number(name: str, value: Any) -> float:
    """A float out of a Python, NumPy or JAX number."""
    shape = getattr(value, "shape", ())
    if shape != ():
        raise RunFailure(
            Reason.BAD_RESULT,
            f"metric {name!r} is an array of shape {shape}; a metric is one number (fields hold arrays)",
        )
    if isinstance(value, numbers.Complex) and not isinstance(value, numbers.Real):
        raise RunFailure(Reason.BAD_RESULT, f"metric {name!r} is a complex number; return its modulus or a part of it")
    if (isinstance(value, str | bytes) or not hasattr(value, "__float__")) and not hasattr(value, "__index__"):
        raise RunFailure(Reason.BAD_RESULT, f"metric {name!r} is {_a(value)}, not a number")
    try:
        return float(value)
    except OverflowError:
        raise RunFailure(Reason.NOT_FINITE, f"metric {name!r} is too large for a double") from None
    except Exception as error:  # noqa: BLE001 - any type may define __float__, and fail in it
        raise RunFailure(Reason.BAD_RESULT, f"metric {name!r} is {_a(value)}, not a number ({error})") from None


def to_fields(fields: Mapping[str, Any]) -> dict[str, Field]:
    """Numeric arrays by name, each as a `Field`.

    Raises:
        RunFailure: an array has a dtype that cannot be stored, or its axes do not fit its names or coordinates.
    """
    if not fields:
        return {}
    import numpy as np

    plain = {}
    for name, given in fields.items():
        check_name(name, "field")
        field = given if isinstance(given, Field) else Field(given)
        try:
            values = np.asarray(field.values)
        except Exception as error:  # noqa: BLE001 - ragged lists, arrays of a deleted device, anything
            raise RunFailure(Reason.BAD_FIELD, f"field {name!r} is no array: {error}") from None
        if values.dtype.kind not in "biufc" or values.dtype.itemsize > 16 or values.dtype == np.longdouble:
            raise RunFailure(
                Reason.BAD_FIELD, f"field {name!r} has dtype {values.dtype}; a field is an array of plain numbers"
            )
        dims = tuple(field.dims)
        if dims and (len(dims) != values.ndim or len(set(dims)) < len(dims)):
            raise RunFailure(
                Reason.BAD_FIELD,
                f"field {name!r} has shape {values.shape} but its dims are {list(dims)}; name each axis once",
            )
        for axis, coordinate in field.coords.items():
            length = np.shape(coordinate)
            if axis in dims and length != (values.shape[dims.index(axis)],):
                expected = values.shape[dims.index(axis)]
                raise RunFailure(
                    Reason.BAD_FIELD, f"field {name!r}: coordinate {axis!r} has shape {length}, not ({expected},)"
                )
        plain[name] = Field(values, dims, field.unit, field.coords, field.coord_units)
    return plain


def split_batch(returned: Any, rows: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Metrics and fields of each row out of what a `batch=True` simulator returned for `rows` rows."""
    import numpy as np

    result = to_result(returned)
    metrics: list[dict[str, Any]] = [{} for _ in range(rows)]
    fields: list[dict[str, Any]] = [{} for _ in range(rows)]
    for name, value in result.metrics.items():
        check_name(name, "metric")
        values = np.asarray(value)
        if values.shape != (rows,):
            raise RunFailure(
                Reason.BAD_RESULT, f"metric {name!r} has shape {values.shape}; of {rows} rows, return shape ({rows},)"
            )
        for row, number in enumerate(values.tolist()):
            metrics[row][name] = number
    for name, given in result.fields.items():
        check_name(name, "field")
        field = given if isinstance(given, Field) else Field(given)
        try:
            values = np.asarray(field.values)
        except Exception as error:  # noqa: BLE001
            raise RunFailure(Reason.BAD_FIELD, f"field {name!r} is no array: {error}") from None
        if values.ndim == 0 or values.shape[0] != rows:
            raise RunFailure(
                Reason.BAD_FIELD, f"field {name!r} has shape {values.shape}; of {rows} rows, return shape ({rows}, ...)"
            )
        dims = tuple(field.dims)[1:] if len(field.dims) == values.ndim else tuple(field.dims)
        for row in range(rows):
            fields[row][name] = Field(values[row], dims, field.unit, field.coords, field.coord_units)
    return list(zip(metrics, fields, strict=True))


def check_name(name: Any, kind: str) -> None:
    """Raise `RunFailure` unless the name can be a key of the store."""
    if type(name) is str and name.isidentifier() and len(name) <= 200:
        return
    wrong = not isinstance(name, str) or not name or len(name) > 200 or name != name.strip()
    if wrong or set(name) & set("/\\\0\r\n") or not name.isprintable():
        reason = Reason.BAD_FIELD if kind == "field" else Reason.BAD_RESULT
        raise RunFailure(reason, f"{str(name)[:_SHOWN]!r} is no name of a {kind}; use a short text without slashes")


def _a(value: Any) -> str:
    """The value in words."""
    if value is None:
        return "None"
    if isinstance(value, str | bytes):
        return f"the text {value[:_SHOWN]!r}"
    return f"of type {type(value).__name__}"
