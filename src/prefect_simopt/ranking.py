"""Which trial is better: feasible before infeasible, then the smaller violation, then the objectives (Deb 2000)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from prefect_simopt.fidelity import Fidelity
from prefect_simopt.spec import Constraint, Objective
from prefect_simopt.trial import Status, Trial

__all__ = ["Ranking", "Scale"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Scale:
    """Turns metrics into what optimizers compare.

    Attributes:
        objectives: what counts.
        constraints: what a feasible trial respects.
        fidelity: of which only the highest counts; None where there are no levels of it.
    """

    objectives: Sequence[Objective]
    constraints: Sequence[Constraint] = ()
    fidelity: Fidelity | None = None

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> "Scale":
        """The scale of a stored spec document."""
        return cls(
            [Objective.model_validate(each) for each in spec["objectives"]],
            [Constraint.model_validate(each) for each in spec.get("constraints", ())],
            None if spec.get("fidelity") is None else Fidelity.model_validate(spec["fidelity"]),
        )

    def counts(self, trial: Trial) -> bool:
        """Whether a trial may be the best: it is complete, at the highest fidelity."""
        return trial.status is Status.COMPLETE and (
            self.fidelity is None or trial.fidelity is None or trial.fidelity == self.fidelity.high
        )

    def cost(self, trial: Trial) -> float:
        """Cost of a trial, in trials at the highest fidelity."""
        return 1.0 if self.fidelity is None or trial.fidelity is None else self.fidelity.cost(trial.fidelity)

    def values(self, trial: Trial) -> list[float]:
        """The objectives, each to be minimized; NaN for a trial that is not complete."""
        if trial.status is not Status.COMPLETE:
            return [math.nan] * len(self.objectives)
        return [each.sign * trial.metrics[each.metric] for each in self.objectives]

    def violation(self, trial: Trial) -> float:
        """Sum of the constraints' violations, in the metrics' units: 0 when feasible, infinite when failed."""
        if trial.status is not Status.COMPLETE:
            return math.inf
        return math.fsum(each.violation(trial.metrics[each.metric]) for each in self.constraints)

    def reached(self, trial: Trial) -> bool:
        """Whether the trial is feasible and every objective that has a target has reached it."""
        targets = [each for each in self.objectives if each.target is not None]
        return (
            bool(targets)
            and self.violation(trial) == 0
            and all(each.sign * trial.metrics[each.metric] <= each.sign * (each.target or 0.0) for each in targets)
        )

    def violations(self, metrics: Array, names: Sequence[str]) -> Array:
        """`violation` of complete trials, shape (n,), from their metrics, shape (n, len(names))."""
        total = np.zeros(len(metrics))
        for each in self.constraints:
            values = metrics[:, names.index(each.metric)]
            below = 0.0 if each.low is None else each.low - values
            above = 0.0 if each.high is None else values - each.high
            total += np.maximum(np.maximum(below, above), 0.0)
        return total

    def front(self, metrics: Array, names: Sequence[str]) -> list[int]:
        """Rows of complete trials that no other dominates, best in the first objective first; of equal ones the first.

        Where none is feasible, the one with the smallest violation.
        """
        violations = self.violations(metrics, names)
        least = np.flatnonzero(violations == violations.min(initial=math.inf))
        if not len(least) or violations[least[0]] > 0:
            return [int(row) for row in least[:1]]
        values = np.stack([each.sign * metrics[least, names.index(each.metric)] for each in self.objectives], axis=1)
        left = np.lexsort((np.arange(len(values)), *values.T[::-1]))
        front: list[int] = []
        while len(left) and not (front and len(self.objectives) == 1):
            front.append(int(least[left[0]]))  # the first in this order is dominated by none that is left
            left = left[~(values[left[0]] <= values[left]).all(axis=1)]
        return front


@dataclass
class Ranking:
    """The best trials so far. Adding trials one at a time costs no more the more there were, but for the Pareto set.

    Attributes:
        scale: how trials compare.
        pareto: the trials that no other one dominates; with one objective, the best one, or none.
    """

    scale: Scale
    pareto: list[Trial] = field(default_factory=list)

    @property
    def best(self) -> Trial | None:
        """The best trial: of several Pareto-optimal ones, the best in the first objective."""
        return min(self.pareto, key=lambda trial: (self.scale.values(trial), trial.number), default=None)

    @property
    def feasible(self) -> bool:
        """Whether any trial was feasible."""
        return bool(self.pareto) and self.scale.violation(self.pareto[0]) == 0

    def add(self, trial: Trial) -> bool:
        """Take a trial into account; True when it is better than all before, or joins the Pareto set."""
        if not self.scale.counts(trial):
            return False
        violation, values = self.scale.violation(trial), self.scale.values(trial)
        if self.pareto:
            incumbent = self.scale.violation(self.pareto[0])
            if violation > incumbent or (violation == incumbent > 0):
                return False
            if violation < incumbent:
                self.pareto = [trial]
                return True
        others = [(other, self.scale.values(other)) for other in self.pareto]
        if any(all(b <= a for a, b in zip(values, theirs, strict=True)) for _, theirs in others):
            return False
        self.pareto = [other for other, theirs in others if any(a > b for a, b in zip(values, theirs, strict=True))]
        self.pareto.append(trial)
        return True
