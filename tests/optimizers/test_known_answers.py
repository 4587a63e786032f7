"""Every optimizer by problems of engineering design whose best known answers are published."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from prefect_simopt.optimizers import make_optimizer
from prefect_simopt.space import Categorical, Float, Int, Space

Array = np.ndarray


class Design(NamedTuple):
    """A problem: its space, and value and constraints (at most 0, as shares of their limits) of a point."""

    space: Space
    evaluate: Callable[..., tuple[float, list[float]]]
    best: float


def welded_beam(h: float, l: float, t: float, b: float) -> tuple[float, list[float]]:  # noqa: E741
    """K. M. Ragsdell, D. T. Phillips, Journal of Engineering for Industry 98 (1976) 1021-1025."""
    load, length, young, shear = 6000.0, 14.0, 30e6, 12e6
    direct = load / (np.sqrt(2) * h * l)
    radius = np.sqrt(l**2 / 4 + ((h + t) / 2) ** 2)
    polar = 2 * np.sqrt(2) * h * l * (l**2 / 12 + ((h + t) / 2) ** 2)
    torsion = load * (length + l / 2) * radius / polar
    stress = np.sqrt(direct**2 + 2 * direct * torsion * l / (2 * radius) + torsion**2)
    bending, deflection = 6 * load * length / (b * t**2), 4 * load * length**3 / (young * t**3 * b)
    buckling = 4.013 * young * t * b**3 / (6 * length**2) * (1 - t / (2 * length) * np.sqrt(young / (4 * shear)))
    cost = 1.10471 * h**2 * l + 0.04811 * t * b * (14 + l)
    return cost, [
        stress / 13600 - 1, bending / 30000 - 1, h - b, 0.10471 * h**2 / 5 + 0.04811 * t * b * (14 + l) / 5 - 1,
        0.125 - h, deflection / 0.25 - 1, 1 - buckling / load,
    ]  # fmt: skip


def pressure_vessel(shell: int, head: int, r: float, l: float) -> tuple[float, list[float]]:  # noqa: E741
    """E. Sandgren, Journal of Mechanical Design 112 (1990) 223-229; thicknesses are multiples of 1/16 inch."""
    s, h = shell / 16, head / 16
    volume = np.pi * r**2 * l + 4 / 3 * np.pi * r**3
    cost = 0.6224 * s * r * l + 1.7781 * h * r**2 + 3.1661 * s**2 * l + 19.84 * s**2 * r
    return cost, [0.0193 * r - s, 0.00954 * r - h, 1 - volume / 1_296_000, l / 240 - 1]


def spring(d: float, coil: float, n: float) -> tuple[float, list[float]]:
    """A. D. Belegundu, J. S. Arora, International Journal for Numerical Methods in Engineering 21 (1985) 1583-1599."""
    shear = (4 * coil**2 - coil * d) / (12566 * (coil * d**3 - d**4)) + 1 / (5108 * d**2) - 1
    surge = 1 - 140.45 * d / (coil**2 * n)
    return (n + 2) * coil * d**2, [1 - coil**3 * n / (71785 * d**4), shear, surge, (coil + d) / 1.5 - 1]


def gear_train(a: int, b: int, c: int, d: int) -> tuple[float, list[float]]:
    """Sandgren 1990: four gears whose ratio is 1 to 6.931. The digits of the error are what is to be found."""
    return np.log10(1e-13 + (1 / 6.931 - a * b / (c * d)) ** 2), []


MATERIALS = {"steel": (210e9, 7850.0), "aluminium": (70e9, 2700.0), "titanium": (114e9, 4430.0), "oak": (11e9, 720.0)}
LOAD, LENGTH, THINNEST = 50e3, 3.0, 0.02  # newtons, metres, wall over diameter


def column(
    material: str, section: str, d: float = np.nan, wall: float = np.nan, side: float = np.nan, ribs: int = 0
) -> tuple[float, list[float]]:
    """The mass of a pinned column that does not buckle (Euler), of a round bar, a square one, or a tube (mm)."""
    young, density = MATERIALS[material]
    if section == "square":
        area, inertia = (side / 1e3) ** 2, (side / 1e3) ** 4 / 12
    else:
        inner = max(d - 2 * wall, 0.0) if section == "tube" else 0.0
        area, inertia = np.pi / 4 * (d**2 - inner**2) / 1e6, np.pi / 64 * (d**4 - inner**4) / 1e12
    thin = [1 - wall / (THINNEST * d)] if section == "tube" else []  # or it crumples
    return density * area * LENGTH + 0.3 * ribs, [1 - np.pi**2 * young * inertia / LENGTH**2 / LOAD, *thin]


def lightest_column() -> float:
    """A tube as thin as it may be of the material with the largest E / rho^2, as wide as it must be."""
    young, density = max(MATERIALS.values(), key=lambda each: each[0] / each[1] ** 2)
    hollow = 1 - 2 * THINNEST
    d = (64 * LOAD * LENGTH**2 / (np.pi**3 * young * (1 - hollow**4))) ** 0.25
    return float(density * LENGTH * np.pi / 4 * d**2 * (1 - hollow**2))


DESIGNS = {
    "column": Design(
        Space([
            Categorical("material", list(MATERIALS)), Categorical("section", ["round", "square", "tube"]),
            Float("d", 5, 300, when={"section": ["round", "tube"]}), Float("wall", 0.5, 20, when={"section": "tube"}),
            Float("side", 5, 300, when={"section": "square"}), Int("ribs", 0, 9, when={"section": "tube"}),
        ]),
        column, lightest_column(),
    ),
    "welded beam": Design(
        Space([Float("h", 0.1, 2), Float("l", 0.1, 10), Float("t", 0.1, 10), Float("b", 0.1, 2)]), welded_beam, 1.724852
    ),
    "pressure vessel": Design(
        Space([Int("shell", 1, 99), Int("head", 1, 99), Float("r", 10, 200), Float("l", 10, 200)]),
        pressure_vessel, 6059.7143,
    ),
    "spring": Design(Space([Float("d", 0.05, 2), Float("coil", 0.25, 1.3), Float("n", 2, 15)]), spring, 0.0126652),
    "gear train": Design(Space([Int(name, 12, 60) for name in "abcd"]), gear_train, np.log10(1e-13 + 2.7009e-12)),
}  # fmt: skip


def found(name: str, design: Design, trials: int, seed: int) -> float:
    """The best feasible value."""
    optimizer, best = make_optimizer(name, design.space, seed=seed), np.inf
    for _ in range(trials // 16):
        ids, x = optimizer.ask(16)
        answers = [design.evaluate(**point) for point in design.space.decode(x)]
        values = np.array([value for value, _ in answers])
        violations = np.array([sum(max(g, 0.0) for g in constraints) for _, constraints in answers])
        optimizer.tell(ids, values, violations)
        best = min(best, values[violations == 0].min(initial=np.inf))
    return best


# Within so many percent of the published answer after 1600 trials, median of three seeds (of the column, where whole
# branches are left out, of eight); random search is at 42, 60,
# 114 and 48. Of the gear train the digits of the error: random search has 6.2.
LIMITS = {"column": 10.0, "welded beam": 35.0, "pressure vessel": 10.0, "spring": 30.0}
DIGITS = 7.0
OPTIMIZERS = ["pso", "ga", "sa", "de", "cma", "nsga2"]


def median(name: str, problem: str) -> float:
    seeds = 8 if problem == "column" else 3
    return float(np.median([found(name, DESIGNS[problem], 1600, seed) for seed in range(1, seeds + 1)]))


@pytest.mark.slow
@pytest.mark.parametrize("problem", LIMITS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_comes_near_the_published_answer(name: str, problem: str) -> None:
    best = DESIGNS[problem].best
    assert best * (1 - 1e-6) <= median(name, problem) <= best * (1 + LIMITS[problem] / 100)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_finds_integers_whose_ratio_is_right_to_seven_digits(name: str) -> None:
    assert DESIGNS["gear train"].best - 1e-4 <= median(name, "gear train") < -DIGITS


@pytest.mark.parametrize("problem", DESIGNS)
def test_the_published_answers_are_answers(problem: str) -> None:
    """The formulas, held to the designs of the literature."""
    design = {
        "column": {"material": "oak", "section": "tube", "d": 153.8661, "wall": 3.077323, "ribs": 0},
        "welded beam": {"h": 0.205730, "l": 3.470489, "t": 9.036624, "b": 0.205730},
        "pressure vessel": {"shell": 13, "head": 7, "r": 42.0984456, "l": 176.6365958},
        "spring": {"d": 0.05168906, "coil": 0.35671773, "n": 11.2889661},
        "gear train": {"a": 16, "b": 19, "c": 43, "d": 49},
    }[problem]
    value, constraints = DESIGNS[problem].evaluate(**design)
    assert value == pytest.approx(DESIGNS[problem].best, rel=2e-4)
    assert max(constraints, default=0.0) < 1e-4
