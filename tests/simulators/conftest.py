import os
import secrets
import time
from pathlib import Path

import pytest

from prefect_simopt.simulators import processes
from prefect_simopt.simulators.config import CommandSimulator, PythonSimulator
from prefect_simopt.simulators.local import LocalCompute
from prefect_simopt.storage import StudyLocation

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch):
    """No process that a test starts, whatever it does, outlives the test."""
    mark = secrets.token_hex(8)
    monkeypatch.setenv("SIMOPT_TEST", mark)
    yield
    deadline = time.monotonic() + 10
    while (left := processes.marked("SIMOPT_TEST", mark)) and time.monotonic() < deadline:
        time.sleep(0.02)
    described = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left if Path(f"/proc/{pid}").exists()}
    for pid in described:
        os.kill(pid, 9)
    assert not described


class Place:
    """A study's folder, and computes that write to it."""

    def __init__(self, path):
        self.path = path
        self.location = StudyLocation(str(path / "study"))
        self.computes = []

    def start(self, simulator, names=("x",), workers=1, timeout=20, capacity=100, **options):
        """A compute that has started its simulator and knows its store."""
        compute = LocalCompute(simulator, space_names=names, workers=workers, timeout=timeout, **options)
        self.computes.append(compute)
        compute.info = compute.start()
        compute.attach(self.location, capacity)
        return compute

    def python(self, text, /, name="simulate", **options):
        """A `PythonSimulator` of a file with this source."""
        (self.path / "module.py").write_text(text)
        return PythonSimulator(entrypoint=f"module.py:{name}", directory=str(self.path), **options)

    def command(self, text, /, command=("{python}", "program.py"), **options):
        """A `CommandSimulator` of a program with this source."""
        (self.path / "program.py").write_text(text)
        options = {"files": ["program.py"], "directory": str(self.path), **options}
        return CommandSimulator(command=list(command), **options)

    def outcomes(self):
        """What is in the store: outcomes by (trial, replicate, attempt)."""
        from prefect_simopt.outcomes import decode_outcomes

        found = {}
        for file in (self.path / "study" / "outcomes").glob("*.jsonl"):
            good, damaged = decode_outcomes(file.read_bytes())
            assert not damaged
            for outcome in good:
                key = outcome.trial, outcome.replicate, outcome.attempt
                assert key not in found
                found[key] = outcome
        return found

    def log(self, trial, replicate=0, attempt=0):
        """What a run printed, as kept in the store."""
        return (self.path / "study" / "logs" / f"{trial:08d}-{replicate}-{attempt}.txt").read_text()


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    yield place
    for compute in place.computes:
        compute.close()
