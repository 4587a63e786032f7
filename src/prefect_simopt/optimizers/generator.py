"""Other people's generators: anything that suggests points and ingests results, from an entrypoint."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from prefect_simopt.errors import Problem, SimulatorError, SpecError
from prefect_simopt.optimizers.config import GeneratorConfig
from prefect_simopt.optimizers.engine import Engine
from prefect_simopt.optimizers.ranking import order
from prefect_simopt.space import Space

__all__ = ["Generator"]

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]

_SUGGEST, _INGEST = 0, 1


class Generator(Engine):
    """A generator as gest-api has it, made by the function that the configuration names.

    `make(space, seed, **arguments)`, with `objectives=` where there are several, returns an object with

    - `suggest(n)`: up to n points, each a dict with a value for every parameter; other entries, such as `_id`, come
      back with the result. No points: there are no more.
    - `ingest(results)`: a list of these dicts, with the parameters as they were simulated, `value` to be minimized
      (`value0`, `value1`, ... of several objectives; NaN for a failed trial) and `violation`, above 0 where infeasible.

    What a generator remembers is its own affair, and nothing of it is stored: the state is the list of all calls, and
    a resume makes the generator anew and calls it in the same way. Whether it then suggests the same is checked, by a
    SHA-256 over everything that it ever suggested; at the very beginning a second one is made and compared with the
    first, so that one that is not deterministic is refused before any simulation. So a resume is exact, and takes as
    long as the generator's own calls took; the state grows with the trials.

    Points that the relations exclude are pulled back towards the best trial. Points that people suggested are not told
    to it.

    Raises:
        SpecError: the function cannot be imported or called, the generator fails, suggests what is no point of the
            space, or is not deterministic.
    """

    config_type: ClassVar[type[GeneratorConfig]] = GeneratorConfig
    several_objectives: ClassVar[bool] = True
    memory: ClassVar[tuple[str, ...]] = ("_calls", "_ids", "_x", "_values", "_violations", "_digest")

    def __init__(self, config: Any, space: Space, seed: int = 7, objectives: int = 1, batch: int = 16) -> None:
        super().__init__(config, space, seed, objectives, config.population or batch)
        self._calls = np.empty((0, 3), dtype=np.int64)  # kind, number of points, first id
        self._ids, self._x = np.empty(0, dtype=np.int64), np.empty((0, space.dimensions))  # of all that was ingested
        self._values, self._violations = np.empty((0, objectives)), np.empty(0)
        self._digest = ""
        self._suggestions: dict[int, Mapping[str, Any]] = {}  # by id, of points that were not ingested yet
        self._factory = _imported(config)
        self._generator = self._made()

    def _propose(self, n: int) -> Array:
        points = self._suggested_by_generator(self._generator, n)
        if not len(self._calls):
            twins = self._suggested_by_generator(self._made(), n)
            if _fingerprint("", twins) != _fingerprint("", points):
                raise self._problem(
                    "is not deterministic: a second one with the same seed suggests other points, so that the study "
                    "could not be resumed. Let all its random numbers follow from `seed`"
                )
        self._note(_SUGGEST, n, points)
        anchors = self._anchors()
        rows = [np.empty((0, self.space.dimensions))]
        for number, x in enumerate(self._encoded(points), self._next):
            candidates = [x[None]]

            def draw(_: Ids, candidates: list[Array] = candidates) -> Array:
                if candidates and anchors is None:  # where the relations exclude it, any other point
                    return candidates.pop()
                return self._uniform() if anchors is None else candidates[0]

            placed = self._placement.place(1, draw, anchors)
            if not len(placed):
                break
            rows.append(placed)
            self._suggestions[number] = points[number - self._next]
        return np.concatenate(rows)

    def _learn(self, ids: Ids, x: Array, values: Array, violations: Array) -> None:
        own = np.array([key in self._suggestions for key in ids.tolist()], dtype=bool)
        ids, x, values, violations = ids[own], x[own], values[own].reshape(-1, self.objectives), violations[own]
        self._calls = np.concatenate([self._calls, [[_INGEST, len(ids), 0]]])
        self._ids, self._x = np.append(self._ids, ids), np.concatenate([self._x, x])
        self._values = np.concatenate([self._values, values])
        self._violations = np.append(self._violations, violations)
        self._ingest(ids, x, values, violations)

    def _ingest(self, ids: Ids, x: Array, values: Array, violations: Array) -> None:
        names = ["value"] if self.objectives == 1 else [f"value{i}" for i in range(self.objectives)]
        told = np.where(np.isfinite(values), values, np.nan).tolist()
        far = np.where(np.isfinite(violations), violations, np.nan).tolist()
        results = [
            {**self._suggestions.pop(key), **point, **dict(zip(names, value, strict=True)), "violation": violation}
            for key, point, value, violation in zip(ids.tolist(), self.space.decode(x), told, far, strict=True)
        ]
        try:
            self._generator.ingest(results)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - other people's code
            raise self._failed("ingest", error) from None

    def _uniform(self) -> Array:
        return self._placement.stretch(self._rng.random((1, self.space.dimensions)))

    def _anchors(self) -> Array | None:
        if not np.isfinite(self._values).any():
            return None
        return self._x[order(self._values[:, 0], self._violations)[:1]]

    def _made(self) -> Any:
        several = {"objectives": self.objectives} if self.objectives > 1 else {}
        try:
            made = self._factory(self.space, self.seed, **several, **self.config.arguments)
        except (Exception, SystemExit) as error:  # noqa: BLE001
            raise self._failed("make", error) from None
        lacking = [name for name in ("suggest", "ingest") if not callable(getattr(made, name, None))]
        if lacking:
            raise self._problem(f"gives an object of type {type(made).__name__} without {' and '.join(lacking)}()")
        return made

    def _suggested_by_generator(self, generator: Any, n: int) -> list[dict[str, Any]]:
        try:
            points = [dict(point) for point in generator.suggest(n)]
        except (Exception, SystemExit) as error:  # noqa: BLE001
            raise self._failed("suggest", error) from None
        if len(points) > n:
            raise self._problem(f"suggests {len(points)} points where {n} were asked for")
        return points

    def _encoded(self, points: Sequence[Mapping[str, Any]]) -> Array:
        for point in points:
            for parameter in self.space.parameters:
                if parameter.name not in point:
                    if parameter.when:  # not there for this point, or else any value
                        continue
                    raise self._problem(f"suggests a point without {parameter.name!r}: {dict(point)}")
                value = point[parameter.name]
                choices = getattr(parameter, "choices", None)
                if choices is not None and value not in choices:
                    raise self._problem(f"suggests {parameter.name} = {value!r}, which is none of its choices")
                if choices is None and not (isinstance(value, int | float | np.number) and np.isfinite(value)):
                    raise self._problem(f"suggests {parameter.name} = {value!r}, which is no number")
        return self.space.encode(points)

    def _note(self, kind: int, count: int, points: Sequence[Mapping[str, Any]]) -> None:
        self._calls = np.concatenate([self._calls, [[kind, count, self._next]]])
        self._digest = _fingerprint(self._digest, points)

    def _replay(self) -> None:
        """Call a new generator as the one of the state was called."""
        digest, start = "", 0
        pending = set(self._pending) | set(self._told)
        for kind, count, first in self._calls.tolist():
            if kind == _SUGGEST:
                points = self._suggested_by_generator(self._generator, count)
                digest = _fingerprint(digest, points)
                self._suggestions |= dict(enumerate(points, first))
            else:
                rows = slice(start, start + count)
                start += count
                if not set(self._ids[rows].tolist()) <= self._suggestions.keys():
                    break  # it suggests fewer points now
                self._ingest(self._ids[rows], self._x[rows], self._values[rows], self._violations[rows])
        if digest != self._digest:
            raise self._problem(
                "is not deterministic: called as it was before the study was interrupted, it suggests other points. "
                "Has it changed, or a package that it uses? Ask anew with --new"
            )
        self._suggestions = {key: point for key, point in self._suggestions.items() if key in pending}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """See `Optimizer.from_state`."""
        self = super().from_state(state)
        self._replay()
        return self

    def _problem(self, what: str) -> SpecError:
        return SpecError([Problem("optimizer.entrypoint", f"the generator {self.config.entrypoint} {what}")])

    def _failed(self, call: str, error: BaseException) -> SpecError:
        from prefect_simopt.simulators.resolve import where

        return self._problem(f"failed in {call}(): {where(error)}")


def _imported(config: Any) -> Callable[..., Any]:
    from prefect_simopt.simulators.resolve import import_function

    try:
        return import_function(config.entrypoint, Path(config.directory or ".").resolve())
    except SimulatorError as error:
        text = str(error).replace("simulator", "generator", 1)
        raise SpecError([Problem("optimizer.entrypoint", text)]) from None


def _fingerprint(before: str, points: Sequence[Mapping[str, Any]]) -> str:
    """SHA-256 over the hexadecimal `before` and some points."""
    text = json.dumps([sorted(point.items()) for point in points], default=_plain)
    return hashlib.sha256((before + text).encode()).hexdigest()


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else repr(type(value))
