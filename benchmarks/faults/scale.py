"""What a long study costs: memory of the flow, time per trial, time to resume, and what durability adds.

Run it: `python benchmarks/faults/scale.py --trials 100000`.
"""

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import yaml

from prefect_simopt.outcomes import OutcomeSink
from prefect_simopt.storage import StudyLocation
from prefect_simopt.trial import Outcome, Status

SIMOPT = str(Path(sys.executable).with_name("simopt"))
FREE = """\
import os

def free(x, y, z, context):
    if context.trial == FIRST:
        open("first", "w").close()
    return (x - 1) ** 2 + y**2 + z**2
"""


def study(folder: Path, trials: int, optimizer: str) -> list[str]:
    """Write a study of a simulator that costs nothing; returns the command that runs it."""
    (folder / "simulator.py").write_text(FREE.replace("FIRST", str(trials)))
    document = {
        "name": "free",
        "simulator": {"entrypoint": "simulator.py:free"},
        "space": [{"name": name, "low": -5, "high": 5} for name in "xyz"],
        "optimizer": {"type": optimizer, **({"population": 100} if optimizer in ("pso", "ga") else {})},
        "budget": {"trials": trials},
        "compute": {"workers": 2},
        "cache": False,
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(document))
    return [SIMOPT, "run", "study.yaml", "--untracked", "--json"]


def told(folder: Path) -> int:
    """How many records the ledger has, by its last line."""
    segments = sorted((folder / "studies/free/ledger").glob("*.jsonl"))
    if not segments:
        return 0
    with segments[-1].open("rb") as file:
        file.seek(max(0, segments[-1].stat().st_size - 100_000))
        lines = file.read().splitlines()
    return next((json.loads(line)["seq"] for line in reversed(lines[:-1]) if line.startswith(b'{"seq"')), 0)


def resident(pid: int) -> float:
    """MB of memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def watch(command: list[str], folder: Path) -> list[tuple[float, int, float]]:
    """Run a study; seconds, ledger records and MB, several times a second."""
    begin, samples = time.monotonic(), []
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        with contextlib.suppress(OSError, StopIteration):
            samples.append((time.monotonic() - begin, told(folder), resident(process.pid)))
        time.sleep(0.2)
    if process.returncode:
        raise SystemExit(f"the study failed with exit code {process.returncode}")
    return [sample for sample in samples if sample[2]]


def resume(command: list[str], folder: Path, trials: int) -> tuple[float, float]:
    """Seconds from the command to the first new trial, and of CPU for all of it, 100 new trials included."""
    (folder / "first").unlink(missing_ok=True)
    begin, before = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    extended = [*command, "--set", f"budget.trials={trials + 100}"]
    subprocess.run(extended, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return (folder / "first").stat().st_mtime - begin, cpu


def durability(folder: Path) -> dict[int, float]:
    """Microseconds a trial that writing outcomes costs, by the number that is written together."""
    sink = OutcomeSink(StudyLocation(str(folder / "durability")))
    costs = {}
    for size in (1, 8, 64):
        seconds = []
        for repeat in range(200):
            outcomes = [Outcome(repeat * size + i, Status.COMPLETE, metrics={"value": 0.1 * i}) for i in range(size)]
            begin = time.perf_counter()
            sink.put_outcomes(outcomes)
            seconds.append((time.perf_counter() - begin) / size)
        costs[size] = 1e6 * median(seconds)
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--optimizer", default="pso")
    arguments = parser.parse_args()
    for trials in sorted({100, 10_000, arguments.trials}):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            command = study(folder, trials, arguments.optimizer)
            samples = watch(command, folder)
            print(f"{trials} trials with {arguments.optimizer}")
            for part in range(5) if trials >= 10_000 else ():
                inside = [s for s in samples if part <= 5 * s[1] / samples[-1][1] <= part + 1]
                if len(inside) > 1 and inside[-1][1] > inside[0][1]:
                    cost = 1e6 * (inside[-1][0] - inside[0][0]) / (inside[-1][1] - inside[0][1])
                    print(f"  {20 * part:3}-{20 * part + 20} %: {cost:6.0f} us/trial, {inside[-1][2]:6.1f} MB")
            seconds, cpu = resume(command, folder, trials)
            print(f"  resumed: {seconds:.2f} s to the first new trial, {cpu:.2f} s of CPU in all", flush=True)
    with tempfile.TemporaryDirectory() as name:
        for size, cost in durability(Path(name)).items():
            print(f"outcomes written {size} at a time: {cost:.0f} us/trial")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
