"""Our optimizers as a gest-api generator, for Xopt, libEnsemble and whatever else speaks that standard.

Needs `pip install prefect-simopt[gest]`; nothing else of ours imports this module.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gest_api import Generator
from gest_api.vocs import (
    VOCS,
    ContextualVariable,
    DiscreteVariable,
    ExploreObjective,
    MaximizeObjective,
)

from prefect_simopt.optimizers.make import make_optimizer
from prefect_simopt.space import Categorical, Float, Int, Space

__all__ = ["SimoptGenerator"]


class SimoptGenerator(Generator):  # type: ignore[misc, unused-ignore]
    """Suggests points by any optimizer of ours, and takes in what came of them by their `_id`.

    Args:
        vocs: variables, objectives to minimize or maximize, constraints and constants. Consecutive whole numbers are
            an integer, other discrete values have no order.
        optimizer: an optimizer's name, or a dict as in the study spec.
        seed: of all its random numbers.
        batch: points that `suggest` returns when it is not told how many.

    Raises:
        ValueError: the optimizer cannot take these variables or objectives; the message says which.

    Example:
        ```python
        generator = SimoptGenerator(VOCS(variables={"x": [-5, 5]}, objectives={"f": "MINIMIZE"}), "pso")
        points = generator.suggest(4)
        generator.ingest([{**point, "f": point["x"] ** 2} for point in points])
        ```
    """

    returns_id = True

    def __init__(self, vocs: VOCS, optimizer: Any = "auto", *, seed: int = 7, batch: int = 16) -> None:
        super().__init__(vocs)
        self.vocs = vocs
        free = {name: each for name, each in vocs.variables.items() if len(getattr(each, "values", "ab")) > 1}
        fixed = {name: next(iter(each.values)) for name, each in vocs.variables.items() if name not in free}
        self._fixed = fixed | {name: constant.value for name, constant in vocs.constants.items()}
        self._names = list(free)  # ours must be identifiers, those of gest-api need not be
        self._space = Space([_parameter(f"v{i}", variable) for i, variable in enumerate(free.values())])
        self._optimizer = make_optimizer(
            optimizer, self._space, seed=seed, objectives=len(vocs.objectives), batch=batch
        )
        self._left: list[dict[str, Any]] = []

    def _validate_vocs(self, vocs: VOCS) -> None:
        if not vocs.objectives:
            raise ValueError("there is no objective; name what to minimize or maximize")
        explored = [name for name, each in vocs.objectives.items() if isinstance(each, ExploreObjective)]
        if explored:
            raise ValueError(f"objective {explored[0]!r} is to be explored; minimize or maximize it")
        for name, variable in vocs.variables.items():
            observed, array = isinstance(variable, ContextualVariable), isinstance(variable.dtype, tuple)
            if observed:
                raise ValueError(f"variable {name!r} is observed only; our optimizers choose every variable")
            if array:
                raise ValueError(f"variable {name!r} is an array; give each of its entries a variable")

    def suggest(self, num_points: int | None = None) -> list[dict[str, Any]]:
        """Points to evaluate, each with its `_id`.

        Raises:
            ValueError: so many points are not left in a finite space.
        """
        wanted = self._optimizer.batch if num_points is None else num_points
        ids, x = self._optimizer.ask(max(wanted - len(self._left), 0))
        points = self._left + [
            dict(zip(self._names, point.values(), strict=True)) | self._fixed | {"_id": number}
            for number, point in zip(ids.tolist(), self._space.decode(x), strict=True)
        ]
        if num_points is not None and len(points) < wanted:
            self._left = points
            raise ValueError(f"only {len(points)} new points are left, not {wanted}; ask for fewer")
        self._left = points[wanted:]
        return points[:wanted]

    def ingest(self, results: Sequence[Mapping[str, Any]]) -> None:
        """Take in what came of suggested points; an objective or constraint that is NaN tells of a failed trial.

        Raises:
            ValueError: a point was not suggested here, is ingested twice, or lacks an objective or constraint.
        """
        for result in results:
            for name in ("_id", *self.vocs.objectives, *self.vocs.constraints):
                if name not in result:
                    hint = "; only points that were suggested here can be ingested" if name == "_id" else ""
                    raise ValueError(f"{name!r} is missing in {dict(result)}{hint}")
        signs = [-1.0 if isinstance(each, MaximizeObjective) else 1.0 for each in self.vocs.objectives.values()]
        values = np.array([[result[name] for name in self.vocs.objectives] for result in results], dtype=np.float64)
        values = values.reshape(len(results), len(signs)) * signs
        violations = [
            sum(_violation(constraint, result[name]) for name, constraint in self.vocs.constraints.items())
            for result in results
        ]
        told = values[:, 0] if len(signs) == 1 else values
        self._optimizer.tell([result["_id"] for result in results], told, violations)


def _parameter(name: str, variable: Any) -> Float | Int | Categorical:
    if not isinstance(variable, DiscreteVariable):
        low, high = variable.domain
        return Float(name=name, low=low, high=high)
    values = sorted(variable.values, key=lambda value: (type(value).__name__, value))
    whole = all(isinstance(value, int) and not isinstance(value, bool) for value in values)
    if whole and values == list(range(values[0], values[-1] + 1)):
        return Int(name=name, low=values[0], high=values[-1])
    return Categorical(name=name, choices=tuple(values))


def _violation(constraint: Any, value: float) -> float:
    """How far a value is from what a constraint allows, in its units."""
    low, high = getattr(constraint, "range", (-np.inf, np.inf))
    if hasattr(constraint, "value"):
        low, high = (low, constraint.value) if "Less" in type(constraint).__name__ else (constraint.value, high)
    return float(np.maximum(np.maximum(low - value, value - high), 0.0))
