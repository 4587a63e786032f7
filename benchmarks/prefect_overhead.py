"""What tracking by Prefect costs, with a server running: `python benchmarks/prefect_overhead.py [--repeats 5]`.

Three questions, each asked in turn of everything compared, several times over; medians are reported.
1. How busy are two workers with 256 trials of 50 ms? Beside: untracked, and a process pool that commits each result
   to SQLite.
2. What does a whole `simopt run` take beyond a command that runs an empty Prefect flow?
3. How many trials a second are tracked when the simulator costs nothing?
"""

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

SIMULATORS = """
import time

def free(x, y):
    return (x - 1) ** 2 + y**2

def short(x, y):
    time.sleep(0.05)
    return (x - 1) ** 2 + y**2
"""
EMPTY = """
from prefect import flow

@flow
def empty():
    return None

empty()
"""
RUN = """
import json, sys, time
from prefect_simopt.session import watchers
from prefect_simopt.specfile import make_spec

class Clock:
    started = ended = 0.0
    def generation_started(self, number, trials):
        self.started = self.started or time.perf_counter()
    def trial_ended(self, trial):
        self.ended = time.perf_counter()
    def generation_completed(self, number, progress):
        pass

clock = Clock()
watchers.set([clock])
spec = make_spec(json.loads(sys.argv[1]))
if sys.argv[2] == "tracked":
    from prefect_simopt.flows.optimize import optimize
    optimize(study=spec)
else:
    from prefect_simopt.api import run_untracked
    run_untracked(spec)
print(clock.ended - clock.started)
"""
WORKERS, TRIALS, SECONDS = 2, 256, 0.05


def sleep(_: int) -> float:
    time.sleep(SECONDS)
    return 0.0


class Bench:
    """One folder with everything that is compared."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.count = folder, 0
        (folder / "simulators.py").write_text(SIMULATORS)
        quiet = {"PREFECT_LOGGING_LEVEL": "WARNING", "PREFECT_HOME": str(folder / "home"), "PREFECT_API_URL": url}
        self.environment = {**os.environ, **quiet}

    def study(self, function: str, trials: int, population: int) -> dict[str, Any]:
        self.count += 1
        return {
            "name": f"bench-{self.count}",
            "simulator": {"entrypoint": f"simulators.py:{function}", "directory": str(self.folder)},
            "space": [{"name": name, "low": -5, "high": 5} for name in "xy"],
            "optimizer": {"type": "pso", "population": population},
            "budget": {"trials": trials},
            "compute": {"workers": WORKERS},
            "store": {"url": str(self.folder / "studies")},
            "cache": False,
        }

    def searching(self, how: str, function: str, trials: int, population: int) -> float:
        """Seconds from the first question to the last answer."""
        document = json.dumps(self.study(function, trials, population))
        command = [sys.executable, "-c", RUN, document, how]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True)
        return float(done.stdout)

    def pool(self) -> float:
        """The same work on a process pool that commits each result to SQLite."""
        self.count += 1
        database = sqlite3.connect(self.folder / f"pool-{self.count}.db")
        database.execute("create table results (trial integer primary key, value real)")
        with ProcessPoolExecutor(WORKERS) as pool:
            list(pool.map(sleep, range(WORKERS)))  # the processes are there
            started = time.perf_counter()
            for trial, future in enumerate(as_completed([pool.submit(sleep, i) for i in range(TRIALS)])):
                database.execute("insert into results values (?, ?)", (trial, future.result()))
                database.commit()
            return time.perf_counter() - started

    def command(self, code: list[str]) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, *code], env=self.environment, capture_output=True, check=True, cwd=self.folder)
        return time.perf_counter() - started

    def study_command(self) -> float:
        document = self.study("free", 1, 2)
        path = self.folder / f"{document['name']}.json"
        path.write_text(json.dumps(document))
        return self.command([str(Path(sys.executable).with_name("simopt")), "run", str(path)])


def medians(repeats: int, measures: dict[str, Callable[[], float]]) -> dict[str, float]:
    """Median of each measure, taken in turn."""
    taken: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(repeats):
        for name, measure in measures.items():
            taken[name].append(measure())
    return {name: statistics.median(values) for name, values in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    from prefect_simopt.deployments.local import down, up

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        url = up(folder / "state", port=4600, deploy=())
        try:
            bench = Bench(folder, url)
            ideal = TRIALS * SECONDS / WORKERS
            busy = medians(repeats, {
                "tracked": lambda: bench.searching("tracked", "short", TRIALS, 16),
                "untracked": lambda: bench.searching("untracked", "short", TRIALS, 16),
                "process pool and SQLite": bench.pool,
            })  # fmt: skip
            print(f"{TRIALS} trials of {SECONDS * 1000:.0f} ms, {WORKERS} workers, generations of 16: efficiency")
            for name, seconds in busy.items():
                print(f"  {name:24} {ideal / seconds:.3f}")
            whole = medians(repeats, {
                "empty Prefect flow": lambda: bench.command(["-c", EMPTY]),
                "simopt run, one trial": bench.study_command,
            })  # fmt: skip
            print("whole commands, seconds")
            for name, seconds in whole.items():
                print(f"  {name:24} {seconds:.2f}")
            print(f"  difference               {whole['simopt run, one trial'] - whole['empty Prefect flow']:.2f}")
            count = 4000
            rates = medians(repeats, {
                f"{how}, generations of {size}": lambda how=how, size=size: bench.searching(how, "free", count, size)
                for how in ("tracked", "untracked") for size in (16, 64)
            })  # fmt: skip
            print(f"{count} trials of a free simulator, trials a second")
            for name, seconds in rates.items():
                print(f"  {name:28} {count / seconds:7.0f}")
        finally:
            down(folder / "state")


if __name__ == "__main__":
    main()
