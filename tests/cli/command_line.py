"""What the tests of the command line share beside their fixtures."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

SIMOPT = str(Path(sys.executable).with_name("simopt"))
SIMULATOR = """\
import time

def bowl(x, y):
    return {"value": (x - 1) ** 2 + y ** 2, "sum": x + y}

def slow(x, y):
    time.sleep(0.02)
    return bowl(x, y)

def slower(x, y):
    open("started", "w").close()
    time.sleep(0.3)
    return bowl(x, y)

def failing(x, y):
    print("nozzle", x)
    raise ValueError("the mesh is bad")

def other(x):
    return x
"""
STUDY = {
    "name": "bowl",
    "simulator": {"entrypoint": "simulator.py:bowl"},
    "space": [{"name": "x", "low": -5, "high": 5}, {"name": "y", "low": -5, "high": 5}],
    "optimizer": {"type": "pso", "population": 8},
    "budget": {"trials": 40},
    "compute": {"workers": 1, "timeout": 60},
    "store": {"url": "studies"},
    "seed": 7,
}


@dataclass
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        """The one JSON object on standard output."""
        (line,) = self.out.splitlines()
        return json.loads(line)


def tree(folder):
    """Every file and folder below, with the bytes of the files."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")
            if "__pycache__" not in path.parts}  # fmt: skip
