"""The convergence picture: every trial's value, and the best so far, over the number of trials.

Drawn as SVG by hand, in a millisecond and without a plotting library, since it is redrawn while a study runs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from prefect_simopt.ranking import Scale
from prefect_simopt.trial import Status, Trial

__all__ = ["Convergence"]

_WIDTH, _HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 20, 44, 50  # margins
_MOST = 1500  # points of a kind that are kept: more could not be told apart
_DOT, _INFEASIBLE, _FAILED, _LINE, _TARGET = "#9db8d9", "#e3b778", "#d64545", "#1f4e8c", "#2e8b57"


@dataclass
class _Points:
    """Points (trial, value), thinned evenly once they are too many."""

    kept: list[tuple[int, float]] = field(default_factory=list)
    seen: int = 0
    every: int = 1

    def add(self, number: int, value: float) -> None:
        if self.seen % self.every == 0:
            self.kept.append((number, value))
            if len(self.kept) > _MOST:
                self.kept = self.kept[::2]
                self.every *= 2
        self.seen += 1


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
        self._feasible, self._infeasible, self._failed, self._best = _Points(), _Points(), _Points(), _Points()
        self._leader = math.inf
        self._last = 0

    def add(self, trial: Trial) -> None:
        """Take a trial that has ended into account."""
        self._last = max(self._last, trial.number)
        if trial.status is not Status.COMPLETE:
            self._failed.add(trial.number, math.nan)
            return
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
        axis = _Axis.over(values or [0.0, 1.0])
        span = max(self._last, 1)

        def x(number: float) -> float:
            return _LEFT + (_WIDTH - _LEFT - _RIGHT) * number / span

        parts = [_frame(self._title, f"{self._objective.metric}{f' ({self._unit})' if self._unit else ''}")]
        parts += [_grid(axis.y(tick), _number(tick)) for tick in axis.ticks]
        parts += [_mark(x(tick), f"{tick:,.0f}") for tick in _steps(0, span) if tick == int(tick)]
        parts += [_dot(x(n), axis.y(value), _INFEASIBLE) for n, value in self._infeasible.kept]
        parts += [_dot(x(n), axis.y(value), _DOT) for n, value in self._feasible.kept]
        parts += [_cross(x(n)) for n, _ in self._failed.kept[:: len(self._failed.kept) // 200 + 1]]
        if target is not None:
            parts.append(_level(axis.y(target), f"target {_number(target)}"))
        if self._best.kept:
            steps = [(x(n), axis.y(value)) for n, value in self._best.kept]
            leader = self._objective.sign * self._leader
            parts.append(_staircase(steps, axis.y(leader), x(self._last)))
        parts.append(self._legend())
        return "".join(parts) + "</svg>"

    def _legend(self) -> str:
        kinds = [(_LINE, "best so far", self._best), (_DOT, "trial", self._feasible)]
        kinds += [(_INFEASIBLE, "infeasible", self._infeasible), (_FAILED, "failed", self._failed)]
        shown = [(color, word) for color, word, points in kinds if points.seen]
        place, parts = _WIDTH - _RIGHT, []
        for color, word in reversed(shown):
            parts.append(f'<text x="{place}" y="30" text-anchor="end">{word}</text>')
            place -= 6 * len(word) + 10
            parts.append(f'<circle cx="{place}" cy="26" r="4" fill="{color}"/>')
            place -= 16
        return "".join(parts)


@dataclass(frozen=True)
class _Axis:
    """The vertical axis: linear, or logarithmic where positive values span more than two decades."""

    low: float
    high: float
    logarithmic: bool
    ticks: Sequence[float]

    @classmethod
    def over(cls, values: Sequence[float]) -> "_Axis":
        low, high = min(values), max(values)
        if low > 0 and high / low > 100:
            first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
            every = max(1, math.ceil((last - first) / 8))
            return cls(10.0**first, 10.0**last, True, [10.0**power for power in range(first, last + 1, every)])
        margin = 0.05 * (high - low) or 0.5 * abs(high) or 0.5
        low, high = low - margin, high + margin
        return cls(low, high, False, _steps(low, high))

    def y(self, value: float) -> float:
        if self.logarithmic:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * share


def _steps(low: float, high: float) -> list[float]:
    """Round numbers between two, about five of them."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _number(value: float) -> str:
    return f"{value:.4g}"


def _frame(title: str, label: str) -> str:
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="12" fill="#444">'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" rx="6" fill="#fff"/>'
        f'<text x="{_LEFT}" y="30" font-size="15" font-weight="600" fill="#222">{escape(title)}</text>'
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 12}" text-anchor="middle">trial</text>'
        f'<text transform="translate(20 {middle}) rotate(-90)" text-anchor="middle">{escape(label)}</text>'
    )


def _grid(y: float, text: str) -> str:
    return (
        f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#e4e4e4"/>'
        f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
    )


def _mark(x: float, text: str) -> str:
    bottom = _HEIGHT - _BOTTOM
    return (
        f'<path d="M{x:.1f} {bottom}v5" stroke="#999"/>'
        f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{text}</text>'
    )


def _dot(x: float, y: float, color: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{color}"/>'


def _cross(x: float) -> str:
    return f'<path d="M{x - 3:.1f} {_HEIGHT - _BOTTOM - 6}l6 6m-6 0l6 -6" stroke="{_FAILED}"/>'


def _level(y: float, text: str) -> str:
    return (
        f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="{_TARGET}" stroke-dasharray="6 4"/>'
        f'<text x="{_LEFT + 6}" y="{y - 5:.1f}" fill="{_TARGET}">{text}</text>'
    )


def _staircase(steps: Sequence[tuple[float, float]], leader: float, end: float) -> str:
    path = f"M{steps[0][0]:.1f} {steps[0][1]:.1f}" + "".join(f"H{x:.1f}V{y:.1f}" for x, y in steps[1:])
    path += f"V{leader:.1f}H{end:.1f}"
    return f'<path d="{path}" fill="none" stroke="{_LINE}" stroke-width="2"/>'
