"""The front of a study with several objectives: its trials, its hypervolume, its picture."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from prefect_simopt.hypervolume import hypervolume
from prefect_simopt.ranking import Scale
from prefect_simopt.study import Study
from prefect_simopt.trial import Trial

__all__ = ["Front", "front_of"]

_SHOWN = 20  # trials in a text


@dataclass(frozen=True)
class Front:
    """What no other trial dominates.

    Attributes:
        metrics: the objectives' metrics.
        signs: what each is multiplied by so that smaller is better.
        trials: of the front, best in the first objective first.
        values: the metrics of all feasible trials, shape (n, objectives).
    """

    metrics: Sequence[str]
    signs: Sequence[float]
    trials: Sequence[Trial]
    values: npt.NDArray[np.float64]

    @property
    def reference(self) -> npt.NDArray[np.float64]:
        """The worst value of each objective among all feasible trials, shape (objectives,), as metrics."""
        worst: npt.NDArray[np.float64] = np.array(self.signs) * (self.values * self.signs).max(axis=0)
        return worst

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

    def picture(self) -> str:
        """The front of two objectives among all feasible trials, as a PNG in base64."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.2, 4.4), layout="constrained")
        FigureCanvasAgg(figure)
        plot: Any = figure.add_subplot()
        every = len(self.values) // 3000 + 1
        plot.scatter(*self.values[::every].T, s=9, color="#9db8d9", label="feasible trial", linewidths=0)
        first, second = ([trial.metrics[name] for trial in self.trials] for name in self.metrics)
        plot.step(first, second, where="post", color="#1f4e8c", linewidth=1)
        plot.scatter(first, second, s=18, color="#1f4e8c", label="front", zorder=3)
        plot.set(xlabel=self.metrics[0], ylabel=self.metrics[1])
        plot.grid(color="#e4e4e4")
        plot.legend(frameon=False)
        with io.BytesIO() as file:
            figure.savefig(file, format="png", dpi=120)
            return base64.b64encode(file.getvalue()).decode()


def front_of(study: Study) -> Front | None:
    """The front of a study with several objectives; None where there is one objective, or nothing feasible."""
    scale = Scale.of(study.spec)
    metrics = [each.metric for each in scale.objectives]
    values = [[trial.metrics[name] for name in metrics] for trial in study.each() if scale.violation(trial) == 0]
    if len(metrics) < 2 or not values:
        return None
    return Front(metrics, [each.sign for each in scale.objectives], study.pareto, np.array(values))
