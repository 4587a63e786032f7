"""Equal trials are taken from the store: with real simulator processes, whose calls are counted outside our control."""

import numpy as np
import pytest

from prefect_simopt.api import load_study, run_untracked
from prefect_simopt.specfile import make_spec

PLAIN = """
import numpy as np
from prefect_simopt.simulators.contract import Field, Result

def simulate(x, n):
    with open({log!r}, "a") as file:
        file.write(f"{{x}} {{n}}\\n")
    profile = Field(x * np.arange(4.0), dims=("place",), unit="K", coords={{"place": [0, 1, 2, 3]}})
    return Result({{"value": (x - 1) ** 2 + n}}, {{"profile": profile}})
"""
SEEDED = """
import random

def simulate(x, n, context):
    with open({log!r}, "a") as file:
        file.write(f"{{x}} {{n}}\\n")
    return x + n + random.Random(context.seed).random()
"""


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path)


class Lab:
    def __init__(self, folder):
        self.folder, self.log = folder, folder / "calls.txt"
        self.log.touch()
        self.write(PLAIN)

    def write(self, code):
        (self.folder / "simulator.py").write_text(code.format(log=str(self.log)))

    def run(self, name, **changes):
        document = {
            "name": name,
            "simulator": {"entrypoint": "simulator.py:simulate"},
            "space": [{"name": "x", "low": 0, "high": 2}, {"name": "n", "type": "int", "low": 0, "high": 3}],
            "optimizer": "random",
            "budget": {"trials": 12},
            "compute": {"workers": 1},
            "store": str(self.folder / "studies"),
            **changes,
        }
        before = len(self.log.read_text().splitlines())
        run_untracked(make_spec(document, directory=self.folder))
        calls = len(self.log.read_text().splitlines()) - before
        return calls, load_study(self.folder / "studies" / name)


def test_an_equal_study_under_another_name_runs_nothing(lab):
    first, study = lab.run("first")
    second, again = lab.run("second")
    assert (first, second) == (12, 0)
    assert (study.counts["cached"], again.counts["cached"]) == (0, 12)
    assert again.fingerprint() == study.fingerprint()
    assert again.trial(3).cached == "first/3"
    np.testing.assert_array_equal(again.fields["profile"][3], study.fields["profile"][3])
    assert again.field("profile", 3).unit == "K"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, PLAIN + "# one byte more"),
        ({"seed": 1}, PLAIN),
        ({"cache": False}, PLAIN),
        ({"space": [{"name": "x", "low": 0, "high": 1}, {"name": "n", "type": "int", "low": 0, "high": 3}]}, PLAIN),
    ],
    ids=["changed code", "another seed", "cache off", "another space"],
)
def test_what_differs_is_run(lab, changes, code):
    lab.run("first")
    lab.write(code)
    calls, study = lab.run("second", **changes)
    assert calls == 12
    assert study.counts["cached"] == 0


def test_what_is_not_there_is_part_of_what_must_be_equal(lab):
    lab.write("""
def simulate(x, n=7):
    with open({log!r}, "a") as file:
        file.write(f"{{x}} {{n}}\\n")
    return x + n
""")
    steps = [{"name": "x", "low": 0, "high": 2, "step": 1}]
    always = [*steps, {"name": "n", "type": "int", "low": 0, "high": 3}]
    at_two = [*steps, {"name": "n", "type": "int", "low": 0, "high": 3, "when": {"x": 2}}]

    def points(*given):
        return {"type": "points", "points": list(given)}

    first = points({"x": 0, "n": 0}, {"x": 1, "n": 0}, {"x": 2, "n": 0})
    second = points({"x": 0}, {"x": 1}, {"x": 2, "n": 0})
    assert lab.run("always", space=always, optimizer=first)[0] == 3
    assert lab.run("at-two", space=at_two, optimizer=second)[0] == 2  # without n they are not the same
    assert lab.run("again", space=at_two, optimizer=second)[0] == 0


def test_a_seed_is_part_of_what_must_be_equal(lab):
    lab.write(SEEDED)
    lab.run("first")
    points = [{"x": 0.5, "n": 1}, {"x": 0.5, "n": 1}]
    calls, study = lab.run("twice", optimizer={"type": "points", "points": points})
    assert calls == 2
    assert study.trial(0).metrics != study.trial(1).metrics
    assert lab.run("again")[0] == 0


def test_replicates_are_never_taken_from_one_another(lab):
    lab.write(SEEDED)
    calls, study = lab.run("noisy", replicates=3, budget={"trials": 4})
    assert calls == 12
    assert all(study.trial(number).errors["value"] > 0 for number in range(4))


def test_a_damaged_source_is_run_instead(lab):
    _, study = lab.run("first")
    (chunk,) = (lab.folder / "studies/first/fields/profile/c/5").iterdir()
    data = bytearray(chunk.read_bytes())
    data[20] ^= 1
    chunk.write_bytes(bytes(data))
    calls, again = lab.run("second")
    assert calls == 1
    assert again.fingerprint() == study.fingerprint()
