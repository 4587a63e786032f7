"""Gradients of trials as optimizers take them: of values to be minimized, by coordinates of the unit cube."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from prefect_simopt.parameters import Float
from prefect_simopt.ranking import Scale
from prefect_simopt.space import Space
from prefect_simopt.trial import Status, Trial

__all__ = ["cube_gradients"]

Array = npt.NDArray[np.float64]


def cube_gradients(space: Space, scale: Scale, trials: Sequence[Trial]) -> Array:
    """Derivatives of each objective and then of the violation, shape (n, objectives + 1, d).

    NaN where they are not known; 0 by discrete parameters and by those that a trial does not have.

    Args:
        space: of the study.
        scale: its objectives and constraints.
        trials: n of its trials.
    """
    found = np.full((len(trials), len(scale.objectives) + 1, space.dimensions), np.nan)
    for row, trial in enumerate(trials):
        if trial.status is not Status.COMPLETE or not trial.gradients:
            continue
        stretch = np.array([_stretch(each, trial.parameters.get(each.name)) for each in space.parameters])

        def slope(metric: str, trial: Trial = trial, stretch: Array = stretch) -> Array:
            by = trial.gradients[metric]
            known = np.array([by.get(name, 0.0) for name in space.names], dtype=np.float64)  # None becomes NaN
            return np.asarray(known * stretch)

        for i, objective in enumerate(scale.objectives):
            found[row, i] = objective.sign * slope(objective.metric)
        found[row, -1] = 0.0
        for each in scale.constraints:
            value = trial.metrics[each.metric]
            if each.high is not None and value > each.high:
                found[row, -1] += slope(each.metric)
            elif each.low is not None and value < each.low:
                found[row, -1] -= slope(each.metric)
    return found


def _stretch(parameter: object, value: float | None) -> float:
    """How fast a parameter's value grows along its coordinate; 0 where it does not vary continuously."""
    if not isinstance(parameter, Float) or parameter.step is not None or value is None:
        return 0.0
    return value * math.log(parameter.high / parameter.low) if parameter.log else parameter.high - parameter.low
