"""The parts alone: frames, kept and passed-on output, identities, processes."""

import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_simopt.simulators import processes, wire
from prefect_simopt.simulators.capture import HEAD, TAIL, Capture, Stream, last_lines
from prefect_simopt.simulators.identity import digest_of_code, digest_of_path

frames = st.lists(st.tuples(st.dictionaries(st.text(max_size=5), st.integers(-(2**40), 2**40)), st.binary(max_size=50)))


@given(frames, st.lists(st.integers(1, 40)))
def test_frames_come_out_as_they_went_in_however_they_are_cut(sent, cuts):
    data = b"".join(wire.pack(document, blob) for document, blob in sent)
    reader, received, start = wire.Frames(), [], 0
    for cut in [*cuts, len(data)]:
        received += reader.feed(data[start : start + cut])
        start += cut
    received += reader.feed(data[start:])
    assert received == sent


@given(st.lists(st.binary(max_size=20_000), max_size=20), st.integers(1, 9))
def test_capture_keeps_both_ends(pieces, times):
    capture, text = Capture(), b"".join(pieces * times)
    for piece in pieces * times:
        capture.feed(piece)
    kept = capture.data()
    if len(text) <= HEAD + TAIL:
        assert kept == text
    else:
        assert kept.startswith(text[:HEAD] + b"\n[... ")
        assert kept.endswith(b" bytes left out ...]\n" + text[-TAIL:])
        assert b"[... %d bytes left out" % (len(text) - HEAD - TAIL) in kept


class Heard:
    def __init__(self):
        self.lines, self.fractions = [], []
        self.stream = Stream(self.lines.extend, self.fractions.append)


@given(st.lists(st.integers(1, 12)))
def test_stream_cuts_lines_wherever_the_pieces_end(cuts):
    text = "one\nSIMOPT-PROGRESS 0.25\r\nzwölf\nSIMOPT-PROGRESS 50 %\nSIMOPT-PROGRESS x\n\nlast".encode()
    heard, start = Heard(), 0
    for cut in [*cuts, len(text)]:
        heard.stream.feed(text[start : start + cut])
        start += cut
    heard.stream.end()
    assert heard.lines == ["one", "zwölf", "SIMOPT-PROGRESS x", "", "last"]
    assert heard.fractions == [0.25, 0.5]


def test_stream_lets_a_flood_by():
    heard = Heard()
    for k in range(50_000):
        heard.stream.feed(b"line %d\n" % k)
    heard.stream.feed(b"a line of a flood\n" * 100_000)
    heard.stream.feed(b"SIMOPT-PROGRESS 0.9\n")
    assert len(heard.lines) < 5000
    assert heard.fractions == [0.9]


def test_last_lines():
    assert last_lines(b"a\nb\n\xffc\n\n", 2) == "b\n\ufffdc"
    assert len(last_lines(b"x" * 10_000)) == 4000


def make(constant=2, helper=abs, extra=""):
    """Functions that differ in one thing."""
    source = f"""
import numpy as np
TABLE = {{"a": [1, {constant}]}}
def inner(x): return x + TABLE["a"][1]
def simulate(x):
    {extra}
    return helper(inner(x)) if x in {{"a", "b", "c"}} else np.sin(x)
"""
    scope = {"helper": helper, "__name__": "__main__"}
    exec(compile(source, f"<cell {time.time()}>", "exec"), scope)
    return scope["simulate"]


def test_the_digest_of_code_is_about_the_code():
    assert digest_of_code(make()) == digest_of_code(make())
    different = [make(), make(constant=3), make(helper=max), make(helper=make()), make(extra="x = 2 * x")]
    assert len({digest_of_code(each) for each in different}) == len(different)


def test_the_digest_of_code_sees_what_is_captured():
    def function(array, scale=1):
        return lambda x: array.sum() * x * scale

    digests = [digest_of_code(function(np.zeros(k), s)) for k, s in [(3, 1), (4, 1), (3, 2)]]
    assert len(set(digests)) == 3
    assert digests[0] == digest_of_code(function(np.zeros(3)))


