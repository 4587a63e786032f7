"""Starting: what is wrong is told before anything is written, with the place and the way out."""

import functools
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from prefect_simopt.errors import SimulatorError
from prefect_simopt.simulators.config import CommandSimulator, PythonSimulator
from prefect_simopt.simulators.local import LocalCompute
from prefect_simopt.trial import Run

GOOD = "def simulate(x): return x"


@pytest.mark.parametrize(
    ("source", "entrypoint", "message"),
    [
        (GOOD, "modul.py:simulate", r"there is no file .*modul\.py; in its folder there are module\.py"),
        (GOOD, "nowhere/module.py:simulate", "there is no file"),
        (GOOD, "no_such_module:simulate", "there is no module 'no_such_module'"),
        (GOOD, "module.inner:simulate", "there is no module|cannot be imported"),
        (GOOD, "module.py:simulat", "has no function 'simulat'; did you mean 'simulate'"),
        (GOOD, "module:simulat", "has no function 'simulat'; did you mean 'simulate'"),
        ("simulate = 3", "module.py:simulate", "is of type int, not a function"),
        ("import no_such_package\n" + GOOD, "module.py:simulate", "line 1.*install 'no_such_package'"),
        ("def simulate(x: return", "module.py:simulate", "SyntaxError.*line 1"),
        ("\n1 / 0\n" + GOOD, "module.py:simulate", r"ZeroDivisionError: division by zero \(.*module\.py, line 2\)"),
        ("raise SystemExit(3)", "module.py:simulate", "SystemExit: 3"),
        ("import os; print('bye'); os._exit(3)", "module.py:simulate", "exit code 3.*\n.*bye"),
        ("import ctypes; ctypes.string_at(0)", "module.py:simulate", "killed by SIGSEGV"),
        ("def simulate(x, y): return x", "module.py:simulate", r"simulate\(x, y\): it needs 'y'"),
        ("def simulate(xx): return 1", "module.py:simulate", r"takes no parameter 'x' \(did you mean 'xx'\?\)"),
        ("def simulate(): return 1", "module.py:simulate", "takes no parameter 'x'"),
        ("def simulate(x, /): return 1", "module.py:simulate", "only be given by position"),
        ("async def simulate(x): return 1", "module.py:simulate", "asynchronous or a generator"),
        ("def simulate(x): yield 1", "module.py:simulate", "asynchronous or a generator"),
    ],
)
def test_a_python_simulator_that_cannot_start(place, source, entrypoint, message):
    place.python(source)
    simulator = PythonSimulator(entrypoint=entrypoint, directory=str(place.path))
    with pytest.raises(SimulatorError, match="(?s)" + message) as raised:
        place.start(simulator)
    assert "Traceback" not in str(raised.value)
    assert not (place.path / "study").exists()


def test_a_simulator_that_does_not_load_in_time(place):
    compute = LocalCompute(place.python("import time; time.sleep(60)"), space_names=["x"], workers=2)
    with pytest.raises(SimulatorError, match=r"not loaded within 0\.5 s"):
        compute.start(patience=0.5)


def test_a_directory_that_is_missing(place):
    simulator = PythonSimulator(entrypoint="m.py:f", directory=str(place.path / "gone"))
    with pytest.raises(SimulatorError, match="gone does not exist"):
        place.start(simulator)


@pytest.mark.parametrize(
    "source",
    [
        "def simulate(x, y=2): return x + y",
        "def simulate(**parameters): return parameters['x'] + 2",
        "def simulate(x, *, y=2): return x + y",
        "class Model:\n    def __call__(self, x): return x + 2\nsimulate = Model()",
        "from functools import partial\ndef f(x, y): return x + y\nsimulate = partial(f, y=2)",
        "import helper\ndef simulate(x): return x + helper.TWO",
        "import runpy\nh = runpy.run_path(__file__.replace('module', 'helper'))\ndef simulate(x): return x + h['TWO']",
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: float\ndef simulate(x): return P(x).x + 2",
        "import pickle\nclass P: pass\npickle.dumps(P())\ndef simulate(x): return x + 2",
    ],
)
def test_python_simulators_of_many_shapes(place, source):
    (place.path / "helper.py").write_text("TWO = 2")
    compute = place.start(place.python(source))
    assert compute.submit([Run(0, {"x": 1.0}, seed=1)]).result(20)[0].metrics == {"value": 3.0}


def test_module_and_package_entrypoints(place):
    package = place.path / "wing" / "inner"
    package.mkdir(parents=True)
    (place.path / "wing" / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "drag.py").write_text("from wing.inner.parts import TWO\ndef simulate(x): return x + TWO")
    (package / "parts.py").write_text("TWO = 2")
    simulator = PythonSimulator(entrypoint="wing.inner.drag:simulate", directory=str(place.path))
    compute = place.start(simulator)
    assert compute.submit([Run(0, {"x": 1.0}, seed=1)]).result(20)[0].metrics == {"value": 3.0}
    (package / "parts.py").write_text("TWO = 3")
    assert place.start(simulator).info.identity != compute.info.identity


