"""What levels of fidelity are worth: the best exact value found for a cost, with them and without, as a picture.

    python benchmarks/fidelity.py [--seeds 15] [--optimizer pso]

Functions and searches are those of `tests/optimizers/test_halving.py`: Hartmann's in 6 parameters and the borehole
in 8, whose cheap forms are published; levels cost 1/8, 0.35 and 1.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "optimizers"))
from test_halving import borehole, found, hartmann  # noqa: E402 - it is no package

COSTS = [20, 40, 60, 80, 100]
PROBLEMS = {"Hartmann, 6 parameters": (hartmann, 6, -3.32237), "borehole, 8 parameters": (borehole, 8, -309.58)}


def main() -> None:
    """Measure, print the table, and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=15)
    parser.add_argument("--optimizer", default="pso")
    arguments = parser.parse_args()
    seeds, name = range(100, 100 + arguments.seeds), arguments.optimizer
    left: dict[tuple[str, bool], np.ndarray] = {}
    for problem, (function, d, optimum) in PROBLEMS.items():
        print(f"{problem}: median distance to the optimum, {name}\ncost    without      with")
        runs = np.array([
            [[found(function, d, name, seed, cost, halved=halved) - optimum for seed in seeds] for cost in COSTS]
            for halved in (False, True)
        ])  # fmt: skip
        for row, cost in enumerate(COSTS):
            without, with_levels = np.median(runs[:, row], axis=1)
            print(f"{cost:4d}{without:11.4g}{with_levels:10.4g}", flush=True)
        left |= {(problem, halved): runs[int(halved)] for halved in (False, True)}
    draw(left, name)


def draw(left: dict[tuple[str, bool], np.ndarray], name: str) -> None:
    """Medians as lines, quartiles as bands."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(PROBLEMS), figsize=(9, 3.4), layout="constrained")
    for (problem, halved), runs in left.items():
        axis = axes[list(PROBLEMS).index(problem)]
        color, label = ("#1f4e8c", "with levels") if halved else ("#b0703c", "without")
        low, median, high = np.quantile(np.maximum(runs, 1e-4), [0.25, 0.5, 0.75], axis=1)
        axis.semilogy(COSTS, median, color=color, label=label)
        axis.fill_between(COSTS, low, high, color=color, alpha=0.2, linewidth=0)
        axis.set(title=problem, xlabel="cost, in runs at the highest fidelity")
        axis.grid(color="#e4e4e4")
    axes[0].set(ylabel=f"distance to the optimum, {name}")
    axes[0].legend(frameon=False)
    figure.savefig(ROOT / "docs" / "images" / "fidelity.png", dpi=110)


if __name__ == "__main__":
    main()
