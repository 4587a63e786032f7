"""Draws the best value over trials of every optimizer on two problems: median of several seeds.

python benchmarks/optimizers_curves.py [--trials 1600] [--seeds 5] [-o docs/images/optimizers.svg]
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from prefect_simopt.optimizers import make_optimizer
from prefect_simopt.space import Categorical, Float, Int, Space

NAMES = ["pso", "ga", "sa", "de", "cma", "nsga2", "random", "sobol"]
VALLEY = Space([Float(f"x{i}", -5, 5) for i in range(8)])
MIXED = Space([
    Int("i", -100, 100), Int("l", 1, 1000, log=True), Float("s", 0, 1, step=0.1), Float("x", 0, 1), Float("y", 0, 1),
    Categorical("c", list("abcdefgh")),
])  # fmt: skip


def rosenbrock(x: np.ndarray) -> np.ndarray:
    """A curved valley: continuous parameters that depend on each other."""
    x = 10 * x - 5
    return (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(axis=1)


def mixed(x: np.ndarray) -> np.ndarray:
    """Integers, steps, categories and reals, each with its own best value."""
    return np.array([
        abs(p["i"] - 37) / 10 + abs(np.log(p["l"] / 77)) + 5 * abs(p["s"] - 0.7) + abs(p["x"] - 0.3)
        + abs(p["y"] - p["x"]) + 4 * (p["c"] != "f")
        for p in MIXED.decode(x)
    ])  # fmt: skip


def curve(name: str, space: Space, f: Callable[[np.ndarray], np.ndarray], trials: int, seeds: int) -> np.ndarray:
    """Median of the best value after each trial, shape (trials,)."""
    runs = []
    for seed in range(seeds):
        optimizer, values = make_optimizer(name, space, seed=seed), []
        for _ in range(trials // 16):
            ids, x = optimizer.ask(16)
            values.append(f(x))
            optimizer.tell(ids, values[-1])
        runs.append(np.minimum.accumulate(np.concatenate(values)))
    return np.median(runs, axis=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1600)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/images/optimizers.svg"))
    options = parser.parse_args()
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    FigureCanvasSVG(figure)
    problems = [("Rosenbrock's valley, 8 real parameters", VALLEY, rosenbrock), ("6 mixed parameters", MIXED, mixed)]
    for plot, (title, space, f) in zip(figure.subplots(1, 2), problems, strict=True):
        for i, name in enumerate(NAMES):
            best = curve(name, space, f, options.trials, options.seeds)
            color = "#999" if name in ("random", "sobol") else f"C{i}"
            plot.plot(np.arange(1, len(best) + 1), best, label=name, color=color, ls=":" if name == "sobol" else "-")
            print(f"{title}: {name} {best[len(best) // 4]:.3g} {best[-1]:.3g}", flush=True)
        plot.set(title=title, xlabel="trial", yscale="log", xscale="log")
        plot.grid(color="#e4e4e4")
    figure.axes[0].set_ylabel("best value, median of the seeds")
    figure.axes[1].legend(frameon=False, ncols=2)
    figure.savefig(options.output, metadata={"Date": None})


if __name__ == "__main__":
    main()
