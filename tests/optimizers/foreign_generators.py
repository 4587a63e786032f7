"""Generators of other people, for tests: as gest-api has them, by a ten-line adapter, and careless ones."""

import sys

import numpy as np
from cmaes import CMA
from gest_api.vocs import VOCS

from prefect_simopt.optimizers.gest import SimoptGenerator


class Climber:
    """Random points, later around the best one."""

    def __init__(self, space, seed, objectives=1):
        self.space, self.rng, self.best = space, np.random.default_rng(seed), (np.inf, None)
        self.key = "value" if objectives == 1 else "value0"

    def suggest(self, n):
        x = self.rng.random((n, self.space.dimensions))
        if self.best[1] is not None:
            x = np.where(self.rng.random(x.shape) < 0.3, x, self.best[1] + 0.1 * (x - 0.5))
        return self.space.decode(self.space.snap(x))

    def ingest(self, results):
        for result in results:
            if not np.isnan(result[self.key]) and result["violation"] == 0:
                self.best = min(self.best, (result[self.key], self.space.encode([result])[0]), key=lambda each: each[0])


class Evolution:
    """The ten lines for an object with `ask` and `tell`, here `CMA` of the package cmaes."""

    def __init__(self, space, seed):
        self.names, self.asked, self.told = space.names, {}, []
        bounds = np.array([[each.low, each.high] for each in space.parameters])
        self.search = CMA(mean=bounds.mean(axis=1), sigma=np.ptp(bounds) / 5, bounds=bounds, seed=seed)

    def suggest(self, n):
        points = [self.search.ask() for _ in range(n)]
        numbers = [len(self.asked) + i for i in range(n)]
        self.asked |= dict(zip(numbers, points, strict=True))
        return [dict(zip(self.names, x, strict=True), _id=i) for i, x in zip(numbers, points, strict=True)]

    def ingest(self, results):
        self.told += [(self.asked[each["_id"]], np.nan_to_num(each["value"], nan=1e9)) for each in results]
        while len(self.told) >= self.search.population_size:
            self.search.tell(self.told[: self.search.population_size])
            del self.told[: self.search.population_size]


def gest(space, seed, optimizer="pso"):
    """A generator of gest-api."""
    variables = {each.name: [each.low, each.high] for each in space.parameters}
    limits = {"violation": ["LESS_THAN", 0.0]}
    vocs = VOCS(variables=variables, objectives={"value": "MINIMIZE"}, constraints=limits)
    return SimoptGenerator(vocs, optimizer, seed=seed)


class Careless(Climber):
    """Without the seed."""

    def __init__(self, space, seed):
        super().__init__(space, None)


class Forgetful(Climber):
    """Not deterministic later on."""

    def ingest(self, results):
        self.rng = np.random.default_rng()


class Short(Climber):
    """Ends after ten points."""

    left = 10

    def suggest(self, n):
        n, self.left = min(n, self.left), max(self.left - n, 0)
        return super().suggest(n)


class Lacking(Climber):
    def suggest(self, n):
        return [{"x": 0.0}] * n


class Beyond(Climber):
    def suggest(self, n):
        return [{**point, "x": float("nan")} for point in super().suggest(n)]


class Generous(Climber):
    def suggest(self, n):
        return super().suggest(n + 1)


class Broken(Climber):
    def ingest(self, results):
        raise RuntimeError("no idea")


class Leaving(Climber):
    def suggest(self, n):
        sys.exit("enough")


def nothing(space, seed):
    return None
