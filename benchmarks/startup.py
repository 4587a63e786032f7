"""Start-up: imports, the first trial of `simopt run --untracked`, and the whole command beside a process pool.

    python benchmarks/startup.py [REPEATS]

The peer is a plain `ProcessPoolExecutor` that commits each result to SQLite. Medians of interleaved repeats.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRIALS, SECONDS, WORKERS = 256, 0.05, 2

SIMULATOR = f"""
import time

def simulate(x, y):
    with open(LOG, "a") as file:
        file.write(f"{{time.time()}}\\n")
    time.sleep({SECONDS})
    return x * x + y * y
"""
PEER = f"""
import random, sqlite3, sys, time
from concurrent.futures import ProcessPoolExecutor, as_completed

sys.path.insert(0, FOLDER)
from simulator import simulate

if __name__ == "__main__":
    base = sqlite3.connect(FOLDER + "/peer.db")
    base.execute("create table if not exists results (trial, x, y, value)")
    with ProcessPoolExecutor({WORKERS}) as pool:
        points = [(random.random(), random.random()) for _ in range({TRIALS})]
        futures = {{pool.submit(simulate, x, y): (i, x, y) for i, (x, y) in enumerate(points)}}
        for future in as_completed(futures):
            base.execute("insert into results values (?, ?, ?, ?)", (*futures[future], future.result()))
            base.commit()
"""
IMPORTS = {
    "python": "pass",
    "the core (spec, loop, store)": "import prefect_simopt.session",
    "prefect": "import prefect, prefect.flows, prefect.blocks.core",
    "prefect and our blocks": "import prefect, prefect.flows, prefect.blocks.core, prefect_simopt.blocks",
}


def timed(*command: object) -> tuple[float, float]:
    """Wall seconds of a command, and the Unix time at which it began."""
    began = time.time()
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.time() - began, began


def main() -> None:
    """Measure and print, one JSON object at the end."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    figures: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        figures.setdefault(name, []).append(value)

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        log = folder / "log.txt"
        (folder / "simulator.py").write_text(f"LOG = {str(log)!r}\n{SIMULATOR}")
        (folder / "peer.py").write_text(f"FOLDER = {str(folder)!r}\n{PEER}")
        study = {
            "name": "bench",
            "simulator": {"entrypoint": "simulator.py:simulate"},
            "space": [{"name": "x", "low": 0, "high": 1}, {"name": "y", "low": 0, "high": 1}],
            "optimizer": "pso",
            "budget": {"trials": TRIALS},
            "compute": {"workers": WORKERS},
            "cache": False,
        }
        (folder / "study.yaml").write_text(json.dumps(study))
        simopt = Path(sys.executable).with_name("simopt")
        ideal = TRIALS * SECONDS / WORKERS
        for repeat in range(repeats):
            for name, code in IMPORTS.items():
                note(f"import: {name}", timed(sys.executable, "-c", code)[0])
            log.unlink(missing_ok=True)
            seconds, _ = timed(sys.executable, folder / "peer.py")
            note("efficiency: process pool and SQLite, whole command", ideal / seconds)
            log.unlink(missing_ok=True)
            command = [simopt, "run", folder / "study.yaml", "--untracked", "--store", folder / f"studies-{repeat}"]
            seconds, began = timed(*command)
            note("efficiency: simopt run --untracked, whole command", ideal / seconds)
            note("first trial of simopt run --untracked, s", min(map(float, log.read_text().split())) - began)
    for name, values in figures.items():
        print(f"{name:55} {statistics.median(values):7.3f}   ({min(values):.3f} to {max(values):.3f})")
    print(json.dumps({name: statistics.median(values) for name, values in figures.items()}))


if __name__ == "__main__":
    main()
