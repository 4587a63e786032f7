import copy

import pytest
import yaml
from broken_specs import BROKEN, WHOLE

from prefect_simopt.errors import SpecError
from prefect_simopt.spec import StudySpec
from prefect_simopt.specfile import load_spec, make_spec, override


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


def test_what_fields_say_together_is_told_with_the_rest():
    wrong = ["seed=-1", "relations=['t1 <= t9', 'q >']", "objectives=[{metric: a}, {metric: a}]", "name=a b"]
    with pytest.raises(SpecError) as caught:
        make_spec(override(WHOLE, wrong))
    assert [each.path for each in caught.value.problems] == [
        "name",
        "relations[0]",
        "relations[1]",
        "objectives",
        "seed",
    ]


def test_what_only_follows_from_another_problem_is_not_told():
    with pytest.raises(SpecError) as caught:
        make_spec(override(WHOLE, ["space[0].low=500"]))
    assert [each.path for each in caught.value.problems] == ["space[0].low"]


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
        ("space.0.high=299", lambda s: s.space[0].high == 299),
        ("space.t1.high=299", lambda s: s.space[0].high == 299),
    ],
)
def test_overrides(assignment, read):
    assert read(make_spec(override(WHOLE, [assignment])))


@pytest.mark.parametrize(
    "assignment",
    ["budget", "=3", "space[9].low=1", "name.x=1", "space.low=1", "name[0]=1", f"space[{'9' * 5000}].low=1"],
    ids=lambda assignment: assignment[:20],
)
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
    "no boolean": b"name: !!bool abc\n",
    "no time": b"name: !!timestamp abc\n",
    "no number": b"name: !!float ''\n",
    "no set": b"name: !!set [a]\n",
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
