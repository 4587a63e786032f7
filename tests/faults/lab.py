"""A study in a folder, and `simopt` as a process, for everything that is done to them here."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import yaml

__all__ = ["SIMOPT", "Lab", "wait_for"]

SIMOPT = str(Path(sys.executable).with_name("simopt"))
PATIENCE = 150
SIMULATORS = '''\
import time

import numpy as np

from prefect_simopt import Result


def bowl(x, y):
    time.sleep(0.01)
    return (x - 1) ** 2 + y**2


def slow(x, y):
    with open("calls", "a") as file:
        file.write("call ")
    time.sleep(0.05)
    return (x - 1) ** 2 + y**2


def bulky(x, y):
    """A field of 200 kB that cannot be compressed."""
    values = np.frombuffer(np.random.default_rng(abs(hash((x, y)))).bytes(200_000), dtype="u1")
    return Result({"value": (x - 1) ** 2 + y**2}, {"bulk": values})
'''
STUDY = {
    "name": "bowl",
    "simulator": {"entrypoint": "simulators.py:bowl"},
    "space": [{"name": "x", "low": -5, "high": 5}, {"name": "y", "low": -5, "high": 5}],
    "optimizer": {"type": "pso", "population": 20},
    "budget": {"trials": 200},
    "compute": {"workers": 2, "timeout": 60},
    "cache": False,
    "seed": 3,
}


class Lab:
    """A study's folder.

    Args:
        folder: a new one.
        changes: keys of the study file that differ.
    """

    def __init__(self, folder, **changes):
        self.folder = folder
        folder.mkdir(exist_ok=True)
        (folder / "simulators.py").write_text(SIMULATORS)
        (folder / "study.yaml").write_text(yaml.safe_dump({**STUDY, **changes}))
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}

    def start(self, *words):
        """`simopt`, left running; its messages go to the file `stderr`."""
        with (self.folder / "stderr").open("w") as errors:
            return subprocess.Popen(
                [SIMOPT, *map(str, words)], cwd=self.folder, env=self.environment, text=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
            )  # fmt: skip

    def run(self, store):
        """Start the study, or go on with it."""
        return self.start("run", "study.yaml", "--untracked", "--json", "--store", store)

    def ended(self, process):
        """Exit code and messages; no message is a traceback."""
        out, _ = process.communicate(timeout=PATIENCE)
        errors = (self.folder / "stderr").read_text()
        assert "Traceback" not in errors, errors
        return process.returncode, out, errors

    def fingerprint(self, store):
        """That of the study, run to its end."""
        code, out, errors = self.ended(self.run(store))
        assert code == 0, errors
        return json.loads(out)["fingerprint"]

    def verify(self, study):
        """What `simopt verify` says; empty when it finds nothing."""
        code, out, errors = self.ended(self.start("verify", study))
        return "" if code == 0 else out + errors


def wait_for(condition, process=None):
    """Until it holds, while the process lives."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