def test_the_digest_of_code_is_the_same_in_another_process(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("""
from prefect_simopt.simulators.identity import digest_of_code
class Wing:
    span = 3
    def area(self): return self.span * len({"b", "a", "c"})
def simulate(x): return Wing().area() if x in {"u", "v", "w"} else helper(x)
def helper(x): return simulate(x - 1) if x else 0
print(digest_of_code(simulate))
""")
    said = {
        subprocess.run([sys.executable, script], env={"PYTHONHASHSEED": str(k)}, capture_output=True, check=True).stdout
        for k in range(3)
    }
    assert len(said) == 1


def test_the_digest_of_a_path(tmp_path):
    (tmp_path / "mesh" / "deep").mkdir(parents=True)
    (tmp_path / "mesh" / "deep" / "a").write_text("1")
    first = digest_of_path(tmp_path / "mesh")
    assert first == digest_of_path(tmp_path / "mesh")
    (tmp_path / "mesh" / "deep" / "a").write_text("2")
    second = digest_of_path(tmp_path / "mesh")
    (tmp_path / "mesh" / "deep" / "a").rename(tmp_path / "mesh" / "deep" / "b")
    assert len({first, second, digest_of_path(tmp_path / "mesh")}) == 3


def test_only_the_given_children_are_ended():
    stays, goes = (subprocess.Popen(["sh", "-c", "sleep 600 & sleep 600"], start_new_session=True) for _ in range(2))
    try:
        time.sleep(0.1)
        grandchildren = processes.children(goes.pid)
        processes.end_descendants([goes.pid])
        assert stays.poll() is None
        assert grandchildren
        assert not psutil.pid_exists(goes.pid)
        patience = time.monotonic() + 20
        while (
            any(map(_lives, grandchildren)) and time.monotonic() < patience
        ):  # a kill takes its time to be carried out
            time.sleep(0.01)
        assert not any(map(_lives, grandchildren))
    finally:
        for pid in processes.descendants([stays.pid]):
            subprocess.run(["kill", "-9", str(pid)], check=True)
        stays.wait()
        goes.wait()


def test_identities(place):
    """What determines results is part of a simulator's identity, its place is not."""

    def identity(text="def simulate(x): return x", **options):
        compute = place.start(place.python(text, **options))
        compute.close()
        return compute.info.identity

    first = identity()
    assert identity() == first
    different = [
        first,
        identity("def simulate(x): return y"),
        identity("def simulate(x, scale=2): return x", arguments={"scale": 1}),
        identity(environment={"A": "1"}),
    ]
    assert len(set(different)) == len(different)


def test_identities_of_programs(place):
    (place.path / "deck.j2").write_text("{{ x }}")

    def identity(text="pass", command=("{python}", "program.py"), **options):
        compute = place.start(place.command(text, command, **options))
        compute.close()
        return compute.info.identity

    first = identity()
    assert identity() == first
    different = [first, identity("pass #"), identity(command=("{python}", "program.py", "1"))]
    different += [identity(templates={"deck": "deck.j2"}), identity(environment={"A": "1"})]
    different += [identity(metrics=[{"name": "v", "stdout": "(.)"}]), identity(fields=[{"name": "v", "file": "v.npy"}])]
    (place.path / "deck.j2").write_text("{{ x }} ")
    different += [identity(templates={"deck": "deck.j2"})]
    script = place.path / "script.sh"
    for text in ("true", "false"):
        script.write_text(text)
        different.append(identity(command=("sh", str(script))))
    assert len(set(different)) == len(different)


@pytest.mark.parametrize("changed", ["same size", "another size"])
def test_a_change_within_the_same_second_is_seen(place, changed):
    """Python's own bytecode cache would miss it: same size, same second."""
    outcomes, identities = [], []
    for number in (1, 2) if changed == "same size" else (1, 10):
        from prefect_simopt.trial import Run

        (place.path / "helper.py").write_text(f"NUMBER = {number}")
        compute = place.start(place.python(f"import helper\ndef simulate(x): return {number} + helper.NUMBER"))
        outcomes += compute.submit([Run(number, {"x": 1.0}, seed=1)]).result(20)
        identities.append(compute.info.identity)
    assert [outcome.metrics["value"] for outcome in outcomes] == ([2, 4] if changed == "same size" else [2, 20])
    assert identities[0] != identities[1]


def _lives(pid):
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)  # those are left for init
    except psutil.NoSuchProcess:
        return False
