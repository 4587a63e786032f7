"""Every optimizer by every property."""

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
    config = {"type": "grid", "points": 5}  # noqa: RUF012 - the contract says ClassVar
    several_objectives = True
    seeded = False
    finite = True
