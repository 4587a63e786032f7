"""What ask + tell costs per point, for every optimizer: microseconds, median of several runs.

python benchmarks/optimizers_cost.py [--dimensions 20] [--batch 16] [--points 4800] [--json]
"""

import argparse
import json
import statistics
import time

import numpy as np

from prefect_simopt.optimizers import dump_state, make_optimizer
from prefect_simopt.optimizers.make import ENGINES
from prefect_simopt.space import Categorical, Float, Int, Space


def spaces(d: int) -> dict[str, Space]:
    kinds = [
        lambda i: Float(f"x{i}", -5, 5),
        lambda i: Int(f"x{i}", 0, 100),
        lambda i: Categorical(f"x{i}", ["a", "b", "c", "d"]),
        lambda i: Float(f"x{i}", 1e-3, 10, log=True),
    ]
    floats = [Float(f"x{i}", -5, 5) for i in range(d)]
    return {
        "float": Space(floats),
        "mixed": Space([kinds[i % 4](i) for i in range(d)]),
        "related": Space(floats, [f"x0 + x{d - 1} <= 0"]),
    }


def cost(name: str, space: Space, batch: int, points: int) -> float:
    optimizer = make_optimizer(name, space, batch=batch)
    spent = 0.0
    for _ in range(points // batch):
        start = time.perf_counter()
        ids, x = optimizer.ask(batch)
        spent += time.perf_counter() - start
        values = ((x - 0.6) ** 2).sum(axis=1)
        start = time.perf_counter()
        optimizer.tell(ids, values)
        spent += time.perf_counter() - start
    return spent / points * 1e6


def long_run(name: str, space: Space, batch: int, points: int) -> tuple[float, float, int, int]:
    """Cost per point over the first and the last tenth, and the size of the state after each, in bytes."""
    optimizer = make_optimizer(name, space, batch=batch)
    tenth = points // batch // 10
    costs, sizes = [], []
    for part in range(10):
        start = time.perf_counter()
        for _ in range(tenth):
            ids, x = optimizer.ask(batch)
            optimizer.tell(ids, ((x - 0.6) ** 2).sum(axis=1))
        costs.append((time.perf_counter() - start) / (tenth * batch) * 1e6)
        if part in (0, 9):
            sizes.append(len(dump_state(optimizer.state())))
    return costs[0], costs[-1], sizes[0], sizes[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dimensions", type=int, default=20)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--points", type=int, default=4800)
    parser.add_argument("--long", type=int, default=100_000, help="points of the long run; 0 leaves it out")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    table: dict[str, dict[str, float]] = {}
    for name in [each for each in ENGINES if each != "points"]:
        if name == "sobol":
            import scipy.stats  # noqa: F401 - imported when the first block is drawn, which is no cost of a point
        table[name] = {
            kind: statistics.median(cost(name, space, options.batch, options.points) for _ in range(3))
            for kind, space in spaces(options.dimensions).items()
        }
        if options.long:
            columns = ("long, first", "long, last", "state, first", "state, last")
            run = long_run(name, spaces(options.dimensions)["float"], options.batch, options.long)
            table[name] |= dict(zip(columns, run, strict=True))
    if options.json:
        print(json.dumps({"numpy": np.__version__, "microseconds per point": table}))
        return
    columns = list(next(iter(table.values())))
    print(f"{'':8}" + "".join(f"{column:>14}" for column in columns))
    for name, row in table.items():
        print(f"{name:8}" + "".join(f"{row[column]:14.1f}" for column in columns))


if __name__ == "__main__":
    main()
