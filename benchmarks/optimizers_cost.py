"""What ask + tell costs per point, for every optimizer: microseconds of one core.

Every generation is run several times, exactly the same, and its least time counts, so that other work on the machine
hardly shows. The model starts after some hundred points; the cost is of those after `--warm`.

python benchmarks/optimizers_cost.py [--dimensions 20] [--batch 16] [--points 800] [--long 10000] [--json]
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg
import scipy.stats  # imported when they are first needed, which is no cost of a point

from prefect_simopt.optimizers import dump_state, make_optimizer
from prefect_simopt.optimizers.make import ENGINES
from prefect_simopt.space import Categorical, Float, Int, Space

REPEATS = 3


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


def generations(make: Callable[[], Any], batch: int, number: int) -> tuple[np.ndarray, Any]:
    """Seconds of each of `number` generations, and the optimizer after them."""
    optimizer, seconds = make(), np.empty(number)
    for i in range(number):
        start = time.process_time()
        ids, x = optimizer.ask(batch)
        asked = time.process_time()
        values = ((x - 0.6) ** 2).sum(axis=1)
        values = np.column_stack([values, ((x - 0.4) ** 2).sum(axis=1)]) if optimizer.objectives == 2 else values
        between = time.process_time()
        optimizer.tell(ids, values)
        seconds[i] = time.process_time() - between + asked - start
    return seconds, optimizer


def cost(config: Any, space: Space, batch: int, points: int, warm: int = 0) -> float:
    """Microseconds a point, of the points from `warm` on."""
    objectives = 2 if config == "nsga2" else 1

    def make() -> Any:
        return make_optimizer(config, space, batch=batch, objectives=objectives)

    least = np.min([generations(make, batch, points // batch)[0] for _ in range(REPEATS)], axis=0)
    return float(least[warm // batch :].mean() / batch * 1e6)


def long_run(config: Any, space: Space, batch: int, points: int) -> dict[str, float]:
    """Cost per point over the second and the last tenth, and the size of the state after each, in bytes."""
    row: dict[str, float] = {}
    objectives = 2 if config == "nsga2" else 1
    optimizer = make_optimizer(config, space, batch=batch, objectives=objectives)
    tenth = points // batch // 10
    for part in range(10):
        seconds, _ = generations(lambda: optimizer, batch, tenth)
        if part in (1, 9):
            name = "early" if part == 1 else "late"
            row |= {f"long, {name}": float(np.median(seconds) / batch * 1e6)}
            row |= {f"state, {name}": len(dump_state(optimizer.state()))}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dimensions", type=int, default=20)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--points", type=int, default=800)
    parser.add_argument("--warm", type=int, default=480)
    parser.add_argument("--long", type=int, default=10_000, help="points of the long run; 0 leaves it out")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    begin, table = time.monotonic(), {}
    for name in [each for each in ENGINES if each not in ("points", "auto", "gradient")]:
        every = spaces(options.dimensions)
        sizes = options.batch, options.points, options.warm
        row = {kind: cost(name, space, *sizes) for kind, space in every.items()}
        if "model" in ENGINES[name].config_type.model_fields:
            row["no model"] = cost({"type": name, "model": False}, every["float"], *sizes)
        if options.long:
            row |= long_run(name, every["float"], options.batch, options.long)
        table[name] = row
    if options.json:
        print(json.dumps({"numpy": np.__version__, "scipy": scipy.__version__, "microseconds per point": table}))
        return
    columns = list(table["pso"])
    print(f"{'':8}" + "".join(f"{column:>13}" for column in columns))
    for name, row in table.items():
        print(f"{name:8}" + "".join(f"{row.get(column, float('nan')):13.1f}" for column in columns))
    print(f"in {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()
