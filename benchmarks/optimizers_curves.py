"""Draws the best value over trials of every optimizer on two problems: median of several seeds.

One picture of all, and one of each for its page, where random search is beside it.

python benchmarks/optimizers_curves.py [--trials 1600] [--seeds 5] [--only pso cma] [-o docs/images]
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from prefect_simopt.optimizers import make_optimizer
from prefect_simopt.space import Categorical, Float, Int, Space

TOGETHER = ["pso", "ga", "sa", "de", "cma", "nsga2", "random", "sobol"]
NAMES = [*TOGETHER, "lhs", "grid", "gradient", "optuna"]
FEWER = {"optuna": (192, 2)}  # trials and seeds, where an ask takes long
CONFIGS = {"grid": {"type": "grid", "points": 3}, "lhs": {"type": "lhs", "points": 1600}}
VALLEY = Space([Float(f"x{i}", -5, 5) for i in range(8)])
MIXED = Space([
    Int("i", -100, 100), Int("l", 1, 1000, log=True), Float("s", 0, 1, step=0.1), Float("x", 0, 1), Float("y", 0, 1),
    Categorical("c", list("abcdefgh")),
])  # fmt: skip
Problem = Callable[[np.ndarray], np.ndarray]


def rosenbrock(x: np.ndarray) -> np.ndarray:
    """A curved valley: continuous parameters that depend on each other."""
    x = 10 * x - 5
    return (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(axis=1)


def slopes(x: np.ndarray) -> np.ndarray:
    """Gradients of the valley, and of violations that it has not, by the coordinates of the unit cube."""
    x = 10 * x - 5
    found = np.zeros((len(x), 2, x.shape[1]))
    bend = x[:, 1:] - x[:, :-1] ** 2
    found[:, 0, :-1] = -400 * x[:, :-1] * bend - 2 * (1 - x[:, :-1])
    found[:, 0, 1:] += 200 * bend
    return 10 * found


def mixed(x: np.ndarray) -> np.ndarray:
    """Integers, steps, categories and reals, each with its own best value."""
    return np.array([
        abs(p["i"] - 37) / 10 + abs(np.log(p["l"] / 77)) + 5 * abs(p["s"] - 0.7) + abs(p["x"] - 0.3)
        + abs(p["y"] - p["x"]) + 4 * (p["c"] != "f")
        for p in MIXED.decode(x)
    ])  # fmt: skip


PROBLEMS: list[tuple[str, Space, Problem]] = [
    ("Rosenbrock's valley, 8 real parameters", VALLEY, rosenbrock), ("6 mixed parameters", MIXED, mixed)
]  # fmt: skip


def curve(name: str, space: Space, f: Problem, trials: int, seeds: int) -> np.ndarray:
    """Median of the best value after each trial, shape (trials,)."""
    trials, seeds = FEWER.get(name, (trials, seeds))
    runs = []
    for seed in range(seeds):
        optimizer, values = make_optimizer(CONFIGS.get(name, name), space, seed=seed), []
        for _ in range(trials // 16):
            ids, x = optimizer.ask(16)
            values.append(f(x))
            if name == "gradient":
                optimizer.tell(ids, values[-1], None, slopes(x))
            else:
                optimizer.tell(ids, values[-1])
        runs.append(np.minimum.accumulate(np.concatenate(values)))
    return np.median(runs, axis=0)


def draw(plot, best: np.ndarray, **style) -> None:
    """A curve, at as many trials as can be told apart."""
    after = np.unique(np.geomspace(1, len(best), 150).astype(int))
    plot.plot(after, best[after - 1], **style)


def frame(plots) -> None:
    """Axes and legends of the two problems."""
    for plot, (title, _, _) in zip(plots, PROBLEMS, strict=True):
        plot.set(title=title, xlabel="trial", yscale="log", xscale="log")
        plot.grid(color="#e4e4e4")
    plots[0].set_ylabel("best value, median of the seeds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1600)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help="of these alone")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    mpl.rcParams["svg.fonttype"] = "none"  # text, not the outlines of its letters
    found: dict[tuple[str, str], np.ndarray] = {}
    for name in dict.fromkeys(["random", *options.only]):
        for title, space, f in PROBLEMS:
            if name == "gradient" and space is MIXED:  # has no slopes
                continue
            found[name, title] = best = curve(name, space, f, options.trials, options.seeds)
            print(f"{title}: {name} {best[len(best) // 4 - 1]:.3g} {best[-1]:.3g}", flush=True)
    folder = options.output / "optimizers"
    folder.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        figure = Figure(figsize=(8, 3), layout="constrained")
        FigureCanvasSVG(figure)
        plots = figure.subplots(1, 2)
        for plot, (title, _, _) in zip(plots, PROBLEMS, strict=True):
            draw(plot, found["random", title], label="random search", color="#999")
            if (name, title) in found and name != "random":
                draw(plot, found[name, title], label=name, color="#1f4e8c")
            plot.legend(frameon=False)
        frame(plots)
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    if set(TOGETHER) <= set(options.only):
        figure = Figure(figsize=(10, 4.2), layout="constrained")
        FigureCanvasSVG(figure)
        plots = figure.subplots(1, 2)
        for plot, (title, _, _) in zip(plots, PROBLEMS, strict=True):
            for i, name in enumerate(TOGETHER):
                color = "#999" if name in ("random", "sobol") else f"C{i}"
                draw(plot, found[name, title], label=name, color=color, ls=":" if name == "sobol" else "-")
        frame(plots)
        plots[1].legend(frameon=False, ncols=2)
        figure.savefig(options.output / "optimizers.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
