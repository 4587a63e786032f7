"""What people ask of a study while it runs or rests: their points, a pause, more trials, narrower bounds.

A request changes which points come next, so it is part of the record: a resumed study takes it up at the same place of
its order again. Nothing here touches a store; `requests.py` does.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from prefect_simopt.errors import Problem, SpecError
from prefect_simopt.optimizers.box import Box
from prefect_simopt.optimizers.repair import feasible_point
from prefect_simopt.problems import problems_of
from prefect_simopt.space import Categorical, Float, Int, Space
from prefect_simopt.spec import Budget

__all__ = ["Kind", "Request", "Steering"]

Array = npt.NDArray[np.float64]
Kind = Literal["suggest", "narrow", "extend", "pause", "resume"]
"""What can be asked for."""


@dataclass(frozen=True)
class Request:
    """What somebody asks of a study.

    Attributes:
        kind: what is asked for.
        content: of `suggest` the `points`, of `narrow` the `bounds`, as name: [low, high], of `extend` the `trials`,
            the `cost` and the `wall_time` that the budget is to have in all; else empty.
        agent: who asks, as user@host.
        at: when, as text.
        token: what tells it from all others.
    """

    kind: Kind
    content: Mapping[str, Any] = field(default_factory=dict)
    agent: str = ""
    at: str = ""
    token: str = ""

    @property
    def sentence(self) -> str:
        """What was asked for, in words."""
        if self.kind == "suggest":
            points = self.content["points"]
            return f"{self.agent} suggests {len(points)} point{'s' if len(points) > 1 else ''}"
        if self.kind == "narrow":
            bounds = [f"{name} to {_range(*each)}" for name, each in self.content["bounds"].items()]
            return f"{self.agent} narrows {', '.join(bounds)}"
        if self.kind == "extend":
            words = {"trials": "{} trials", "cost": "a cost of {:g}", "wall_time": "{} s of wall time"}
            parts = [text.format(self.content[name]) for name, text in words.items() if name in self.content]
            return f"{self.agent} extends the budget to {' and '.join(parts)}"
        return f"{self.agent} {'pauses' if self.kind == 'pause' else 'resumes'} the study"

    def to_json(self) -> dict[str, Any]:
        """A JSON document."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Any) -> Self:
        """The inverse of `to_json`.

        Raises:
            ValueError: it is no request.
        """
        kind = document.get("kind") if isinstance(document, Mapping) and "content" in document else None
        if kind is None or kind not in get_args(Kind) or not _is_sound(kind, document["content"]):
            raise ValueError("it is no request")
        texts = [str(document.get(name, "")) for name in ("agent", "at", "token")]
        return cls(document["kind"], document["content"], *texts)


