"""Every optimizer by every property."""

from typing import ClassVar

from optimizer_contract import OptimizerContract


class TestPSO(OptimizerContract):
    config = "pso"


class TestGA(OptimizerContract):
    config = "ga"


class TestSA(OptimizerContract):
    config = "sa"


class TestDE(OptimizerContract):
    config = "de"


class TestCMA(OptimizerContract):
    config = "cma"
    slack = 16 * 16 * 8 * 7  # the last restart's population of 16 times 16 points, in five dimensions


class TestNSGA2(OptimizerContract):
    config: ClassVar = {"type": "nsga2", "members": 16}
    several_objectives = True
    slack = 4096  # the members of a front, whose number changes


class TestRandom(OptimizerContract):
    config = "random"
    several_objectives = True


class TestSobol(OptimizerContract):
    config = "sobol"
    several_objectives = True


class TestLHS(OptimizerContract):
    config = "lhs"
    several_objectives = True


class TestGrid(OptimizerContract):
    config: ClassVar = {"type": "grid", "points": 5}
    several_objectives = True
    seeded = False
    finite = True
