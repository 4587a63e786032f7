"""What simulator processes write: fields that any Zarr reader opens, refused when they do not fit, and outcomes."""

import hashlib
import subprocess
import sys

import numpy as np
import orjson
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nst
from numcodecs import Blosc

from prefect_simopt.chunks import decode, encode, storable
from prefect_simopt.errors import CorruptionError
from prefect_simopt.outcomes import decode_outcomes, encode_outcomes, outcomes_name, trial_range
from prefect_simopt.simulators.contract import Field
from prefect_simopt.sink import TrialSink
from prefect_simopt.storage import StudyLocation
from prefect_simopt.trial import Outcome, Reason, Status

FIELD = Field(np.arange(6.0).reshape(2, 3), ("y", "x"), "V/m", {"x": [1.0, 2.0, 4.0]}, {"x": "nm"})


@pytest.fixture
def sink(location: StudyLocation) -> TrialSink:
    return TrialSink(location, 10)


@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "i4", "u8", "f2", "f4", "f8", "c8", "c16", ">f8", ">i4"])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 4), (2, 1, 5), (300, 300)])
def test_zarr_reads_what_was_put(tmp_path, dtype: str, shape: tuple[int, ...]) -> None:
    location = StudyLocation(str(tmp_path))
    values = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    sink = TrialSink(location, 10)
    digest = sink.put_field(7, "ez", values)
    array = zarr.open_array(str(tmp_path / "fields/ez"), mode="r")
    assert array.shape == (10, *shape)
    assert array.dtype == values.dtype.newbyteorder("=")
    np.testing.assert_array_equal(array[7], values)
    assert digest == hashlib.sha256(values.astype(values.dtype.newbyteorder("<")).tobytes()).hexdigest()


def test_zarr_writes_the_same_bytes(tmp_path) -> None:
    sink = TrialSink(StudyLocation(str(tmp_path)), 10)
    values = np.random.default_rng(0).standard_normal((50, 60))
    sink.put_field(2, "ez", values)
    ours = (tmp_path / "fields/ez/c/2/0/0").read_bytes()
    zarr.open_array(str(tmp_path / "fields/ez"), mode="r+")[2] = values
    assert (tmp_path / "fields/ez/c/2/0/0").read_bytes() == ours


def test_zarr_reads_what_does_not_get_smaller(tmp_path) -> None:
    values = np.random.default_rng(0).integers(0, 256, 1 << 20).astype("u1")
    TrialSink(StudyLocation(str(tmp_path)), 10).put_field(2, "noise", values)
    assert (tmp_path / "fields/noise/c/2/0").stat().st_size < values.nbytes + 100
    np.testing.assert_array_equal(zarr.open_array(str(tmp_path / "fields/noise"), mode="r")[2], values)


def test_views_and_orders_are_the_same_to_it(sink: TrialSink) -> None:
    values = np.arange(24.0).reshape(4, 6)
    digests = {
        sink.put_field(i, "ez", each)
        for i, each in enumerate([values, np.asfortranarray(values), values[::-1][::-1], values.tolist()])
    }
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("name", "bad", "message"),
    [
        ("ez", np.zeros((2, 4)), r"it is float64 of shape \(2, 4\), but the field of the first trial is float64"),
        ("ez", np.zeros((2, 3), "f4"), r"it is float32 .* all trials need the same"),
        ("ez", Field(FIELD.values, ("a", "b")), "its axes are"),
        ("ez", Field(FIELD.values, ("y", "x"), coords={"x": [1.0, 2.0, 5.0]}), "the coordinate x differs"),
        ("ez", Field(FIELD.values, ("y", "x"), coords={"x": [1.0, 2.0]}), r"the coordinate x has shape \(2,\)"),
        ("ez", Field(FIELD.values, ("y", "x"), coords={"z": [1.0]}), "its axis has none"),
        ("ez", Field(FIELD.values, ("y",)), "it has 2 axes but 1 names"),
        ("hz", Field(np.zeros(5), ("x",)), "its axis x has 5 points, but that of the field"),
        ("hz", Field(np.zeros(5), ("ez",)), "its axis ez has the name of a field"),
        ("x", np.zeros(3), "its name is that of an axis"),
        ("hz", Field(np.zeros((2, 2)), ("a", "a")), "must be words that differ"),
        ("hz", Field(np.zeros(2), ("trial",)), "must be words that differ"),
        ("hz", Field(np.zeros(2), ("hz",)), "must be words that differ"),
        ("hz", Field(np.zeros(2), ("a/b",)), "must be words that differ"),
        ("hz", np.array(["a"]), "not numbers"),
        ("hz", np.array([object()]), "not numbers"),
        ("hz", np.zeros((0, 3)), "it is empty"),
        ("../hz", np.zeros(3), "a field's name has letters"),
        ("zarr.json", np.zeros(3), "a field's name has letters"),
        ("trial", np.zeros(3), "a field's name has letters"),
        ("", np.zeros(3), "a field's name has letters"),
    ],
)
def test_what_does_not_fit_is_refused(location: StudyLocation, sink: TrialSink, name, bad, message) -> None:
    sink.put_field(0, "ez", FIELD)
    for each in (sink, TrialSink(location, 10)):
        with pytest.raises(ValueError, match=message):
            each.put_field(1, name, bad)
    assert [key for key in location.storage().folders("fields") if key not in ("ez", "x")] == []
    TrialSink(location, 10).put_field(1, "ez", FIELD)


