"""Programs: what they find in their directory, and what is read from what they leave."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import zarr
from pydantic import ValidationError

from prefect_simopt.errors import SimulatorError
from prefect_simopt.fields import described_field
from prefect_simopt.trial import Reason, Run, Status


def one(place, simulator, names=("x",), parameters=None, **options):
    compute = place.start(simulator, names=names, **options)
    return compute.submit([Run(7, parameters or {"x": 0.1}, seed=42)]).result(60)[0]


def test_the_directory_of_a_trial(place):
    """The whole contract: params.json, environment, placeholders, files, templates, and its end."""
    (place.path / "mesh").mkdir()
    (place.path / "mesh" / "a.txt").write_text("a mesh")
    (place.path / "deck.j2").write_text(
        "{{ x }} {{ parameters.kind }} {{ seed }} {{ trial }}\n{% if flag %}on{% endif %}\n"
    )
    source = """
import json, os, sys
from pathlib import Path
print(json.dumps({
    "words": sys.argv[1:], "cwd": os.getcwd(), "params": json.load(open("params.json")),
    "environment": {name: text for name, text in os.environ.items() if name.startswith("SIMOPT_") or name == "A"},
    "deck": Path("decks/deck.in").read_text(), "mesh": Path("mesh/a.txt").read_text(), "stdin": sys.stdin.read(),
}))
Path("mesh/a.txt").write_text("changed by a trial")
Path(os.environ["SIMOPT_OUTPUT"], "metrics.json").write_text('{"value": 1}')
"""
    command = [
        "{python}",
        "program.py",
        "{x}",
        "a={kind}",
        "{flag}",
        "{params}",
        "{output}",
        "{seed}/{trial}",
        "{{x}}",
        "{",
        "$x;",
    ]
    simulator = place.command(
        source, command, files=["program.py", "mesh/"], templates={"decks/deck.in": "deck.j2"}, environment={"A": "b"}
    )
    parameters = {"x": 0.1, "kind": "a b'\"", "flag": True}
    outcome = one(place, simulator, list(parameters), parameters)
    assert outcome.status is Status.COMPLETE, outcome
    seen = json.loads(place.log(7))
    folder = seen["cwd"]
    assert seen["words"] == ["0.1", "a=a b'\"", "true", f"{folder}/params.json", folder, "42/7", "{x}", "{", "$x;"]
    assert seen["params"] == {"parameters": parameters, "seed": 42, "trial": 7}
    assert (
        seen["environment"].items()
        >= {
            "SIMOPT_PARAMS": f"{folder}/params.json",
            "SIMOPT_OUTPUT": folder,
            "SIMOPT_SEED": "42",
            "SIMOPT_TRIAL": "7",
            "A": "b",
        }.items()
    )
    assert seen["deck"] == "0.1 a b'\" 42 7\non\n"
    assert (seen["mesh"], seen["stdin"]) == ("a mesh", "")
    assert (place.path / "mesh" / "a.txt").read_text() == "a mesh"
    assert not Path(folder).exists()


def test_a_file_from_elsewhere_keeps_its_name(place, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "mesh.txt").write_text("3")
    (place.path / "data").mkdir()
    (place.path / "data" / "b.txt").write_text("4")
    source = """
