"""Programs that the runner starts: here without containers, users and limits of their own, which a cluster has."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prefect_simopt.cli import main
from prefect_simopt.errors import SimulatorError, SpecError
from prefect_simopt.simulators import container
from prefect_simopt.simulators.config import ContainerSimulator
from prefect_simopt.simulators.local import LocalCompute
from prefect_simopt.specfile import make_spec
from prefect_simopt.storage import StudyLocation
from prefect_simopt.trial import Reason, Run, Status

BUSYBOX = shutil.which("busybox")
PROGRAM = """
import json, os, sys, time
what = sys.argv[1]
print("hello", os.environ["COLOUR"], flush=True)
if what == "exit": sys.exit(3)
if what == "kill": os.kill(os.getpid(), 9)
if what == "hang": time.sleep(600)
given = json.load(open(os.environ["SIMOPT_PARAMS"]))["parameters"]
json.dump({"size": len(what), "x": given["x"]}, open("metrics.json", "w"))
"""


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """The folder that both containers have, with a runner at work in it."""
    if BUSYBOX is None:
        pytest.skip("busybox is missing: install busybox-static")
    folder = tmp_path / "shared"
    folder.mkdir()
    shutil.copy(BUSYBOX, folder / "busybox")
    shutil.copy(Path(container.__file__).with_name("runner.sh"), folder)
    runner = subprocess.Popen(
        [folder / "busybox", "sh", folder / "runner.sh", folder],
        env={"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"},
        cwd="/",
    )
    monkeypatch.setenv("SIMOPT_SHARED", str(folder))
    yield folder
    runner.terminate()
    runner.wait()


def outcomes(tmp_path, command, names=("x", "what"), runs=1, timeout=60.0, **keys):
    (tmp_path / "sim.py").write_text(PROGRAM)
    simulator = ContainerSimulator(
        image="any",
        command=command,
        files=["sim.py"],
        environment={"COLOUR": "dark red"},
        directory=str(tmp_path),
        **keys,
    )
    compute = LocalCompute(simulator, space_names=names, workers=1, timeout=timeout + container.STOP_MARGIN)
    try:
        compute.start()
        compute.attach(StudyLocation(str(tmp_path / "study")), 10)
        points = [{"x": 1.5, "what": what} for what in runs] if not isinstance(runs, int) else [{"x": 1.5}] * runs
        return compute.submit([Run(i, point, seed=i) for i, point in enumerate(points)]).result(timeout=60)
    finally:
        compute.close()


def test_each_run_ends_in_its_own_way_and_the_others_go_on(shared, tmp_path):
    whats = ["a `b` $c", "exit", "kill", "hang", "fine"]
    found = outcomes(tmp_path, [sys.executable, "sim.py", "{what}"], runs=whats, timeout=2.0)
    assert [(each.status is Status.COMPLETE, each.reason) for each in found] == [
        (True, None), (False, Reason.EXIT), (False, Reason.KILLED), (False, Reason.TIMEOUT), (True, None),
    ]  # fmt: skip
    assert found[0].metrics == {"size": len(whats[0]), "x": 1.5}
    assert "exit code 3" in found[1].message
    assert found[1].output == "hello dark red"
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "sim.py hang" not in left
    for _ in range(100):
        if not any((shared / folder).iterdir() for folder in ("requests", "trials", "trash")):
            break
        time.sleep(0.1)
    assert [list((shared / folder).iterdir()) for folder in ("requests", "trials", "trash")] == [[], [], []]


def test_a_program_is_the_images_own_and_never_busyboxs(shared, tmp_path):
    (mine := tmp_path / "bin").mkdir()
    (mine / "awk").write_text("#!/bin/sh\necho mine >metrics.txt; echo '{\"v\": 7}' >metrics.json\n")
    (mine / "awk").chmod(0o755)
    found = outcomes(tmp_path, ["awk"], names=["x"])
    assert found[0].metrics == {"v": 7}
    found = outcomes(tmp_path, ["nosuchprogram"], names=["x"])
    assert (found[0].reason, found[0].message) == (
        Reason.NOT_STARTED, "the image has no program nosuchprogram that may be run",
    )  # fmt: skip


def test_metrics_are_read_from_what_it_prints(shared, tmp_path):
    found = outcomes(
        tmp_path,
        [sys.executable, "-c", "print('Cd =', {x})"],
        names=["x"],
        metrics=[{"name": "cd", "stdout": "Cd = (.*)"}],
    )
    assert found[0].metrics == {"cd": 1.5}


def test_without_a_runner_the_way_out_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMOPT_SHARED", str(tmp_path / "nothing"))
    with pytest.raises(SimulatorError, match="Kubernetes work pool"):
        outcomes(tmp_path, ["true"], names=["x"])


def test_on_this_machine_a_spec_with_one_is_refused():
    document = {"name": "c", "simulator": {"image": "mawk", "command": ["mawk"]}, "space": [
        {"name": "x", "type": "float", "low": 0, "high": 1}]}  # fmt: skip
    with pytest.raises(SpecError, match=r"compute.type: a container simulator runs on a Kubernetes work pool"):
        make_spec(document)


def test_what_can_be_seen_without_the_container_is_checked(tmp_path, capsys):
    study = "name: c\nsimulator: {image: mawk, command: [mawk, '{y}'], files: [sim.awk]}\ncompute: {pool: gpu}\n"
    (tmp_path / "study.yaml").write_text(f"{study}space: [{{name: x, type: float, low: 0, high: 1}}]\n")
    assert main(["validate", str(tmp_path / "study.yaml")]) == 2
    assert "sim.awk; paths are relative to" in capsys.readouterr().err
    (tmp_path / "sim.awk").write_text("BEGIN {}")
    assert main(["validate", str(tmp_path / "study.yaml")]) == 2
    assert "{y}" in capsys.readouterr().err
    (tmp_path / "study.yaml").write_text((tmp_path / "study.yaml").read_text().replace("{y}", "{x}"))
    assert main(["validate", str(tmp_path / "study.yaml")]) == 0
