"""Scores of optimizers on BBOB, in batches of 16: python benchmarks/bbob/run.py METHOD ... [options].

Needs `ioh` and, for the peers, their packages; see benchmarks/bbob/README.md. METHOD is a type of ours (`pso`), with
settings (`pso,model=false`), or the name of a peer (`pymoo PSO`).
"""

import argparse
import contextlib
import json
import sys
import time
from pathlib import Path

import numpy as np
from methods import PEERS, method
from problems import ExhaustedError, Problem, budgets, score


def numbers(text: str) -> list[int]:
    """`1-3,7` is 1, 2, 3, 7."""
    parts = [part.split("-") for part in text.split(",")]
    return [number for part in parts for number in range(int(part[0]), int(part[-1]) + 1)]


def regrets(name: str, function: int, instance: int, dimension: int, options: argparse.Namespace) -> list[float]:
    problem = Problem(function, instance, dimension, max(budgets(dimension).values()), options.noise)
    with contextlib.suppress(ExhaustedError):
        method(name)(problem, instance + 100 * options.seed)
    return problem.regrets


def table(dimension: int, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    columns = budgets(dimension)
    rows = {}
    for name in options.methods:
        start = time.perf_counter()
        scores: dict[int, list[list[float]]] = {}
        for function in options.functions:
            for instance in options.instances:
                run = regrets(name, function, instance, dimension, options)
                scores.setdefault(function, []).append([score(run, each) for each in columns.values()])
        means = {function: np.mean(each, axis=0) for function, each in scores.items()}
        rows[name] = dict(zip(columns, np.mean(list(means.values()), axis=0).tolist(), strict=True))
        hard = [each for function, each in means.items() if function not in (1, 5)]
        rows[name] |= dict(zip([f"{c}*" for c in columns], np.mean(hard, axis=0).tolist(), strict=True)) if hard else {}
        line = " ".join(f"{value:6.3f}" for value in rows[name].values())
        print(f"{dimension:3} {name:34} {line}  {time.perf_counter() - start:6.1f} s", flush=True)
        if options.functions_too:
            for function, each in means.items():
                print(f"      f{function:<5} " + " ".join(f"{value:6.3f}" for value in each))
        if options.output:
            with options.output.open("a") as file:
                record = {"dimension": dimension, "method": name, "noise": options.noise, "scores": rows[name]}
                file.write(json.dumps(record) + "\n")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, epilog=f"peers: {', '.join(PEERS)}")
    parser.add_argument("methods", nargs="+")
    parser.add_argument("--dimensions", type=numbers, default=[5])
    parser.add_argument("--functions", type=numbers, default=numbers("1-24"))
    parser.add_argument("--instances", type=numbers, default=numbers("1-5"), help="6 and above decide, 1-5 tune")
    parser.add_argument("--noise", type=float, default=0.0, help="0.01 is 1 %% of f - f_opt")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--functions-too", action="store_true", help="one line for each function")
    parser.add_argument("--output", type=Path, help="file to which each row is appended, as JSON")
    options = parser.parse_args()
    for dimension in options.dimensions:
        columns = list(budgets(dimension))
        print(f"{'':39}" + " ".join(f"{c:>6}" for c in columns + [f"{c}*" for c in columns]) + "   (* no f1, f5)")
        table(dimension, options)


if __name__ == "__main__":
    sys.exit(main())
