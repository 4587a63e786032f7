"""Which trial is better: feasible before infeasible, then the smaller violation, then the objectives (Deb 2000)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefect_simopt.spec import Constraint, Objective
from prefect_simopt.trial import Status, Trial

__all__ = ["Ranking", "Scale"]


@dataclass(frozen=True)
class Scale:
    """Turns metrics into what optimizers compare.

    Attributes:
        objectives: what counts.
        constraints: what a feasible trial respects.
    """

    objectives: Sequence[Objective]
    constraints: Sequence[Constraint] = ()

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> "Scale":
        """The scale of a stored spec document."""
        return cls(
            [Objective.model_validate(each) for each in spec["objectives"]],
            [Constraint.model_validate(each) for each in spec.get("constraints", ())],
        )

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
        if trial.status is not Status.COMPLETE:
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
