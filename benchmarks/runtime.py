"""What running simulators costs: ours beside a plain process pool that commits each result to SQLite.

Run it with `python benchmarks/runtime.py`. Both sides make each result durable against kills, not power cuts, before
it is reported: one of our objects holds at most 8 ms of short runs; SQLite commits with `synchronous=OFF`, and once
more with its default, which also waits for the disk.
"""

import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from prefect_simopt.simulators import processes
from prefect_simopt.simulators.config import CommandSimulator, PythonSimulator
from prefect_simopt.simulators.local import LocalCompute
from prefect_simopt.storage import StudyLocation
from prefect_simopt.trial import Run, Status

WORKERS, BATCH = 2, 16
SOURCE = """
import os, time
def sphere(x, y):
    return x * x + y * y
def slow(x, y):
    time.sleep(0.05)
    return x * x + y * y
def dies(x, y):
    if x > 0:
        os._exit(3)
    return y
def prints(x, y):
    piece = b"the same line again and again, and again\\n" * 25_000
    for _ in range(int(x)):
        os.write(1, piece)
    return y
"""


def sphere(x: float, y: float) -> float:
    return x * x + y * y


def slow(x: float, y: float) -> float:
    began = time.perf_counter()
    time.sleep(0.05)
    return time.perf_counter() - began + 0 * x * y


def runs(first: int, count: int, x: float = 1.0) -> list[Run]:
    return [Run(first + k, {"x": x, "y": 2.0}, seed=k, row=k) for k in range(count)]


def cpu_seconds(pids: list[int]) -> float:
    """CPU time of this process and of the given ones."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK") + time.process_time()


@contextmanager
def compute(folder: str, name: str, workers: int = WORKERS) -> Iterator[LocalCompute]:
    simulator = PythonSimulator(entrypoint=f"module.py:{name}", directory=folder)
    made = LocalCompute(simulator, space_names=["x", "y"], workers=workers, timeout=60)
    try:
        made.start()
        made.attach(StudyLocation(tempfile.mkdtemp(dir=folder)), 10**6)
        yield made
    finally:
        made.close()


def start_to_first_result(folder: str) -> float:
    began = time.perf_counter()
    with compute(folder, "sphere") as made:
        made.submit(runs(0, 1)).result()
        return time.perf_counter() - began


def rate(folder: str, trials: int) -> tuple[float, float]:
    """Durable trials per second, and CPU microseconds of a trial in all our processes."""
    with compute(folder, "sphere") as made:
        time.sleep(1.0)  # both workers have started
        made.submit(runs(10**6, 1)).result()
        pids = [pid for pid in processes.descendants(processes.children()) if pid != os.getpid()]
        cpu, began = cpu_seconds(pids), time.perf_counter()
        window = []
        for first in range(0, trials, BATCH):
            window.append(made.submit(runs(first, BATCH)))
            if len(window) > 2 * WORKERS:  # as the search does it
                window.pop(0).result()
        for future in window:
            assert all(outcome.status is Status.COMPLETE for outcome in future.result())
        return trials / (time.perf_counter() - began), 1e6 * (cpu_seconds(pids) - cpu) / trials


def efficiency(folder: str, trials: int, batch: int) -> float:
    """Share of the workers' time that 50 ms simulators run."""
    with compute(folder, "slow") as made:
        time.sleep(1.0)
        made.submit(runs(10**6, 1)).result()
        began = time.perf_counter()
        futures = [made.submit(runs(first, batch)) for first in range(0, trials, batch)]
        spent = sum(outcome.seconds for future in futures for outcome in future.result())
        return spent / WORKERS / (time.perf_counter() - began)


def death_and_replacement(folder: str, deaths: int) -> float:
    """Seconds that a simulator costs that ends its own process."""
    with compute(folder, "dies", workers=1) as made:
        made.submit(runs(10**6, 1, x=-1.0)).result()
        began = time.perf_counter()
        made.submit(runs(0, deaths)).result()
        return (time.perf_counter() - began) / deaths


