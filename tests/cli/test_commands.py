import math
import re
import shutil

import pytest
import yaml


def test_show_is_the_summary_of_the_run(simopt):
    ran = simopt("run", "study.yaml", "--untracked", "--json").json
    shown = simopt("show", "studies/bowl", "--json")
    assert (shown.code, shown.json) == (0, ran)
    assert simopt("show", "studies/bowl/").out.startswith("bowl: complete, 40 trials")


def test_verify_finds_nothing_and_then_a_flipped_bit(simopt, folder):
    simopt("run", "study.yaml", "--untracked")
    clean = simopt("verify", "studies/bowl")
    assert clean.code == 0
    ledger = folder / "studies/bowl/ledger/000000.jsonl"
    data = bytearray(ledger.read_bytes())
    data[data.index(b'"id":"trial/11"') + 40] ^= 1
    ledger.write_bytes(data)
    damaged = simopt("verify", "studies/bowl")
    assert damaged.code == 3
    assert "trial 11" in damaged.out
    assert "--repair" in damaged.err
    assert "Traceback" not in damaged.err


def test_a_study_without_its_ledger_is_not_said_to_be_mendable(simopt, folder):
    simopt("run", "study.yaml", "--untracked")
    shutil.rmtree(folder / "studies/bowl/ledger")
    damaged = simopt("verify", "studies/bowl")
    assert damaged.code == 3
    assert "put back the folder" in damaged.err
    assert "--repair" not in damaged.err


def test_a_repaired_study_ends_as_if_nothing_had_happened(simopt, folder):
    whole = simopt("run", "study.yaml", "--untracked", "--json").json
    ledger = folder / "studies/bowl/ledger/000000.jsonl"
    data = bytearray(ledger.read_bytes())
    data[data.index(b'"id":"trial/11"') + 40] ^= 1
    ledger.write_bytes(data)
    refused = simopt("run", "study.yaml", "--untracked")
    assert refused.code == 3
    assert "simopt verify" in refused.err
    assert simopt("verify", "studies/bowl", "--repair").code == 0
    assert simopt("verify", "studies/bowl").code == 0
    resumed = simopt("run", "study.yaml", "--untracked", "--json").json
    assert resumed["fingerprint"] == whole["fingerprint"]
    assert simopt("verify", "studies/bowl").code == 0


def test_simulate_runs_once_and_writes_nothing(simopt, folder):
    answer = simopt("simulate", "study.yaml", "--param", "x=3", "--param", "y=-2e0", "--json")
    assert answer.code == 0
    assert answer.json["metrics"] == {"value": 8.0, "sum": 1.0}
    assert answer.json["parameters"] == {"x": 3.0, "y": -2.0}
    assert simopt("simulate", "study.yaml", "--param", "x=3", "--param", "y=-2").out == "value = 8\nsum = 1\n"
    assert not (folder / "studies").exists()


def test_simulate_tells_why_a_run_failed(simopt):
    words = ["--param", "x=1", "--param", "y=1", "--set", "simulator.entrypoint=simulator.py:failing", "--json"]
    answer = simopt("simulate", "study.yaml", *words)
    assert answer.code == 3
    assert answer.json["status"] == "failed"
    assert "the mesh is bad" in answer.json["message"]
    assert "nozzle 1.0" in answer.err


def test_validate_says_that_a_study_is_valid(simopt, folder):
    answer = simopt("validate", "study.yaml")
    assert answer.code == 0
    assert answer.out == "study.yaml: valid: 2 parameters, 40 trials; optimizer: pso, as the study says\n"
    assert not (folder / "studies").exists()


def test_relations_that_leave_nothing_leave_no_study(simopt, folder):
    for command in (["validate"], ["run", "--untracked"]):
        answer = simopt(*command, "study.yaml", "--set", "relations=['x > 7']")
        assert (answer.code, answer.out) == (2, "")
        assert "no point of the space was found that satisfies 'x > 7'" in answer.err
    assert not (folder / "studies" / "bowl" / "zarr.json").exists()


def test_init_writes_a_study_that_finds_the_known_optimum(simopt, folder):
    written = simopt("init", "new/tube")
    assert written.code == 0
    assert re.search(r"simopt run (\S+)", written.out)[1] == "new/tube/study.yaml"
    answer = simopt("run", "new/tube/study.yaml", "--untracked", "--json")
    assert (answer.code, answer.json["state"]) == (0, "complete")
    # The wall is as thin as it may be, and the diameter just stiff enough: F L^3 / (3 E I) = 1 cm.
    inertia, thickness = 500.0 * 2.0**3 / (3 * 210e9 * 0.01), 0.001
    low, high = 0.02, 0.2
    while high - low > 1e-12:
        middle = (low + high) / 2
        stiff = math.pi * (middle**4 - (middle - 2 * thickness) ** 4) / 64 >= inertia
        low, high = (low, middle) if stiff else (middle, high)
    mass = 7850.0 * 2.0 * math.pi * (high**2 - (high - 2 * thickness) ** 2) / 4
    assert answer.json["best"]["metrics"]["mass"] == pytest.approx(mass, rel=0.01)
    assert answer.json["best"]["metrics"]["mass"] >= mass * (1 - 1e-9)


def test_init_overwrites_nothing(simopt, folder):
    before = yaml.safe_load((folder / "study.yaml").read_text())
    answer = simopt("init", ".")
    assert answer.code == 2
    assert "study.yaml" in answer.err
    assert yaml.safe_load((folder / "study.yaml").read_text()) == before


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["--version"]])
def test_help(simopt, words):
    answer = simopt(*words)
    assert answer.code == 0
    assert "simopt" in answer.out
