"""Which parameters there are at a point: those whose conditions, such as `when: {material: TiO2}`, hold there."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from prefect_simopt.errors import Problem, SpecError

if TYPE_CHECKING:
    from prefect_simopt.parameters import Categorical, Float, Int

__all__ = ["Conditions"]

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class _Condition(NamedTuple):
    """Parameter `child` is there only where parameter `parent` is, and is in one of the cells `allowed`."""

    child: int
    parent: int
    allowed: npt.NDArray[np.int64]


class Conditions:
    """The conditions of a space.

    Args:
        parameters: of the space, with names that differ.

    Attributes:
        order: numbers of the parameters, each one behind those that it depends on.
        parents: numbers of the parameters that others depend on.

    Raises:
        SpecError: a condition names an unknown parameter, one that is continuous, or a value that it does not have,
            or parameters depend on each other in a circle.
    """

    def __init__(self, parameters: "Sequence[Float | Int | Categorical]") -> None:
        self._parameters = list(parameters)
        numbers = {parameter.name: i for i, parameter in enumerate(parameters)}
        found = [
            condition
            for i, parameter in enumerate(parameters)
            if parameter.when
            for condition in _resolved(i, parameters, numbers)
        ]
        above: dict[int, list[int]] = {}
        for condition in found:
            above.setdefault(condition.child, []).append(condition.parent)
        self.order = list(_behind(len(self._parameters), above, parameters))
        self.parents = sorted({condition.parent for condition in found})
        place = {number: at for at, number in enumerate(self.order)}
        self._conditions = sorted(found, key=lambda condition: place[condition.child])

    def __bool__(self) -> bool:
        return bool(self._conditions)

    def active(self, x: Array) -> Mask:
        """Which parameters there are at the points `x`, both of shape (n, d)."""
        active = np.ones(x.shape, dtype=bool)
        cells: dict[int, npt.NDArray[np.int64]] = {}
        for child, parent, allowed in self._conditions:
            if parent not in cells:
                cells[parent] = self._parameters[parent].cells(x[:, parent])
            active[:, child] &= active[:, parent] & (cells[parent][:, None] == allowed).any(axis=1)
        return active


def _resolved(
    i: int, parameters: "Sequence[Float | Int | Categorical]", numbers: dict[str, int]
) -> Iterator[_Condition]:
    """The conditions of one parameter."""
    for name, values in (parameters[i].when or {}).items():
        if name not in numbers:
            close = get_close_matches(name, numbers, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"those are {', '.join(numbers)}"
            raise _wrong(i, f"{name!r} is no parameter of the space; {hint}")
        if numbers[name] == i:
            raise _wrong(i, f"{name!r} cannot depend on itself")
        parent = parameters[numbers[name]]
        if not parent.levels:
            raise _wrong(i, f"{name!r} is continuous, and a condition names single values: give {name!r} a step, or "
                         "make it an int or categorical")  # fmt: skip
        try:
            checked = [parent.check(value) for value in values]
        except SpecError as error:
            (problem,) = error.problems
            raise _wrong(i, f"{problem.value} of {name!r} {problem.message}") from None
        yield _Condition(i, numbers[name], parent.cells(parent.encode(checked)))


def _behind(
    count: int, above: dict[int, list[int]], parameters: "Sequence[Float | Int | Categorical]"
) -> Iterator[int]:
    """All numbers below `count`, each behind those that it depends on, otherwise in their order."""
    done: set[int] = set()
    for start in range(count):
        way = {} if start in done else {start: None}  # in order: each depends on the next
        while way:
            last = next(reversed(way))
            left = next((each for each in above.get(last, ()) if each not in done), None)
            if left is None:
                way.popitem()
                done.add(last)
                yield last
            elif left in way:
                numbers = list(way)
                circle = [parameters[each].name for each in [*numbers[numbers.index(left) :], left]]
                raise _wrong(left, f"goes round in a circle: {', which depends on '.join(map(repr, circle))}")
            else:
                way[left] = None


def _wrong(i: int, message: str) -> SpecError:
    return SpecError([Problem(f"space[{i}].when", message)])