@pytest.mark.slow
def test_a_field_too_large_for_one_object_is_refused() -> None:
    with pytest.raises(ValueError, match="split it in parts"):
        storable(np.broadcast_to(np.float64(0), (1 << 28, 1)))


def test_processes_that_start_together_agree(location: StudyLocation) -> None:
    script = (
        "import sys, orjson, numpy as np\n"
        "from prefect_simopt.sink import TrialSink\n"
        "from prefect_simopt.simulators.contract import Field\n"
        "from prefect_simopt.storage import StudyLocation\n"
        "sink = TrialSink(StudyLocation.from_json(orjson.loads(sys.argv[1])), 10)\n"
        "sys.stdin.readline()\n"
        "for i in range(6):\n"
        "    field = Field(np.full((2, 3), i), ('y', 'x'), '', {'x': [1, 2, 3]})\n"
        "    sink.put_field(int(sys.argv[2]), f'f{i}', field)\n"
    )
    document = orjson.dumps(location.to_json()).decode()
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", script, document, str(i)], stdin=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for i in range(3)
    ]
    for writer in writers:
        writer.stdin.write(b"\n")
        writer.stdin.flush()
    assert [writer.communicate()[1] for writer in writers] == [b"", b"", b""]
    assert len(location.storage().folders("fields")) == 7


@settings(suppress_health_check=[HealthCheck.too_slow])  # on a busy machine drawing an array takes its time
@given(st.data())
def test_chunks_decode_to_what_was_encoded(data) -> None:
    values = storable(data.draw(nst.arrays(nst.scalar_dtypes().filter(_storable), nst.array_shapes(max_dims=3))))
    encoded = bytes(encode(values))
    decoded = decode(encoded, values.dtype, values.shape, "it")
    assert decoded.tobytes() == values.tobytes()
    position = data.draw(st.integers(0, 8 * len(encoded) - 1))
    damaged = bytearray(encoded)
    damaged[position // 8] ^= 1 << position % 8
    with pytest.raises(CorruptionError):
        decode(bytes(damaged), values.dtype, values.shape, "it")


def _storable(dtype: np.dtype) -> bool:
    return dtype.kind in "?biufc" and dtype.itemsize <= 16 and dtype.name not in ("float128", "longdouble")


@given(
    st.lists(
        st.builds(
            Outcome,
            trial=st.integers(0, 99_999_999),
            status=st.sampled_from([Status.COMPLETE, Status.FAILED]),
            replicate=st.integers(0, 5),
            metrics=st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False, allow_infinity=False)),
            seconds=st.floats(0, 1e9),
            reason=st.none() | st.sampled_from(list(Reason)),
            message=st.text(),
            output=st.text(),
            attempt=st.integers(0, 3),
            started=st.floats(0, 2e9),
        ),
        min_size=1,
        max_size=5,
    ),
    st.data(),
)
def test_outcomes_read_back_but_for_the_damaged_one(outcomes: list[Outcome], data) -> None:
    encoded = encode_outcomes(outcomes)
    assert decode_outcomes(encoded) == (outcomes, [])
    trials = trial_range(outcomes_name(outcomes))
    assert all(outcome.trial in trials for outcome in outcomes)
    position = data.draw(st.integers(0, 8 * len(encoded) - 1))
    damaged = bytearray(encoded)
    damaged[position // 8] ^= 1 << position % 8
    good, bad = decode_outcomes(bytes(damaged))
    assert bad
    assert all(outcome in outcomes for outcome in good)
    assert len(good) >= len(outcomes) - 2  # two where the end of a line between them was hit


def test_half_a_character_in_an_output_is_no_obstacle() -> None:
    outcome = Outcome(1, Status.FAILED, output="a\ud800b", message="\udfff")
    good, damaged = decode_outcomes(encode_outcomes([outcome]))
    assert damaged == []
    assert good[0].output == "a?b"


def test_kept_output_is_a_file_of_its_run(location: StudyLocation, sink: TrialSink) -> None:
    sink.put_log(12, 1, 2, b"boom\n")
    assert location.storage().read("logs/00000012-1-2.txt") == b"boom\n"


def test_a_simulators_process_imports_little() -> None:
    script = (
        "import sys, prefect_simopt.sink\n"
        "print({'zarr', 'numcodecs', 'pydantic', 'prefect', 'asyncio', 's3fs'} & sys.modules.keys())"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout == "set()\n"


@pytest.mark.parametrize("dtype", ["f8", "f4", "i2", "u1", "c16"])
@pytest.mark.parametrize("size", [1 << 18, 1 << 20, 3_333_344])
def test_what_does_not_get_smaller_is_kept_as_the_codec_would(dtype, size):
    noise = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8).view(dtype)
    data = encode(noise)
    assert data[:-4] == Blosc("zstd", 0, Blosc.BITSHUFFLE, 1 << 19).encode(noise)
    assert decode(data, noise.dtype, noise.shape, "noise").tobytes() == noise.tobytes()
