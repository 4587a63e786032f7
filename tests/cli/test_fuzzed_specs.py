"""Study files that nobody would write: each is a study or is refused in words, at once, and nothing is written."""

import copy
import signal
from contextlib import contextmanager

import pytest
import yaml
from broken_specs import WHOLE
from command_line import tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefect_simopt.errors import SpecError
from prefect_simopt.optimizers import make_optimizer
from prefect_simopt.specfile import load_spec, make_spec, override

HANG = 60  # seconds that no spec may take
COMMAND = {
    **WHOLE,
    "simulator": {
        "type": "command",
        "command": ["python3", "sim.py", "in.json", "{output}/metrics.json", "{t1}"],
        "files": ["sim.py", "mesh/"],
        "templates": {"in.json": "in.json.j2"},
        "environment": {"OMP_NUM_THREADS": "1"},
        "metrics": [
            {"name": "drag", "stdout": "Cd = ([-+0-9.eE]+)"},
            {"name": "lift", "file": "out.csv", "column": "cl", "row": -1},
            {"name": "gain", "file": "out.json", "path": "results.gain"},
        ],
        "fields": [{"name": "pressure", "file": "p.npy", "dims": ["y", "x"], "unit": "Pa"}],
        "source": {"url": "https://host/repository.git", "revision": "v1.0", "build": ["make", "-j2"]},
    },
    "optimizer": {"type": "ga", "population": 8, "mutation": 0.1},
    "relations": ["t1 * 2 + q^2 <= 400 / layers", "layers >= 3"],
}
WORDS = st.sampled_from(
    ["", "auto", "float", "int", "categorical", "python", "command", "minimize", "pso", "ga", "sa", "sobol", "lhs",
     "grid", "random", "local", "t1", "q", "value", "1e3", "nan", ".inf", "-0", "m:f", "a.py:f", "../x", "/etc", "~",
     "s3://b/p", "s3://", "file:///x", "t1 < q", "t1 <= 1", "((((", "1 <= 2", "t1 <= 1/0", "t1^9^9^9 <= 1", "\0",
     "\ud800", "é́", "x" * 5000, "{t1}", "{", "}}", "{t1!r:>99999999}", "(a+)+$", "-t1 <= --2", "True", "null"]
)  # fmt: skip
NUMBERS = st.one_of(
    st.integers(-5, 20),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0, -1, 2**31, 2**63, 2**64, 10**30, 10**400, 1e308, 5e-324, -1e308, 1e-300, True, False]),
)
LEAVES = st.one_of(st.none(), NUMBERS, WORDS, st.text(max_size=12))
KEYS = st.one_of(
    WORDS,
    st.sampled_from(["name", "type", "low", "high", "step", "log", "choices", "unit", "metric", "target", "seed",
                     "population", "points", "entrypoint", "arguments", "trials", "workers", "url", "block"]),
)  # fmt: skip
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=8
)


def places(node, path=()):
    """Every place in a document."""
    yield path
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in items:
        yield from places(child, (*path, key))


@st.composite
def documents(draw):
    """A valid document with a few places changed, removed, added or exchanged."""
    document = {"root": copy.deepcopy(draw(st.sampled_from([WHOLE, COMMAND])))}
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from([each for each in places(document) if each]))
        target = document
        for key in path[:-1]:
            target = target[key]
        change = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add", "copy"]))
        if change == "remove" and len(path) > 1:
            del target[path[-1]]
        elif change == "add" and isinstance(target, dict):
            target[draw(KEYS)] = draw(VALUES)
        elif change == "add" and isinstance(target, list):
            target.append(draw(VALUES))
        elif change == "copy":
            other = document
            for key in draw(st.sampled_from(list(places(document)))):
                other = other[key]
            target[path[-1]] = copy.deepcopy(other)
        else:
            target[path[-1]] = draw(VALUES)
    return document["root"]


