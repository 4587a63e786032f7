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
from typing import NamedTuple

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


class Sample(NamedTuple):
    """Of a running study: CPU seconds of the search's process, ledger records, MB of memory."""

    cpu: float
    records: int
    memory: float


def cpu_seconds(pid: int) -> float:
    """Of user and system time so far."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def watch(command: list[str], folder: Path) -> list[Sample]:
    """Run a study and look at it several times a second."""
    samples = []
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        with contextlib.suppress(OSError, StopIteration):
            samples.append(Sample(cpu_seconds(process.pid), told(folder), resident(process.pid)))
        time.sleep(0.2)
    if process.returncode:
        raise SystemExit(f"the study failed with exit code {process.returncode}")
    return [sample for sample in samples if sample.memory]


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
            last = samples[-1].records
            searching = [sample for sample in samples if sample.records < last]
            for part in range(5) if trials >= 10_000 else ():
                inside = [sample for sample in searching if part <= 5 * sample.records / last <= part + 1]
                if len(inside) > 1 and inside[-1].records > inside[0].records:
                    cost = 1e6 * (inside[-1].cpu - inside[0].cpu) / (inside[-1].records - inside[0].records)
                    place = f"{20 * part:3}-{20 * part + 20} %"
                    print(f"  {place}: {cost:6.0f} us of CPU a record, {inside[-1].memory:6.1f} MB")
            print(f"  with the report: {max(sample.memory for sample in samples):6.1f} MB")
            seconds, cpu = resume(command, folder, trials)
            print(f"  resumed: {seconds:.2f} s to the first new trial, {cpu:.2f} s of CPU in all", flush=True)
    with tempfile.TemporaryDirectory() as name:
        for size, cost in durability(Path(name)).items():
            print(f"outcomes written {size} at a time: {cost:.0f} us/trial")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