def test_fixed_arguments_and_files_beside_the_simulator(place):
    (place.path / "offset.txt").write_text("2")
    source = "def simulate(x, scale): return scale * x + float(open('offset.txt').read())"
    compute = place.start(place.python(source, arguments={"scale": 10}))
    assert compute.submit([Run(0, {"x": 1.0}, seed=1)]).result(20)[0].metrics == {"value": 12.0}


OFFSET = 2


def helper(x):
    return x + OFFSET


def test_functions_without_a_name_to_import(place):
    unused = PythonSimulator(entrypoint="unused:unused", directory=str(place.path))
    two = 2

    def closure(x):
        return x + two

    for function in (closure, lambda x: x + 2, functools.partial(lambda x, y: x + y, y=2), helper):
        compute = place.start(unused, function=function)
        outcome = compute.submit([Run(0, {"x": 1.0}, seed=1)]).result(20)[0]
        assert outcome.metrics == {"value": 3.0}, outcome
        compute.close()


def test_a_function_of_a_script(tmp_path):
    """A script's own functions work, and the script is not run again in the simulators' processes."""
    script = tmp_path / "script.py"
    script.write_text(f"""
import sys
from prefect_simopt.simulators.config import PythonSimulator
from prefect_simopt.simulators.local import LocalCompute
from prefect_simopt.storage import StudyLocation
from prefect_simopt.trial import Run
print("once")
def simulate(x): return x + 2
compute = LocalCompute(PythonSimulator(entrypoint="a:b"), space_names=["x"], workers=2, function=simulate)
print(compute.start().identity)
compute.attach(StudyLocation({str(tmp_path / "study")!r}), 10)
print(compute.submit([Run(0, dict(x=1.0), seed=1)]).result(20)[0].metrics)
compute.close()
""")
    ran = [
        subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout for _ in range(2)
    ]
    once, identity, metrics = ran[0].splitlines()
    assert (once, metrics) == ("once", "{'value': 3.0}")
    assert ran[1].splitlines()[1] == identity


def test_a_function_that_cannot_be_sent(place):
    lock = threading.Lock()

    def simulate(x):
        return x if lock else 0

    with pytest.raises(SimulatorError, match="cannot be sent"):
        place.start(PythonSimulator(entrypoint="a:b", directory=str(place.path)), function=simulate)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"command": ["no-such-program"]}, "there is no program 'no-such-program' on PATH"),
        ({"command": ["program.py"]}, r"no program 'program.py' on PATH; to run .*program.py, put it into `files`"),
        ({"command": ["/no/such/program"]}, "/no/such/program is missing or not executable"),
        ({"command": ["./program.py"]}, r"command\[0\]: program.py is not in the .*; add it: files: \[program.py\]"),
        ({"command": ["./program.py"], "files": ["program.py"]}, r"chmod \+x .*program.py makes it so"),
        ({"command": ["./tools/gone"], "files": ["tools"]}, "tools/gone is not in the trial's directory"),
        ({"command": ["true", "{y}"]}, r"command\[1\]: \{y\} stands for nothing"),
        ({"command": ["true", "{outptu}"]}, r"did you mean \{output\}"),
        ({"command": ["true", "{source}"]}, r"\{source\} stands for nothing"),
        ({"files": ["gone.py"]}, "there is no .*gone.py; paths are relative to"),
        ({"templates": {"in": "gone.j2"}}, "there is no .*gone.j2"),
        ({"templates": {"in": "wrong.j2"}}, r"wrong\.j2, line 2"),
        ({"templates": {"in": "unknown.j2"}}, "unknown.j2 uses y, which the space does not have"),
        ({"command": ["python3", "program.py"]}, r"add it: files: \[program.py\]"),
        ({"fields": [{"name": "f", "file": "f.vtk"}]}, "cannot read f.vtk; files are .csv"),
        ({"source": {"url": "/no/such/repository", "revision": "main"}}, "source: /no/such/repository: "),
    ],
)
def test_a_command_that_cannot_start(place, options, message, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(place.path / "cache"))
    (place.path / "program.py").write_text("pass")
    (place.path / "tools").mkdir()
    (place.path / "wrong.j2").write_text("x = {{ x }}\n{% if %}")
    (place.path / "unknown.j2").write_text("{{ x }} {{ y }} {{ z | default(1) }} {{ range(3) | list }}")
    simulator = CommandSimulator(**{"command": ["true"], "directory": str(place.path), **options})
    with pytest.raises(SimulatorError, match="(?s)" + message) as raised:
        place.start(simulator)
    assert "Traceback" not in str(raised.value)
    assert not (place.path / "study").exists()


def test_starting_again_and_again_leaves_no_descriptors(place):
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    for _ in range(3):
        place.start(place.python(GOOD), workers=2).close()
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) <= before