@st.composite
def mutated(draw):
    """The bytes of a valid file with some of them changed, removed, added or moved."""
    data = bytearray(yaml.safe_dump(draw(st.sampled_from([WHOLE, COMMAND])), sort_keys=False).encode())
    for _ in range(draw(st.integers(1, 6))):
        at, size = draw(st.integers(0, len(data))), draw(st.integers(0, 30))
        piece = draw(st.one_of(
            st.just(b""),
            st.binary(max_size=4),
            st.sampled_from([b"\n", b"  ", b"- ", b": ", b"&a ", b"*a", b"!!", b"!!python/name:os.system ", b"<<: ",
                             b"{", b"[", b"'", b'"', b"#", b"|", b">", b"\t", b"\xff\xfe", b"\0", b"---\n", b"...\n",
                             b"%YAML 1.1\n", b"? ", b"9" * 400, b"[" * 300, b"1e", b"0x", b"0o8", b"-", b"~"]),
            st.just(bytes(data[at : at + size])),
        ))  # fmt: skip
        end = at + draw(st.sampled_from([0, 0, 1, size]))
        data[at:end] = piece
    return bytes(data)


@contextmanager
def at_once(example):
    """Fail rather than hang."""

    def hang(*_):
        raise AssertionError(f"hangs: {example!r}")

    earlier = signal.signal(signal.SIGALRM, hang)
    signal.alarm(HANG)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, earlier)


def accept_or_refuse(read):
    """Whatever is no study is refused in words; whatever is one can be searched."""
    try:
        spec = read()
    except SpecError as error:
        message = str(error)
        assert message.strip()
        assert "Traceback" not in message
        message.encode(errors="backslashreplace")
        return None
    spec.document()
    assert len(spec.digest) == 64
    space = spec.make_space()
    if space.dimensions < 50 and len(spec.relations) < 5:
        optimizer = make_optimizer(spec.optimizer, space, seed=spec.seed, objectives=len(spec.objectives))
        _, x = optimizer.ask(3)
        assert all(space.decode(x))
    return spec


def fuzz(examples):
    """Hypothesis's settings for so many examples."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=examples < 1000,
        suppress_health_check=list(HealthCheck),
        database=None,
    )


def check_document(document):
    with at_once(document):
        accept_or_refuse(lambda: make_spec(document, "study.yaml"))


def check_file(folder, data):
    path = folder / "study.yaml"
    path.write_bytes(data)
    before = tree(folder)
    with at_once(data):
        accept_or_refuse(lambda: load_spec(path))
    assert tree(folder) == before


def check_assignment(path, value):
    with at_once((path, value)):
        accept_or_refuse(lambda: make_spec(override(WHOLE, [f"{path}={value}"])))


@pytest.fixture(scope="module")
def own_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@fuzz(150)
@given(documents())
def test_documents(document):
    check_document(document)


@fuzz(150)
@given(data=mutated())
def test_files(own_folder, data):
    check_file(own_folder, data)


@fuzz(100)
@given(KEYS, WORDS | st.text(max_size=12))
def test_assignments(path, value):
    check_assignment(path, value)


@pytest.mark.slow
@fuzz(5000)
@given(documents())
def test_5000_documents(document):
    check_document(document)


@pytest.mark.slow
@fuzz(5000)
@given(data=mutated())
def test_5000_files(own_folder, data):
    check_file(own_folder, data)


@fuzz(25)
@given(document=documents())
def test_through_the_command_line(simopt, folder, document):
    try:
        text = yaml.safe_dump(document)
    except yaml.YAMLError:
        return
    (folder / "study.yaml").write_text(text, errors="backslashreplace")
    before = tree(folder)
    try:
        load_spec("study.yaml")
    except SpecError:
        answer = simopt("run", "study.yaml", "--untracked")
        assert (answer.code, answer.out) == (2, "")
        assert answer.err.startswith("simopt: study.yaml: ")
        assert "Traceback" not in answer.err
    assert tree(folder) == before
