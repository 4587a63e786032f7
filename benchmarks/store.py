"""What the store costs: fields beside `np.save`, scalars and outcomes per trial, opening, reading and verifying.

Run it with `python benchmarks/store.py [--trials 100000] [--folder DIR]`; it prints Markdown tables.
"""

import argparse
import os
import resource
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xarray as xr

from prefect_simopt.record import Record
from prefect_simopt.sink import TrialSink
from prefect_simopt.spec import StudySpec
from prefect_simopt.storage import StudyLocation
from prefect_simopt.study import open_study
from prefect_simopt.trial import Outcome, Status, Trial
from prefect_simopt.verify import verify

GENERATION = 16
PARAMETERS = 10


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=100_000, help="of the largest study")
    parser.add_argument("--folder", type=Path, default=Path("build/bench-store"), help="on the disk to be measured")
    arguments = parser.parse_args()
    try:
        measure_fields(arguments.folder)
        measure_records(arguments.folder, arguments.trials)
    finally:
        shutil.rmtree(arguments.folder, ignore_errors=True)


def measure_fields(folder: Path) -> None:
    rng = np.random.default_rng(0)
    line = np.linspace(-3, 3, 512)
    kinds = {
        "random f8": rng.standard_normal((256, 512)),
        "random f4": rng.standard_normal((512, 512)).astype("f4"),
        "smooth f8": np.sin(line[:256, None] * 3) * np.cos(line),
        "smooth f4": np.exp(-(line[:, None] ** 2) - line**2).astype("f4"),
        "mask of 0 and 1": (line[:, None] ** 2 + line**2 < 4).astype("f4"),
    }
    print("Fields of 1 MiB, MiB/s (median of 5 rounds, each 100 fields), beside np.save in the same round.\n")
    print("| field | np.save | put_field | share | np.save, fsync | put_field, fsync | share |")
    print("|---|---|---|---|---|---|---|")
    for kind, array in kinds.items():
        cells = []
        for fsync in (False, True):
            rates = [(_rate(folder, _saver(folder, array, fsync)), _rate(folder, _putter(folder, array, fsync)))
                     for _ in range(5)]  # fmt: skip
            saved, put = (statistics.median(each) for each in zip(*rates, strict=True))
            cells += [f"{saved:.0f}", f"{put:.0f}", f"{statistics.median(b / a for a, b in rates):.0%}"]
        print(f"| {kind} | " + " | ".join(cells) + " |", flush=True)
    print()


def _rate(folder: Path, write: Callable[[int], None], count: int = 100) -> float:
    write(count)
    started = time.perf_counter()
    for i in range(count):
        write(i)
    rate = count / (time.perf_counter() - started)
    shutil.rmtree(folder)
    return rate


def _saver(folder: Path, array: npt.NDArray[np.generic], fsync: bool) -> Callable[[int], None]:
    folder.mkdir(parents=True, exist_ok=True)

    def write(i: int) -> None:
        with (folder / f"{i}.npy").open("wb") as file:
            np.save(file, array)
            if fsync:
                file.flush()
                os.fsync(file.fileno())

    return write


def _putter(folder: Path, array: npt.NDArray[np.generic], fsync: bool) -> Callable[[int], None]:
    sink = TrialSink(StudyLocation(str(folder), {"fsync": fsync}), 1000)

    def write(i: int) -> None:
        sink.put_field(i, "field", array)

    return write


def measure_records(folder: Path, largest: int) -> None:
    print(f"Studies of {PARAMETERS} parameters and 2 metrics, told in generations of {GENERATION}.\n")
    print("| trials | asked+told+flush, CPU us/trial | first and last quarter | outcomes, CPU us/trial | opening, s | "
          "metrics and status, s | counts and best, s | fingerprint, s | verify, s | resident MiB |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|")
    count = 100
    while count <= largest:
        _measure_record(folder, count)
        count *= 10
    print()


def _measure_record(folder: Path, count: int) -> None:
    spec = StudySpec.model_validate(
        {
            "name": "bench",
            "simulator": {"entrypoint": "bench.py:simulate"},
            "space": [{"name": f"x{i}", "type": "float", "low": 0, "high": 1} for i in range(PARAMETERS)],
            "budget": {"trials": count},
        }
    )
    location = StudyLocation(str(folder / "bench"))
    record = Record.open(location, spec=spec, provenance={})
    sink = TrialSink(location, count)
    rng = np.random.default_rng(0)
    costs, outcomes_cost = [], 0.0
    for generation, start in enumerate(range(0, count, GENERATION)):
        trials = list(range(start, min(start + GENERATION, count)))
        x = rng.random((len(trials), PARAMETERS))
        points = [dict(zip(spec.make_space().names, row, strict=True)) for row in x.tolist()] if not start else []
        outcomes = [
            Outcome(n, Status.COMPLETE, metrics={"value": float(x[i, 0]), "side": 1.0}, seconds=0.1, worker="host:1234")
            for i, n in enumerate(trials)
        ]
        points = points or [{} for _ in trials]
        before = time.process_time()
        sink.put_outcomes(outcomes)
        middle = time.process_time()
        outcomes_cost += middle - before
        ended = [
            (Trial(each.trial, at, each.status, each.metrics, seed=1, generation=generation, seconds=0.1), [each])
            for each, at in zip(outcomes, points, strict=True)
        ]
        middle = time.process_time()
        record.asked(generation, trials, x, trials)
        record.told(ended)
        record.flush()
        costs.append(time.process_time() - middle)
    record.close("interrupted")
    quarter = max(len(costs) // 4, 1)
    per = [1e6 * sum(part) / (len(part) * GENERATION) for part in (costs, costs[:quarter], costs[-quarter:])]
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    opening = _seconds(lambda: Record.open(location, spec=spec, provenance={}).close("budget"))
    study = open_study(location.url)
    opened = xr.open_zarr(location.url, consolidated=False)
    scalars = _seconds(lambda: (opened["metrics"].to_numpy(), opened["status"].to_numpy()))
    reading = _seconds(lambda: (study.counts, study.best))
    fingerprint = _seconds(study.fingerprint)
    checking = _seconds(lambda: verify(location))
    print(
        f"| {count} | {per[0]:.0f} | {per[1]:.0f}, {per[2]:.0f} | {1e6 * outcomes_cost / count:.0f} | {opening:.3f} | "
        f"{scalars:.3f} | {reading:.3f} | {fingerprint:.3f} | {checking:.2f} | {resident:.0f} |",
        flush=True,
    )
    shutil.rmtree(folder)


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
