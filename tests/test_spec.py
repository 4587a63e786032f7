import copy

import pytest
import yaml

from prefect_simopt.errors import SpecError
from prefect_simopt.spec import StudySpec
from prefect_simopt.specfile import load_spec, make_spec, override

WHOLE = {
    "name": "ar-coating",
    "simulator": {"type": "python", "entrypoint": "prefect_simopt.simulators.coating:simulate"},
    "space": [
        {"name": "t1", "type": "float", "low": 20, "high": 300, "unit": "nm"},
        {"name": "layers", "type": "int", "low": 2, "high": 8},
        {"name": "material", "type": "categorical", "choices": ["TiO2", "Ta2O5"]},
        {"name": "q", "type": "float", "low": "1e-3", "high": 10, "log": True},
    ],
    "relations": ["t1 + q <= 400"],
    "objectives": [{"metric": "reflectance", "direction": "minimize", "target": 0.002}],
    "constraints": [{"metric": "thickness", "high": 500}],
    "optimizer": {"type": "pso", "population": 16},
    "budget": {"trials": 200, "wall_time": 3600, "patience": 30, "failures": 0.5},
    "replicates": 1,
    "compute": {"type": "local", "workers": 2, "trials_per_task": "auto", "timeout": 600, "retries": 2},
    "store": {"url": "studies"},
    "seed": 7,
}

BROKEN = {  # assignment: what the message must name
    "budget.trails=5": ["budget.trails", "did you mean 'trials'", "5"],
    "nmae=x": ["nmae", "did you mean 'name'"],
    "name='a b'": ["name", "'a b'", "dashes"],
    "name=../up": ["name", "../up"],
    "name=": ["name"],
    "seed=-1": ["seed", "-1", "0"],
    "seed=1.5": ["seed", "1.5", "whole number"],
    "seed=99999999999999999999": ["seed", "9223372036854775807"],
    "space=3": ["space", "list"],
    "space=[]": ["space", "at least 1"],
    "space[0]=7": ["space[0]", "mapping"],
    "space[0].low=500": ["space[0].low", "below high", "500", "300"],
    "space[0].low=abc": ["space[0].low", "'abc'", "number"],
    "space[0].low=.nan": ["space[0].low", "finite"],
    "space[0].high=.inf": ["space[0].high", "finite"],
    "space[0].type=flaot": ["space[0].type", "did you mean 'float'"],
    "space[0].step=0": ["space[0].step", "greater than 0"],
    "space[0].name=1st": ["space[0].name", "starts with no digit"],
    "space[1].name=t1": ["space[1].name", "'t1'", "space[0]"],
    "space[1].low=2.5": ["space[1].low", "whole number", "2.5"],
    "space[1].log=maybe": ["space[1].log", "boolean", "'maybe'"],
    "space[2].choices=[TiO2]": ["space[2].choices", "at least 2"],
    "space[2].choices=[a, a]": ["space[2].choices", "differ"],
    "space[3].low=-1": ["space[3].low", "above 0", "-1"],
    "space[3].step=1": ["space[3].step", "exclude each other"],
    "relations=['t1 +']": ["relations[0]", "expected a number", "^"],
    "relations=['t1 <= t9']": ["relations[0]", "'t9'", "layers, q, t1"],
    "relations=['material <= 3']": ["relations[0]", "'material'"],
    "objectives=[]": ["objectives", "at least 1"],
    "objectives[0].direction=up": ["objectives[0].direction", "'minimize' or 'maximize'", "'up'"],
    "objectives=[{metric: a}, {metric: a}]": ["objectives", "same metric"],
    "constraints=[{metric: a}]": ["constraints[0]", "`low`, `high` or both"],
    "constraints=[{metric: a, low: 2, high: 1}]": ["constraints[0].low", "above high"],
    "optimizer.type=psoo": ["optimizer.type", "did you mean 'pso'"],
    "optimizer=simplex": ["optimizer.type", "'simplex'"],
    "optimizer.population=1": ["optimizer.population", "greater than or equal to 2"],
    "budget.trials=0": ["budget.trials", "greater than or equal to 1"],
    "budget.failures=2": ["budget.failures", "less than or equal to 1"],
    "replicates=0": ["replicates", "greater than or equal to 1"],
    "compute.workers=0": ["compute.workers", "auto"],
    "compute.workers=many": ["compute.workers", "'many'"],
    "compute.timeout=-5": ["compute.timeout", "greater than 0"],
    "store.url=ftp://host/x": ["store.url", "ftp://"],
    "store.url=s3://key:secret@host/x": ["store.url", "no credentials"],
    "simulator.type=comand": ["simulator.type", "did you mean 'command'"],
    "simulator={}": ["simulator.entrypoint", "missing"],
    "simulator.entrypoint=simulate": ["simulator.entrypoint", "module:function"],
    "simulator.arguments={t1: 3}": ["simulator.arguments", "'t1'"],
    "simulator={command: []}": ["simulator.command", "at least 1"],
    "simulator={command: [a], metrics: [{name: cd, stdout: '('}]}": [
        "simulator.metrics[0].stdout",
        "regular expression",
    ],
    "simulator={command: [a], templates: {../x: y}}": ["simulator", ".."],
}


