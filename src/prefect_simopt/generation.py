"""A generation under way: the trials that were asked for together, their runs, and those that have ended."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from prefect_simopt.seeds import derive_seed
from prefect_simopt.spec import StudySpec
from prefect_simopt.trial import Run, Trial

__all__ = ["Generation"]


@dataclass
class Generation:
    """Trials asked for together.

    Attributes:
        number: counted from 0.
        asked: its trials by number, in the order in which they were asked, pending.
        runs: one for each replicate of each trial, in order.
        told: those of its trials that have been recorded, by number.
    """

    number: int
    asked: dict[int, Trial]
    runs: list[Run]
    told: dict[int, Trial] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        spec: StudySpec,
        number: int,
        trials: Sequence[int],
        points: Sequence[Mapping[str, Any]],
        fidelities: Sequence[float],
        attempts: Callable[[int, int], int],
    ) -> Self:
        """The generation of n points.

        Args:
            spec: the question.
            number: of the generation.
            trials: numbers of the trials, n.
            points: their parameters by name, n.
            fidelities: n; none without levels of fidelity.
            attempts: how many runs of a trial and replicate have failed before.
        """
        asked: dict[int, Trial] = {}
        runs: list[Run] = []
        levels = spec.fidelity
        for row, (trial, point) in enumerate(zip(trials, points, strict=True)):
            fidelity = None if levels is None else fidelities[row]
            keywords = point if levels is None else {**point, levels.name: levels.keyword(fidelities[row])}
            seeds = [derive_seed(spec.seed, trial, replicate) for replicate in range(spec.replicates)]
            asked[trial] = Trial(trial, point, seed=seeds[0], generation=number, fidelity=fidelity)
            runs += [
                Run(
                    trial,
                    keywords,
                    seed=seed,
                    replicate=replicate,
                    generation=number,
                    row=row * spec.replicates + replicate,
                    attempt=attempts(trial, replicate),
                    fidelity=fidelity,
                )
                for replicate, seed in enumerate(seeds)
            ]
        return cls(number, asked, runs)

    @property
    def fidelities(self) -> list[float]:
        """Of its trials, in order; none without levels of fidelity."""
        return [trial.fidelity for trial in self.asked.values() if trial.fidelity is not None]

    @property
    def seeds(self) -> list[int]:
        """Of its trials' first replicates, in order."""
        return [trial.seed for trial in self.asked.values()]

    @property
    def whole(self) -> bool:
        """Whether every trial has ended."""
        return len(self.told) == len(self.asked)