@dataclass(frozen=True)
class Steering:
    """What the requests that were taken up so far come to.

    Attributes:
        trials: what the budget's was extended to; None where it was not.
        wall_time: likewise, in seconds.
        cost: likewise, in trials at the highest fidelity.
        bounds: those that the search was narrowed to, by parameter: smallest and largest value.
        paused: who paused the search, and when; empty while it is not paused.
        requests: how many have been taken up.
    """

    trials: int | None = None
    wall_time: float | None = None
    cost: float | None = None
    bounds: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    paused: str = ""
    requests: int = 0

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> Self:
        """That of a study, from the attributes of its root group."""
        return cls(**attributes.get("steering", {}))

    def document(self) -> dict[str, Any]:
        """As stored in the attributes."""
        return {name: value for name, value in asdict(self).items() if value}

    def budget(self, budget: Budget) -> Budget:
        """The budget with what it was extended by."""
        trials = max(budget.trials, self.trials or 0)
        wall_time = budget.wall_time and max(budget.wall_time, self.wall_time or 0.0)
        cost = budget.cost and max(budget.cost, self.cost or 0.0)
        return budget.model_copy(update={"trials": trials, "wall_time": wall_time, "cost": cost})

    def box(self, space: Space) -> Box | None:
        """What the search was narrowed to, in the unit cube; None where it was not."""
        if not self.bounds:
            return None
        low, high = np.zeros(space.dimensions), np.ones(space.dimensions)
        for i, parameter in enumerate(space.parameters):
            if parameter.name in self.bounds:
                low[i], high[i] = _coordinates(parameter, *self.bounds[parameter.name])
        return Box(space, low, high)

    def after(self, request: Request, space: Space, budget: Budget) -> Self:
        """What it comes to with one more request.

        Args:
            request: the one that follows.
            space: of the study.
            budget: the spec's.

        Raises:
            SpecError: the study cannot do that.
        """
        content, requests = request.content, self.requests + 1
        if request.kind == "narrow":
            bounds = {**self.bounds, **self._narrowed(content.get("bounds"), space)}
            narrowed = replace(self, bounds=bounds, requests=requests)
            if space.relations:
                feasible_point(space, narrowed.box(space))
            return narrowed
        if request.kind == "extend":
            return replace(self, **self._extended(content, budget), requests=requests)
        if request.kind == "suggest":
            self.points(content.get("points"), space)
            return replace(self, requests=requests)
        paused = f"{request.agent}, {request.at}" if request.kind == "pause" else ""
        return replace(self, paused=paused, requests=requests)

    def points(self, points: Any, space: Space) -> Array:
        """The coordinates of points that somebody suggests, shape (n, d).

        Raises:
            SpecError: a point lacks a parameter, or is outside the space, its relations or the narrowed bounds.
        """
        if not isinstance(points, list | tuple) or not points:
            raise SpecError("there is no point to suggest; give --param NAME=VALUE for every parameter, or --file")
        problems: list[Problem] = []
        checked: list[dict[str, Any]] = []
        for row, point in enumerate(points):
            place = f"points[{row}]" if len(points) > 1 else ""
            try:
                checked.append(space.check(point))
            except SpecError as error:
                problems += [replace(each, path=f"{place}.{each.path}".strip(".")) for each in error.problems]
                continue
            x = space.snap(space.encode(checked[-1:]))
            if space.violation(x)[0] > 0:
                relations = "; ".join(relation.text for relation in space.relations)
                problems.append(Problem(place, f"violates a relation of the space ({relations})"))
            elif (box := self.box(space)) is not None and not box.inside(x)[0]:
                shown = ", ".join(f"{name} to {_range(*each)}" for name, each in self.bounds.items())
                problems.append(Problem(place, f"is outside what the search was narrowed to ({shown})"))
        if problems:
            raise SpecError(problems)
        return space.snap(space.encode(checked))

    def _narrowed(self, bounds: Any, space: Space) -> dict[str, list[Any]]:
        if not isinstance(bounds, Mapping) or not bounds:
            raise SpecError("there is nothing to narrow; give --param NAME=LOW:HIGH")
        parameters = {parameter.name: parameter for parameter in space.parameters}
        problems: list[Problem] = []
        for name, (low, high) in bounds.items():
            if name not in parameters:
                problems.append(Problem(name, f"is no parameter of the space; those are {', '.join(parameters)}"))
                continue
            try:
                self._check_bounds(parameters[name], low, high)
            except SpecError as error:
                problems += [replace(each, path=name) for each in error.problems]
        if problems:
            raise SpecError(problems)
        return {name: list(each) for name, each in bounds.items()}

    def _check_bounds(self, parameter: Float | Int | Categorical, low: Any, high: Any) -> None:
        if isinstance(parameter, Categorical):
            if low != high:
                raise SpecError("has no order; give the one choice that is to stay")
            parameter.check(low)
            now = self.bounds.get(parameter.name, [low])
            if now[0] != low:
                raise SpecError(f"was fixed to {now[0]!r} already; bounds may only get narrower")
            return
        for value in (low, high):
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise SpecError([Problem("", "needs numbers, as in LOW:HIGH", repr(value))])
        least, most = self.bounds.get(parameter.name, [parameter.low, parameter.high])
        if low > high:
            raise SpecError(f"low must not be above high (low is {low:g}, high is {high:g})")
        if low < least or high > most:
            now = _range(least, most)
            raise SpecError(f"bounds may only get narrower; they are {now} now, not {_range(low, high)}")
        _coordinates(parameter, low, high)

    def _extended(self, content: Mapping[str, Any], budget: Budget) -> dict[str, Any]:
        now, changes = self.budget(budget), dict[str, Any]()
        for name in ("trials", "cost", "wall_time"):
            if (wanted := content.get(name)) is None:
                continue
            if isinstance(wanted, bool) or not isinstance(wanted, int | float) or not 0 < wanted < math.inf:
                raise SpecError([Problem(f"budget.{name}", "must be a positive number", repr(wanted))])
            known = getattr(now, name)
            if known is None:
                raise SpecError([Problem(f"budget.{name}", "is not limited, so there is nothing to extend")])
            if wanted <= known:
                raise SpecError([Problem(f"budget.{name}", f"is {known:g} now and may only grow", f"{wanted:g}")])
            changes[name] = wanted
        if not changes:
            raise SpecError("there is nothing to extend; give --trials, --cost or --wall-time")
        try:
            Budget.model_validate({**budget.model_dump(), **changes})
        except ValidationError as error:
            problems = problems_of(error, Budget)
            raise SpecError([replace(each, path=f"budget.{each.path}") for each in problems]) from None
        return changes


def _is_sound(kind: Kind, content: Any) -> bool:
    """Whether the content has the shape that its kind needs; what it says is looked at when it is taken up."""
    if not isinstance(content, Mapping):
        return False
    if kind == "suggest":
        points = content.get("points")
        return isinstance(points, list) and all(isinstance(point, Mapping) for point in points)
    if kind == "narrow":
        bounds = content.get("bounds")
        pairs = list(bounds.values()) if isinstance(bounds, Mapping) else [None]
        return all(isinstance(each, list) and len(each) == 2 for each in pairs)
    return True


def _coordinates(parameter: Float | Int | Categorical, low: Any, high: Any) -> tuple[float, float]:
    """The smallest and the largest coordinate whose values are within bounds.

    Raises:
        SpecError: the parameter has no value there.
    """
    if isinstance(parameter, Categorical):
        first, last = low, high
    elif parameter.levels:
        step = parameter.step or 1
        # A multiple of a decimal step is rarely the very number that a person writes.
        cells = math.ceil((low - parameter.low) / step - 1e-9), math.floor((high - parameter.low) / step + 1e-9)
        if cells[0] > cells[1]:
            raise SpecError([Problem(parameter.name, f"has no value from {_range(low, high)}")])
        first, last = (parameter.low + cell * step for cell in cells)
    else:
        first, last = low, high
    a, b = parameter.encode([first, last]).tolist()
    if first == last or parameter.levels:
        return a, b
    while parameter.decode(np.array([a]))[0] < low:  # rounding must not lead beyond a bound
        a = float(np.nextafter(a, 1.0))
    while parameter.decode(np.array([b]))[0] > high:
        b = float(np.nextafter(b, 0.0))
    return a, b


def _range(low: Any, high: Any) -> str:
    return str(low) if low == high else f"{_plain(low)} to {_plain(high)}"


def _plain(value: Any) -> str:
    return f"{value:.15g}" if isinstance(value, float) else str(value)
