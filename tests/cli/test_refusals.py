"""Wrong input: exit code 2, one clear message, no traceback, and nothing written."""

import os
import subprocess

import pytest
import yaml
from broken_specs import BROKEN, WHOLE
from command_line import tree


def refused(simopt, folder, *words):
    """The message of a command that must be refused."""
    before = tree(folder)
    answer = simopt(*words)
    assert answer.code == 2, answer
    assert answer.out == ""
    assert answer.err.startswith("simopt: ")
    assert "Traceback" not in answer.err
    assert tree(folder) == before
    return answer.err


@pytest.mark.parametrize(("assignment", "named"), BROKEN.items(), ids=BROKEN.keys())
def test_a_broken_spec(simopt, folder, assignment, named):
    (folder / "study.yaml").write_text(yaml.safe_dump(WHOLE))
    message = refused(simopt, folder, "run", "study.yaml", "--untracked", "--set", assignment)
    assert [part for part in named if part not in message] == []
    assert message.startswith("simopt: study.yaml: ")


@pytest.mark.parametrize("command", ["run", "simulate", "validate"])
def test_every_command_checks_the_spec(simopt, folder, command):
    words = ["--param", "x=1", "--param", "y=1"] if command == "simulate" else []
    message = refused(simopt, folder, command, "study.yaml", "--set", "space[0].low=50", *words)
    assert "space[0].low" in message


ENTRYPOINTS = {
    "missing.py:bowl": ["missing.py"],
    "no_such_module_here:bowl": ["no_such_module_here"],
    "simulator.py:bowll": ["bowll", "bowl"],
    "simulator.py:other": ["'y'", "other"],
    "broken.py:bowl": ["broken.py", "line 2"],
    "failing.py:bowl": ["failing.py", "no licence"],
    "exiting.py:bowl": ["exit"],
    "dying.py:bowl": ["SIGKILL"],
    "simulator.py:STEP": ["STEP"],
}
MODULES = {
    "broken.py": "def bowl(x, y):\n    return x +\n",
    "failing.py": "raise RuntimeError('no licence')\n",
    "exiting.py": "import sys; sys.exit(3)\n",
    "dying.py": "import os; os.kill(os.getpid(), 9)\n",
}


@pytest.mark.parametrize(("entrypoint", "named"), ENTRYPOINTS.items(), ids=ENTRYPOINTS.keys())
@pytest.mark.parametrize("command", ["run", "validate"])
def test_a_simulator_that_cannot_be_loaded(simopt, folder, command, entrypoint, named):
    for name, text in MODULES.items():
        (folder / name).write_text(text)
    with (folder / "simulator.py").open("a") as file:
        file.write("STEP = 3\n")
    words = ["--untracked"] if command == "run" else []
    message = refused(simopt, folder, command, "study.yaml", *words, "--set", f"simulator.entrypoint={entrypoint}")
    assert [part for part in named if part not in message] == []


COMMANDS = {
    "{command: [no-such-program-here]}": ["no-such-program-here"],
    "{command: [python3, '{z}']}": ["{z}"],
    "{command: [python3], files: [mesh.dat]}": ["mesh.dat"],
    "{command: [python3], templates: {deck: deck.j2}}": ["deck.j2"],
}


@pytest.mark.parametrize(("simulator", "named"), COMMANDS.items(), ids=COMMANDS.keys())
def test_a_command_that_cannot_run(simopt, folder, simulator, named):
    message = refused(simopt, folder, "run", "study.yaml", "--untracked", "--set", f"simulator={simulator}")
    assert [part for part in named if part not in message] == []


def test_a_store_that_is_a_file(simopt, folder):
    (folder / "file").write_text("")
    for store in ("file", "file/below"):
        message = refused(simopt, folder, "run", "study.yaml", "--untracked", "--store", store)
        assert "a part of the path is a file" in message


def test_a_store_that_cannot_be_written(simopt, folder, readonly):
    message = refused(simopt, folder, "run", "study.yaml", "--untracked", "--store", str(readonly / "studies"))
    assert str(readonly) in message
    assert "choose another store" in message


def test_there_is_no_study(simopt, folder):
    for command in ("show", "verify"):
        assert "there is no study" in refused(simopt, folder, command, "studies/none")
    assert "no such file" in refused(simopt, folder, "run", "none.yaml", "--untracked")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["run"], "STUDY"),
        (["fly"], "'fly'"),
        (["run", "study.yaml", "--sett", "x=1"], "--sett"),
        (["run", "study.yaml", "--set", "seed"], "KEY=VALUE"),
        (["simulate", "study.yaml", "--param", "x=1"], "--param y"),
        (["simulate", "study.yaml", "--param", "z=1"], "x, y"),
        (["simulate", "study.yaml", "--param", "x=1", "--param", "y=high"], "'high'"),
        (["simulate", "study.yaml", "--param", "x=1", "--param", "y=[1"], "not valid YAML"),
    ],
)
def test_words_that_make_no_command(simopt, folder, words, named):
    assert named in refused(simopt, folder, *words)


@pytest.fixture
def readonly(tmp_path):
    """A folder in which nothing can be written: by its mode, or for root by a read-only file system."""
    folder = tmp_path / "readonly"
    folder.mkdir()
    if os.geteuid():
        folder.chmod(0o500)
        yield folder
        folder.chmod(0o700)
        return
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", folder], check=False).returncode:
        pytest.skip("root may write everywhere, and mounting a read-only file system is not permitted here")
    yield folder
    subprocess.run(["umount", folder], check=True)
