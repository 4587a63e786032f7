"""The convergence picture: every trial's value, and the best so far, over the number of trials."""

import math

from prefect_simopt.ranking import Scale
from prefect_simopt.report.drawing import (
    BOTTOM,
    DOT,
    HEIGHT,
    LEFT,
    LINE,
    RIGHT,
    WIDTH,
    Axis,
    Thinned,
    dot,
    frame,
    grid,
    legend,
    mark,
    number,
    staircase,
    steps,
)
from prefect_simopt.trial import Status, Trial

__all__ = ["Convergence"]

_INFEASIBLE, _FAILED, _TARGET = "#e3b778", "#d64545", "#2e8b57"


class Convergence:
    """Collects trials as they end and draws the picture. Its memory stays small, however many trials there are.

    Args:
        scale: the study's objectives and constraints; the first objective is drawn.
        title: above the picture.
        unit: of the first objective.
    """

    def __init__(self, scale: Scale, title: str, unit: str = "") -> None:
        self._scale, self._title, self._unit = scale, title, unit
        self._objective = scale.objectives[0]
        self._feasible, self._infeasible, self._failed, self._best = Thinned(), Thinned(), Thinned(), Thinned()
        self._leader = math.inf
        self._last = 0

    def add(self, trial: Trial) -> None:
        """Take a trial that has ended into account."""
        self._last = max(self._last, trial.number)
        if trial.status is not Status.COMPLETE:
            self._failed.add(trial.number, math.nan)
            return
        if not self._scale.counts(trial):
            return  # of low fidelity: another scale
        value = trial.metrics[self._objective.metric]
        if self._scale.violation(trial) > 0:
            self._infeasible.add(trial.number, value)
            return
        self._feasible.add(trial.number, value)
        if self._objective.sign * value < self._leader:
            self._leader = self._objective.sign * value
            self._best.add(trial.number, value)

    def svg(self) -> str:
        """The picture, as an SVG document of 720 by 400 points."""
        target = self._objective.target
        values = [value for points in (self._feasible, self._infeasible) for _, value in points.kept]
        values += [value for _, value in self._best.kept] + ([target] if target is not None else [])
        axis = Axis.over(values or [0.0, 1.0])
        span = max(self._last, 1)

        def x(number: float) -> float:
            return LEFT + (WIDTH - LEFT - RIGHT) * number / span

        parts = [frame(self._title, "trial", f"{self._objective.metric}{f' ({self._unit})' if self._unit else ''}")]
        parts += [grid(axis.y(tick), number(tick)) for tick in axis.ticks]
        parts += [mark(x(tick), f"{tick:,.0f}") for tick in steps(0, span) if tick == int(tick)]
        parts += [dot(x(n), axis.y(value), _INFEASIBLE) for n, value in self._infeasible.kept]
        parts += [dot(x(n), axis.y(value), DOT) for n, value in self._feasible.kept]
        parts += [_cross(x(n)) for n, _ in self._failed.kept[:: len(self._failed.kept) // 200 + 1]]
        if target is not None:
            parts.append(_level(axis.y(target), f"target {number(target)}"))
        if self._best.kept:
            places = [(x(n), axis.y(value)) for n, value in self._best.kept]
            leader = axis.y(self._objective.sign * self._leader)
            parts.append(staircase(places, f"V{leader:.1f}H{x(self._last):.1f}"))
        parts.append(self._legend())
        return "".join(parts) + "</svg>"

    def _legend(self) -> str:
        kinds = [(LINE, "best so far", self._best), (DOT, "trial", self._feasible)]
        kinds += [(_INFEASIBLE, "infeasible", self._infeasible), (_FAILED, "failed", self._failed)]
        return legend([(color, word) for color, word, points in kinds if points.seen])


def _cross(x: float) -> str:
    return f'<path d="M{x - 3:.1f} {HEIGHT - BOTTOM - 6}l6 6m-6 0l6 -6" stroke="{_FAILED}"/>'


def _level(y: float, text: str) -> str:
    return (
        f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{_TARGET}" stroke-dasharray="6 4"/>'
        f'<text x="{LEFT + 6}" y="{y - 5:.1f}" fill="{_TARGET}">{text}</text>'
    )