def printed_bytes_per_second(folder: str) -> float:
    with compute(folder, "prints", workers=1) as made:
        made.submit(runs(10**6, 1)).result()
        began = time.perf_counter()
        made.submit(runs(0, 1, x=2000.0)).result()
        return 2000 * 25_000 * 41 / (time.perf_counter() - began)


def a_program(folder: str, trials: int) -> tuple[float, float]:
    """Milliseconds of a program's trial, and of starting the same program alone."""
    import subprocess

    simulator = CommandSimulator(
        command=["sh", "-c", 'echo "{{\\"value\\": 1}}" > metrics.json'], directory=folder, templates={}, files=[]
    )
    made = LocalCompute(simulator, space_names=["x", "y"], workers=1, timeout=60)
    try:
        made.start()
        made.attach(StudyLocation(tempfile.mkdtemp(dir=folder)), 10**6)
        made.submit(runs(10**6, 1)).result()
        began = time.perf_counter()
        made.submit(runs(0, trials)).result()
        ours = (time.perf_counter() - began) / trials
    finally:
        made.close()
    began = time.perf_counter()
    for _ in range(trials):
        subprocess.run(["sh", "-c", 'echo "{\\"value\\": 1}" > metrics.json'], check=True, cwd=folder)
    return 1e3 * ours, 1e3 * (time.perf_counter() - began) / trials


def pool(folder: str, function: Callable[[float, float], float], trials: int, synchronous: str) -> tuple[float, float]:
    """Seconds for trials of a plain pool that commits each result to SQLite, and the sum of what they returned."""
    database = sqlite3.connect(Path(tempfile.mkdtemp(dir=folder)) / "results.db")
    database.execute(f"PRAGMA synchronous={synchronous}")
    database.execute("CREATE TABLE results (trial INTEGER PRIMARY KEY, value REAL)")
    with ProcessPoolExecutor(WORKERS) as executor:
        list(executor.map(function, [1.0] * 4, [2.0] * 4))
        began = time.perf_counter()
        for trial, value in enumerate(executor.map(function, [1.0] * trials, [2.0] * trials, chunksize=1)):
            database.execute("INSERT INTO results VALUES (?, ?)", (trial, value))
            database.commit()
        seconds = time.perf_counter() - began
    total = database.execute("SELECT sum(value) FROM results").fetchone()[0]
    database.close()
    return seconds, total


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "module.py").write_text(SOURCE)
        print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores, {WORKERS} workers, batches of {BATCH}")
        first = sorted(start_to_first_result(folder) for _ in range(5))
        print(f"start to first result                 {first[2]:8.3f} s (5 starts: {first[0]:.3f} to {first[-1]:.3f})")
        ours, cpu = rate(folder, 16_000)
        off, full = (2000 / pool(folder, sphere, 2000, mode)[0] for mode in ("OFF", "FULL"))
        print(f"free simulator, durable               {ours:8.0f} trials/s, {cpu:.0f} us CPU a trial in all")
        print(f"  process pool + SQLite commit        {off:8.0f} trials/s (waiting for the disk: {full:.0f})")
        for batch in (1, 4):
            share = efficiency(folder, 160, batch)
            print(f"50 ms simulators, batches of {batch}        {100 * share:8.1f} % of the workers' time")
        seconds, spent = pool(folder, slow, 160, "OFF")
        share = spent / WORKERS / seconds
        print(f"  process pool + SQLite commit        {100 * share:8.1f} %")
        print(f"a process that dies, and its successor{1e3 * death_and_replacement(folder, 100):8.1f} ms")
        print(f"printed bytes that flow by            {printed_bytes_per_second(folder) / 1e9:8.2f} GB/s")
        ours, alone = a_program(folder, 200)
        print(f"a program's trial                     {ours:8.2f} ms (the program alone: {alone:.2f} ms)")


if __name__ == "__main__":
    main()