import json
total = int(open("mesh.txt").read()) + int(open("data/b.txt").read())
json.dump({"value": total}, open("metrics.json", "w"))
"""
    simulator = place.command(source, files=["program.py", str(elsewhere / "mesh.txt"), "data/b.txt"])
    assert one(place, simulator).metrics == {"value": 7.0}


def test_a_staged_program(place):
    program = place.path / "solver"
    program.write_text('#!/bin/sh\necho "{\\"value\\": $1}" > metrics.json\n')
    program.chmod(0o755)
    assert one(place, place.command("", ["./solver", "{x}"], files=["solver"])).metrics == {"value": 0.1}


def test_a_program_that_cannot_be_started(place):
    program = place.path / "solver"
    program.write_text("#!/no/such/shell\n")
    program.chmod(0o755)
    outcome = one(place, place.command("", ["./solver"], files=["solver"]))
    assert outcome.reason is Reason.NOT_STARTED
    assert "cannot be started" in outcome.message


def test_the_environment_of_this_python_comes_first_on_the_path(place):
    source = "import sys, json\nprint(sys.prefix)\njson.dump({'value': 1}, open('metrics.json', 'w'))"
    assert one(place, place.command(source, ["python3", "program.py"])).status is Status.COMPLETE
    import sys

    assert place.log(7).strip() == sys.prefix


WRITES = """
import json, sys
print("Cd = 1.5\\nCd = 2.5e-1 and more\\nIt took 3 s")
open("out.csv", "w").write("# t, cl, cd\\n0, 1.0, 2.0\\n\\n1, 1.5, 2.5D+01\\n")
open("blank.txt", "w").write("1 2 3\\n4 5 6\\n")
json.dump({"results": {"gain": 4.5, "cells": [{"x": 1}, {"x": 2}]}, "text": "no"}, open("out.json", "w"))
"""


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"stdout": "Cd = ([-+0-9.eE]+)"}, 0.25),
        ({"stdout": r"(?m)^It took (\d+) s$"}, 3),
        ({"stdout": "Cl = (.*)"}, "nothing printed matches 'Cl = (.*)'"),
        ({"stdout": "It (took)"}, "'took' is no number"),
        ({"file": "out.csv", "column": "cl"}, 1.5),
        ({"file": "out.csv", "column": "cl", "row": 0}, 1.0),
        ({"file": "out.csv", "column": 1, "row": -2}, 1.0),
        ({"file": "out.csv", "column": "cd"}, 25),
        ({"file": "out.csv", "column": "cm"}, "has no column 'cm' (those there are: t, cl, cd)"),
        ({"file": "out.csv", "column": "cl", "row": 2}, "has no row 2"),
        ({"file": "out.csv", "column": "cl", "row": -3}, "has no row -3"),
        ({"file": "out.csv", "column": 7}, "has no row -1 with a column 7"),
        ({"file": "blank.txt", "column": 2, "row": 0}, 3),
        ({"file": "gone.csv", "column": "cl"}, "gone.csv cannot be read: No such file"),
        ({"file": "out.json", "path": "results.gain"}, 4.5),
        ({"file": "out.json", "path": "results.cells.1.x"}, 2),
        (
            {"file": "out.json", "path": "results.loss"},
            "has no results.loss (looked for 'loss'; there are gain, cells)",
        ),
        ({"file": "out.json", "path": "text"}, "the text 'no', not a number"),
        ({"file": "out.csv", "path": "a"}, "is no JSON"),
    ],
)
def test_metric_sources(place, source, expected):
    outcome = one(place, place.command(WRITES, metrics=[{"name": "m", **source}]))
    if isinstance(expected, str):
        assert outcome.status is Status.FAILED
        assert expected in outcome.message
    else:
        assert outcome.metrics == {"m": expected}, outcome
    assert place.log(7).startswith("Cd = 1.5\n")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ('{"a": 1, "b": 2.5, "c": true}', {"a": 1.0, "b": 2.5, "c": 1.0}),
        ('{"a": NaN}', "metric 'a' is nan"),
        ("[1, 2]", "metrics.json holds a list"),
        ("{", "metrics.json is no JSON"),
        ("", "metrics.json is no JSON"),
        ('{"a": {"b": 1}}', "of type dict, not a number"),
        ("[" * 100_000, "is no JSON"),
    ],
)
def test_metrics_file(place, written, expected):
    (place.path / "given").write_text(written)
    outcome = one(place, place.command("", ["cp", "given", "metrics.json"], files=["given"]))
    if isinstance(expected, str):
        assert expected in outcome.message
    else:
        assert outcome.metrics == expected


def test_sources_add_to_the_metrics_file(place):
    source = "print('v 3')\nopen('metrics.json', 'w').write('{\"a\": 1}')"
    assert one(place, place.command(source, metrics=[{"name": "v", "stdout": "v (.)"}])).metrics == {"a": 1.0, "v": 3.0}


@pytest.mark.parametrize("make", ["mkfifo", "mkdir"])
def test_a_pipe_or_a_folder_in_the_place_of_a_file(place, make):
    outcome = one(place, place.command("", [make, "metrics.json"], files=[]), timeout=20)
    assert outcome.message == "no metrics: metrics.json: metrics.json is not a file"


def test_a_long_text_is_scanned_to_its_end(place):
    source = "import sys\nprint('v 1')\nfor k in range(300000): print('nothing to see in line', k)\nprint('v 2')"
    outcome = one(place, place.command(source, metrics=[{"name": "v", "stdout": "v (.)\n"}]))
    assert outcome.metrics == {"v": 2.0}
    assert len(place.log(7)) < 70_000


def test_a_child_that_holds_the_output_open(place):
    source = "import os, time\nprint('v 1', flush=True)\nif os.fork() == 0:\n    time.sleep(600)"
    outcome = one(place, place.command(source, metrics=[{"name": "v", "stdout": "v (.)"}]), timeout=30)
    assert outcome.metrics == {"v": 1.0}
    assert outcome.seconds < 20


@pytest.fixture(scope="module")
def left_behind(tmp_path_factory):
    """A folder with an array in every kind of file."""
    h5py = pytest.importorskip("h5py")
    folder, a = tmp_path_factory.mktemp("fields"), np.arange(6.0).reshape(2, 3)
    np.save(folder / "a.npy", a)
    np.save(folder / "object.npy", np.array([{}], dtype=object))
    np.savez(folder / "one.npz", only=a)
    np.savez(folder / "two.npz", a=a, b=2 * a)
    np.savetxt(folder / "plain.csv", a, delimiter=",")
    np.savetxt(folder / "named.csv", a, delimiter=",", header="u,v,w")
    with h5py.File(folder / "f.h5", "w") as file:
        file["group/a"] = a
        file["b"] = 2 * a
    zarr.save_array(folder / "a.zarr", a)
    zarr.open_group(folder / "g.zarr", mode="w")["a"] = a
    (folder / "broken.npy").write_text("not an array")
    (folder / "metrics.json").write_text('{"value": 1}')
    return folder


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"file": "a.npy"}, 1),
        ({"file": "a.npy", "dims": ["y", "x"], "unit": "V/m"}, 1),
        ({"file": "a.npy", "dims": ["y"]}, "shape (2, 3) but its dims are ['y']"),
        ({"file": "a.npy", "dataset": "a"}, "leave `dataset` out"),
        ({"file": "one.npz"}, 1),
        ({"file": "two.npz", "dataset": "b"}, 2),
        ({"file": "two.npz"}, "holds several arrays (a, b); name one as `dataset`"),
        ({"file": "two.npz", "dataset": "c"}, "no array 'c' (those there are: a, b)"),
        ({"file": "plain.csv"}, 1),
        ({"file": "named.csv"}, 1),
        ({"file": "named.csv", "dataset": "v"}, [1.0, 4.0]),
        ({"file": "f.h5", "dataset": "group/a"}, 1),
        ({"file": "f.h5", "dataset": "/b"}, 2),
        ({"file": "f.h5"}, "several arrays (b, group/a)"),
        ({"file": "a.zarr"}, 1),
        ({"file": "g.zarr", "dataset": "a"}, 1),
        ({"file": "g.zarr", "dataset": "b"}, "cannot be read: KeyError"),
        ({"file": "gone.npy"}, "the program left no gone.npy"),
        ({"file": "broken.npy"}, "broken.npy cannot be read: ValueError"),
        ({"file": "object.npy"}, "object.npy cannot be read: ValueError"),
    ],
)
def test_field_sources(place, left_behind, source, expected):
    files = [str(left_behind / source["file"]), str(left_behind / "metrics.json")]
    staged = [file for file in files if Path(file).exists()]
    outcome = one(place, place.command("", ["true"], files=staged, fields=[{"name": "f", **source}]))
    if isinstance(expected, str):
        assert outcome.reason is Reason.BAD_FIELD, outcome
        assert expected in outcome.message
    else:
        import hashlib

        array = expected * np.arange(6.0).reshape(2, 3) if isinstance(expected, int) else np.array(expected)
        assert outcome.fields == {"f": hashlib.sha256(array.tobytes()).hexdigest()}, outcome


def test_coordinates_of_a_programs_field(place, left_behind):
    fields = [
        {"name": "f", "file": "two.npz", "dataset": "a", "dims": ["y", "x"], "coords": {"x": {"file": "x.npy"}}},
        {
            "name": "g",
            "file": "named.csv",
            "dataset": "v",
            "dims": ["t"],
            "coords": {"t": {"dataset": "u", "unit": "s"}},
        },
        {"name": "h", "file": "named.csv", "dataset": "v", "dims": ["s"], "coords": {"s": {"file": "gone.npy"}}},
    ]
    np.save(left_behind / "x.npy", [1.0, 2.0, 4.0])
    files = [str(left_behind / name) for name in ("two.npz", "named.csv", "x.npy", "metrics.json")]
    bad = one(place, place.command("", ["true"], files=files, fields=fields))
    assert bad.message == "field 'h', coordinate 's': the program left no gone.npy"
    outcome = one(place, place.command("", ["true"], files=files, fields=fields[:2]))
    storage = place.location.storage()
    f, g = (described_field(storage, name, 7, outcome.fields[name]) for name in "fg")
    assert (f.coords["x"].tolist(), g.coords["t"].tolist(), g.coord_units["t"]) == ([1, 2, 4], [0, 3], "s")


def test_a_template_that_fails_for_some_parameters(place):
    (place.path / "t.j2").write_text("{{ 1 / x }}")
    simulator = place.command("print('{}', file=open('metrics.json', 'w'))", templates={"t": "t.j2"})
    compute = place.start(simulator)
    outcomes = compute.submit([Run(k, {"x": float(k)}, seed=1) for k in range(2)]).result(20)
    assert outcomes[0].message == "template t: ZeroDivisionError: float division by zero"
    assert outcomes[1].status is Status.COMPLETE


def test_templates_are_sandboxed(place):
    (place.path / "t.j2").write_text("{{ parameters.__class__.__mro__[1].__subclasses__() }}")
    outcome = one(place, place.command("", templates={"t": "t.j2"}))
    assert "SecurityError" in outcome.message


def test_a_template_that_takes_from_another_file_is_refused_at_the_start(place):
    (place.path / "t.j2").write_text("a\n{% include 'other.j2' %}")
    with pytest.raises(SimulatorError, match=r"t\.j2, line 2: a template stands alone"):
        place.start(place.command("", templates={"t": "t.j2"}))


def test_nothing_of_a_template_is_computed_before_a_run(place):
    (place.path / "t.j2").write_text("{% if x < 0 %}{{ 'x' * 10 ** 15 }}{% endif %}")
    write = "print('{\"value\": 1}', file=open('metrics.json', 'w'))"
    assert one(place, place.command(write, templates={"t": "t.j2"})).status is Status.COMPLETE


def git(folder, *words):
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=folder, check=True, capture_output=True
    )


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / "solver.sh").write_text('echo "{\\"value\\": $(cat $1/factor)}" > metrics.json\n')
    (folder / "Makefile").write_text("factor:\n\techo 3 > factor\n\techo built >> ../../../../../built\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    git(folder, "tag", "v1")
    return folder


def test_a_program_built_from_source(place, repository):
    def simulator(revision):
        source = {"url": "repository", "revision": revision, "build": ["make"]}
        return place.command("", ["sh", "{source}/solver.sh", "{source}"], files=[], source=source)

    first = place.start(simulator("v1"), workers=2)
    assert first.submit([Run(0, {"x": 1.0}, seed=1)]).result(20)[0].metrics == {"value": 3.0}
    assert len(first.info.revision) == 40
    again = place.start(simulator(first.info.revision))
    assert again.info == first.info
    assert (place.path / "built").read_text() == "built\n"

    (repository / "Makefile").write_text("factor:\n\techo 4 > factor\n")
    git(repository, "commit", "-q", "-a", "-m", "second")
    moved = place.start(simulator("main"))
    assert moved.submit([Run(1, {"x": 1.0}, seed=1)]).result(20)[0].metrics == {"value": 4.0}
    assert moved.info.identity != first.info.identity
    assert place.start(simulator("v1")).info == first.info


@pytest.mark.parametrize(
    ("revision", "build", "message"),
    [
        ("v2", ["make"], "repository has no revision 'v2'"),
        ("v1", ["make", "wing"], "make wing ended with exit code 2"),
        ("v1", ["no-such-program"], "'no-such-program' cannot be started"),
    ],
)
def test_a_source_that_cannot_be_built(place, repository, revision, build, message):
    source = {"url": "repository", "revision": revision, "build": build}
    with pytest.raises(SimulatorError, match=message):
        place.start(place.command("", ["true"], files=[], source=source))


def test_a_secret_in_an_address_is_refused_and_not_shown(place):
    source = {"url": "https://user:secret@localhost:1/repository", "revision": "v1"}
    with pytest.raises(ValidationError, match="no credentials in an address") as raised:
        place.command("", ["true"], files=[], source=source)
    assert "secret" not in str(raised.value)