def test_the_whole_spec_is_read():
    spec = make_spec(WHOLE)
    assert spec.space[3].low == 1e-3
    assert spec.metrics == ["reflectance", "thickness"]
    assert StudySpec.model_validate(spec.document()) == spec


@pytest.mark.parametrize(("assignment", "named"), BROKEN.items(), ids=BROKEN.keys())
def test_a_broken_spec_is_refused_with_place_value_and_way_out(assignment, named):
    with pytest.raises(SpecError) as caught:
        make_spec(override(WHOLE, [assignment]), "study.yaml")
    message = str(caught.value)
    assert message.startswith("study.yaml: ")
    assert [part for part in named if part not in message] == []


def test_every_problem_is_told_at_once():
    with pytest.raises(SpecError) as caught:
        make_spec(override(WHOLE, ["seed=-1", "budget.trials=0", "name=a b"]))
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("missing", ["name", "simulator", "space"])
def test_a_missing_key_is_named(missing):
    document = copy.deepcopy(WHOLE)
    del document[missing]
    with pytest.raises(SpecError, match=rf"^{missing}: is missing"):
        make_spec(document)


def test_what_is_left_out_has_a_default():
    spec = make_spec(
        {"name": "bowl", "simulator": {"entrypoint": "m:f"}, "space": [{"name": "x", "low": 0, "high": 1}]}
    )
    assert spec.objectives[0].metric == "value"
    assert spec.space[0].type == "float"


def test_shorthands():
    spec = make_spec({**WHOLE, "optimizer": "sobol", "store": "s3://bucket/prefix"})
    assert (spec.optimizer.type, spec.store.url) == ("sobol", "s3://bucket/prefix")


@pytest.mark.parametrize(
    ("assignment", "read"),
    [
        ("budget.trials=50", lambda s: s.budget.trials == 50),
        ("space[0].low=1e1", lambda s: s.space[0].low == 10.0),
        ("optimizer=random", lambda s: s.optimizer.type == "random"),
        ("store=elsewhere", lambda s: s.store.url == "elsewhere"),
        ("objectives[0].target=null", lambda s: s.objectives[0].target is None),
    ],
)
def test_overrides(assignment, read):
    assert read(make_spec(override(WHOLE, [assignment])))


@pytest.mark.parametrize("assignment", ["budget", "=3", "space[9].low=1", "name.x=1", "space.low=1"])
def test_an_override_that_leads_nowhere_is_refused(assignment):
    with pytest.raises(SpecError, match="--set"):
        override(WHOLE, [assignment])


def test_where_it_runs_is_no_part_of_the_question():
    spec = make_spec(WHOLE)
    elsewhere = make_spec(override(WHOLE, ["compute.workers=8", "store.url=x", "budget.trials=999"]))
    assert elsewhere.digest == spec.digest
    assert make_spec(override(WHOLE, ["seed=8"])).digest != spec.digest


FILES = {
    "tabs": b"name:\tx\n\t- y",
    "not a mapping": b"- 1\n- 2\n",
    "empty": b"",
    "duplicate key": b"name: a\nname: b\n",
    "binary": bytes(range(256)),
    "unclosed": b"space: [1, 2",
    "python object": b"name: !!python/object/apply:os.system ['true']\n",
    "self containing": b"a: &a [*a]\n",
    "billion laughs": b"a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
    + b"".join(b"a%d: &a%d [%s]\n" % (i, i, b",".join([b"*a%d" % (i - 1)] * 10)) for i in range(1, 12)),
    "deep": b"[" * 20000,
    "huge integer": b"seed: " + b"9" * 5000,
    "number as key": b"1: 2\n",
}


@pytest.mark.parametrize("data", FILES.values(), ids=FILES.keys())
def test_a_file_that_is_no_study_is_refused(tmp_path, data):
    path = tmp_path / "study.yaml"
    path.write_bytes(data)
    with pytest.raises(SpecError, match=r"study\.yaml: "):
        load_spec(path)


def test_unreadable_files(tmp_path):
    with pytest.raises(SpecError, match="no such file"):
        load_spec(tmp_path / "none.yaml")
    with pytest.raises(SpecError, match="cannot be read"):
        load_spec(tmp_path)


def test_numbers_are_read_as_yaml_1_2(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(WHOLE) + "\n")
    text = path.read_text().replace("choices:\n  - TiO2\n  - Ta2O5", "choices: [on, off, 1e-3, 010, 2026-01-01]")
    path.write_text(text)
    assert load_spec(path).space[2].choices == ("on", "off", 1e-3, 10, "2026-01-01")


def test_paths_start_at_the_study_file(tmp_path):
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(WHOLE))
    assert load_spec(tmp_path / "study.yaml").simulator.directory == str(tmp_path)
