"""The front of a study with several objectives: its trials, its hypervolume, its picture."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prefect_simopt.hypervolume import hypervolume
from prefect_simopt.ranking import Scale
from prefect_simopt.report.drawing import DOT, LINE, Axis, Thinned, dot, frame, grid, legend, mark, number, staircase
from prefect_simopt.study import Study
from prefect_simopt.trial import Status, Trial

__all__ = ["Cloud", "Front", "front_of"]

Array = npt.NDArray[np.float64]

_SHOWN = 20  # trials in a text


@dataclass(frozen=True)
class Front:
    """What no other trial dominates.

    Attributes:
        metrics: the objectives' metrics.
        signs: what each is multiplied by so that smaller is better.
        trials: of the front, best in the first objective first.
        reference: the worst value of each objective among all feasible trials, shape (objectives,), as metrics.
        sample: the first two metrics of feasible trials; of very many, of some.
    """

    metrics: Sequence[str]
    signs: Sequence[float]
    trials: Sequence[Trial]
    reference: Array
    sample: Sequence[tuple[float, float]]

    @property
    def hypervolume(self) -> float:
        """What the front dominates of the box that begins at the reference point, in the product of the units."""
        front = [[trial.metrics[metric] for metric in self.metrics] for trial in self.trials]
        return hypervolume(np.array(front) * self.signs, self.reference * self.signs)

    def sentence(self) -> str:
        """The hypervolume, and what it is measured from."""
        point = ", ".join(f"{metric} = {value:.6g}" for metric, value in zip(self.metrics, self.reference, strict=True))
        return f"hypervolume {self.hypervolume:.6g}, measured from {point}, the worst of all feasible trials"

    def text(self) -> str:
        """The trials of the front, a line each, and the hypervolume."""
        lines = [f"{len(self.trials)} trials that no other one dominates:"]
        for trial in self.trials[:_SHOWN]:
            metrics = ", ".join(f"{name} = {trial.metrics[name]:.6g}" for name in self.metrics)
            lines.append(f"  trial {trial.number}: {metrics}")
        if len(self.trials) > _SHOWN:
            lines.append(f"  and {len(self.trials) - _SHOWN} more")
        return "\n".join([*lines, self.sentence()])

    def picture(self, title: str) -> str:
        """The front among feasible trials, as SVG: of more than two objectives along the first two."""
        first, second = ([trial.metrics[name] for trial in self.trials] for name in self.metrics[:2])
        across = Axis.over(first + [x for x, _ in self.sample])
        up = Axis.over(second + [y for _, y in self.sample])
        places = [(across.x(x), up.y(y)) for x, y in zip(first, second, strict=True)]
        parts = [frame(title, self.metrics[0], self.metrics[1])]
        parts += [grid(up.y(tick), number(tick)) for tick in up.ticks]
        parts += [mark(across.x(tick), number(tick)) for tick in across.ticks]
        parts += [dot(across.x(x), up.y(y), DOT) for x, y in self.sample]
        if len(self.metrics) == 2:
            parts.append(staircase(places))
        parts += [dot(x, y, LINE, 3.5) for x, y in places]
        return "".join(parts) + legend([(LINE, "front"), (DOT, "feasible trial")]) + "</svg>"


class Cloud:
    """The feasible trials of a study with several objectives. Its memory stays small, however many there are.

    Args:
        scale: the study's objectives and constraints.
    """

    def __init__(self, scale: Scale) -> None:
        self._scale = scale
        self._metrics = [each.metric for each in scale.objectives]
        self._signs = np.array([each.sign for each in scale.objectives])
        self._worst = np.full(len(self._signs), -np.inf)
        self._sample = Thinned()

    def add(self, trial: Trial) -> None:
        """Take a trial that has ended into account."""
        if trial.status is not Status.COMPLETE or self._scale.violation(trial) > 0:
            return
        values = [trial.metrics[name] for name in self._metrics]
        self._worst = np.maximum(self._worst, self._signs * values)
        self._sample.add(values[0], values[1])

    def front(self, trials: Sequence[Trial]) -> Front | None:
        """The front that these trials are; None while nothing is feasible."""
        if not self._sample.seen or not trials:
            return None
        ranked = sorted(trials, key=lambda trial: (self._scale.values(trial), trial.number))
        return Front(self._metrics, self._signs.tolist(), ranked, self._signs * self._worst, list(self._sample.kept))


def front_of(study: Study) -> Front | None:
    """The front of a study with several objectives; None where there is one objective, or nothing feasible."""
    scale = Scale.of(study.spec)
    if len(scale.objectives) < 2:
        return None
    cloud = Cloud(scale)
    for trial in study.each():
        cloud.add(trial)
    return cloud.front(study.pareto)
