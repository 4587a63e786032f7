"""The studies that chaos is brought to: every kind of simulator, optimizer and policy, small and quick."""

from dataclasses import dataclass, field
from typing import Any

__all__ = ["CASES", "FILES", "Case"]

PYTHON = """\
import json
import os
import time

import numpy as np

from prefect_simopt import Result, simulator

LOG = os.environ["CHAOS_LOG"]


def note(mark, trials, seeds, call):
    lines = "".join(json.dumps([mark, int(t), int(s), call]) + "\\n" for t, s in zip(trials, seeds))
    descriptor = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(descriptor, lines.encode())
    os.close(descriptor)


def begin(trials, seeds):
    call = f"{os.getpid()}-{time.time_ns()}"
    note("begin", trials, seeds, call)
    return call


def pause(x, y):
    time.sleep(0.025 * ((1e6 * x + 3e5 * y) % 1))


def bowl(x, y, context):
    call = begin([context.trial], [context.seed])
    pause(x, y)
    value = (x - 1) ** 2 + y**2
    note("end", [context.trial], [context.seed], call)
    return value


def free(x, y, context):
    call = begin([context.trial], [context.seed])
    note("end", [context.trial], [context.seed], call)
    return (x - 1) ** 2 + y**2


def image(x, y, context):
    call = begin([context.trial], [context.seed])
    pause(x, y)
    values = np.outer(np.sin(x * np.arange(40)), np.cos(y * np.arange(50)))
    note("end", [context.trial], [context.seed], call)
    return Result({"value": values.mean(), "top": values.max()}, {"image": values, "profile": values[0]})


def brittle(x, y, context):
    call = begin([context.trial], [context.seed])
    pause(x, y)
    if (1e4 * x) % 1 < 0.15:
        note("fail", [context.trial], [context.seed], call)
        raise ValueError("the mesh is bad")
    note("end", [context.trial], [context.seed], call)
    return (x - 1) ** 2 + y**2


def noisy(x, y, context):
    call = begin([context.trial], [context.seed])
    pause(x, y)
    value = (x - 1) ** 2 + y**2 + np.random.default_rng(context.seed).normal()
    note("end", [context.trial], [context.seed], call)
    return value


def mixed(x, n, kind, context):
    call = begin([context.trial], [context.seed])
    pause(x, n)
    note("end", [context.trial], [context.seed], call)
    return {"value": (x - 1) ** 2 + n + {"a": 0.0, "b": 0.5}[kind], "x": x}


@simulator(batch=True, batch_size=8)
def block(x, y, context):
    call = begin(context.trial, context.seed)
    time.sleep(0.03)
    values = np.sin(np.outer(x, np.arange(30)) + y[:, None])
    note("end", context.trial, context.seed, call)
    return Result({"value": values.mean(axis=1)}, {"wave": values})
"""

PROGRAM = """\
import json
import os
import sys
import time

with open("params.json") as file:
    given = json.load(file)
x, y = given["parameters"]["x"], given["parameters"]["y"]
call = f"{os.getpid()}-{time.time_ns()}"


def note(mark):
    descriptor = os.open(os.environ["CHAOS_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(descriptor, (json.dumps([mark, given["trial"], given["seed"], call]) + "\\n").encode())
    os.close(descriptor)


note("begin")
time.sleep(0.025 * ((1e6 * x + 3e5 * y) % 1))
if "brittle" in sys.argv and (1e4 * x) % 1 < 0.15:
    note("fail")
    sys.exit(7)
with open("profile.csv", "w") as file:
    file.write("\\n".join(f"{x * i},{y * i}" for i in range(20)) + "\\n")
print("value =", (x - 1) ** 2 + y**2)
note("end")
"""

FILES = {"simulators.py": PYTHON, "program.py": PROGRAM}
SQUARE = [{"name": "x", "low": -5, "high": 5}, {"name": "y", "low": -5, "high": 5}]
MIXED = [
    {"name": "x", "low": -5, "high": 5},
    {"name": "n", "type": "int", "low": 0, "high": 30},
    {"name": "kind", "type": "categorical", "choices": ["a", "b"]},
]


def python(function: str) -> dict[str, Any]:
    return {"type": "python", "entrypoint": f"simulators.py:{function}"}


def command(*words: str, fields: bool = False) -> dict[str, Any]:
    return {
        "type": "command",
        "command": ["{python}", "-I", "-S", "program.py", *words],
        "files": ["program.py"],
        "metrics": [{"name": "value", "stdout": "value = (.*)"}],
        "fields": [{"name": "profile", "file": "profile.csv"}] if fields else [],
    }


@dataclass(frozen=True)
class Case:
    """One kind of study.

    Attributes:
        name: of the kind.
        spec: what differs from the plain study.
        reproducible: whether an undisturbed run has the same fingerprint.
    """

    name: str
    spec: dict[str, Any] = field(default_factory=dict)
    reproducible: bool = True

    def document(self, seed: int) -> dict[str, Any]:
        """The study file."""
        return {
            "name": self.name,
            "space": SQUARE,
            "simulator": python("bowl"),
            "budget": {"trials": 60, "failures": 1.0},
            "cache": False,
            "seed": seed,
            **self.spec,
            "compute": {"workers": 2, "timeout": 60, "retry_delay": 0.01, **self.spec.get("compute", {})},
        }


CASES = [
    Case("pso", {"optimizer": {"type": "pso", "population": 12}}),
    Case("ga-image", {"optimizer": {"type": "ga", "population": 10}, "simulator": python("image"),
                      "relations": ["x + y <= 6"], "constraints": [{"metric": "top", "low": 0.2}]}),
    Case("sa-brittle", {"optimizer": {"type": "sa"}, "simulator": python("brittle"), "compute": {"retries": 1}}),
    Case("sobol-command", {"optimizer": "sobol", "simulator": command(fields=True), "budget": {"trials": 40}}),
    Case("random-command", {"optimizer": "random", "simulator": command("brittle"), "compute": {"retries": 2},
                            "budget": {"trials": 40, "failures": 1.0}}),
    Case("pso-block", {"optimizer": {"type": "pso", "population": 20}, "simulator": python("block"),
                       "budget": {"trials": 160}}),
    Case("ga-replicates", {"optimizer": {"type": "ga", "population": 8}, "simulator": python("noisy"),
                           "replicates": 3, "budget": {"trials": 32}}),
    Case("lhs-mixed", {"optimizer": "lhs", "space": MIXED, "simulator": python("mixed")}),
    Case("random-free", {"optimizer": "random", "simulator": python("free"), "budget": {"trials": 3000}}),
    Case("pso-free", {"optimizer": {"type": "pso", "population": 30}, "simulator": python("free"),
                      "budget": {"trials": 1500}}),
    Case("pso-async-1", {"optimizer": {"type": "pso", "population": 8, "mode": "async"},
                         "compute": {"workers": 1}}),
    Case("ga-async-3", {"optimizer": {"type": "ga", "population": 8, "mode": "async"}, "simulator": python("brittle"),
                        "compute": {"workers": 3, "retries": 1}}, reproducible=False),
]  # fmt: skip
