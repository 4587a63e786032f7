"""What the pictures of a running study share: a frame, axes, dots and lines.

Drawn as SVG by hand, in a millisecond and without a plotting library, since they are redrawn while a study runs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

__all__ = [
    "BOTTOM",
    "DOT",
    "HEIGHT",
    "LEFT",
    "LINE",
    "RIGHT",
    "WIDTH",
    "Axis",
    "Thinned",
    "dot",
    "frame",
    "grid",
    "legend",
    "mark",
    "number",
    "staircase",
    "steps",
]

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 84, 20, 44, 50
"""Margins."""
DOT, LINE = "#9db8d9", "#1f4e8c"
"""Colours of trials, and of the best ones."""
_MOST = 1500  # points that are kept: more could not be told apart


@dataclass
class Thinned:
    """Points, thinned evenly once they are too many.

    Attributes:
        kept: those that are left.
        seen: how many there have been.
    """

    kept: list[tuple[float, float]] = field(default_factory=list)
    seen: int = 0
    _every: int = 1

    def add(self, x: float, y: float) -> None:
        """Take one more into account."""
        if self.seen % self._every == 0:
            self.kept.append((x, y))
            if len(self.kept) > _MOST:
                self.kept = self.kept[::2]
                self._every *= 2
        self.seen += 1


@dataclass(frozen=True)
class Axis:
    """An axis: linear, or logarithmic where positive values span more than two decades.

    Attributes:
        low, high: its ends.
        logarithmic: whether it is.
        ticks: values to mark.
    """

    low: float
    high: float
    logarithmic: bool
    ticks: Sequence[float]

    @classmethod
    def over(cls, values: Sequence[float]) -> "Axis":
        """The axis that shows these values."""
        low, high = min(values), max(values)
        if low > 0 and high / low > 100:
            first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
            every = max(1, math.ceil((last - first) / 8))
            return cls(10.0**first, 10.0**last, True, [10.0**power for power in range(first, last + 1, every)])
        margin = 0.05 * (high - low) or 0.5 * abs(high) or 0.5
        low, high = low - margin, high + margin
        return cls(low, high, False, steps(low, high))

    def share(self, value: float) -> float:
        """How far along the axis a value is, from 0 to 1."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def x(self, value: float) -> float:
        """Where a value is, on the horizontal axis."""
        return LEFT + (WIDTH - LEFT - RIGHT) * self.share(value)

    def y(self, value: float) -> float:
        """Where a value is, on the vertical axis."""
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * self.share(value)


def steps(low: float, high: float) -> list[float]:
    """Round numbers between two, about five of them."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def number(value: float) -> str:
    """A value as text."""
    return f"{value:.4g}"


def frame(title: str, across: str, up: str) -> str:
    """The beginning of a picture, with its title and what is along its axes; `</svg>` ends it."""
    middle = (TOP + HEIGHT - BOTTOM) / 2
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="12" fill="#444">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#fff"/>'
        f'<text x="{LEFT}" y="30" font-size="15" font-weight="600" fill="#222">{escape(title)}</text>'
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">{escape(across)}</text>'
        f'<text transform="translate(20 {middle}) rotate(-90)" text-anchor="middle">{escape(up)}</text>'
    )


def grid(y: float, text: str) -> str:
    """A line across, with its value."""
    return (
        f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#e4e4e4"/>'
        f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
    )


def mark(x: float, text: str) -> str:
    """A mark on the horizontal axis, with its value."""
    bottom = HEIGHT - BOTTOM
    return (
        f'<path d="M{x:.1f} {bottom}v5" stroke="#999"/>'
        f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{text}</text>'
    )


def dot(x: float, y: float, color: str, radius: float = 2.5) -> str:
    """A point."""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{color}"/>'


def staircase(places: Sequence[tuple[float, float]], end: str = "") -> str:
    """A line from point to point, first across and then up or down; `end` continues its path."""
    path = f"M{places[0][0]:.1f} {places[0][1]:.1f}" + "".join(f"H{x:.1f}V{y:.1f}" for x, y in places[1:])
    return f'<path d="{path}{end}" fill="none" stroke="{LINE}" stroke-width="2"/>'


def legend(kinds: Sequence[tuple[str, str]]) -> str:
    """Colours with what they mean, at the top right."""
    place, parts = WIDTH - RIGHT, []
    for color, word in reversed(kinds):
        parts.append(f'<text x="{place}" y="30" text-anchor="end">{word}</text>')
        place -= 6 * len(word) + 10
        parts.append(f'<circle cx="{place}" cy="26" r="4" fill="{color}"/>')
        place -= 16
    return "".join(parts)
