"""The flow's side: order, identity of results, listening, cancelling, closing, and a store that fails."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from prefect_simopt.compute import Compute
from prefect_simopt.errors import SimulatorError, StoreError
from prefect_simopt.simulators import processes
from prefect_simopt.simulators.config import PythonSimulator
from prefect_simopt.simulators.devices import visible_gpus, worker_environment
from prefect_simopt.simulators.local import LocalCompute
from prefect_simopt.storage import StudyLocation
from prefect_simopt.trial import Reason, Run, Status


def runs(*values, **options):
    return [Run(trial, {"x": x}, seed=trial + 1, row=trial, **options) for trial, x in enumerate(values)]


def test_it_is_a_compute(place):
    compute = place.start(place.python("def simulate(x): return x"))
    assert isinstance(compute, Compute)


@pytest.mark.parametrize("workers", [1, 3])
def test_outcomes_are_in_the_order_of_the_runs(place, workers):
    source = "import os\ndef simulate(x): return {'value': x * x, 'pid': os.getpid()}"
    compute = place.start(place.python(source), workers=workers, capacity=1000)
    futures = [compute.submit([Run(8 * k + j, {"x": float(j)}, seed=1) for j in range(8)]) for k in range(100)]
    outcomes = [outcome for future in futures for outcome in future.result(30)]
    assert [outcome.trial for outcome in outcomes] == list(range(800))
    assert [outcome.metrics["value"] for outcome in outcomes] == [(k % 8) ** 2 for k in range(800)]
    assert len(place.outcomes()) == 800
    assert len(list((place.path / "study" / "outcomes").iterdir())) <= 200  # short ones are written together
    assert all(
        outcome.started > 1e9 and outcome.worker.endswith(f":{outcome.metrics['pid']:.0f}") for outcome in outcomes
    )


def test_workers_run_side_by_side(place):
    compute = place.start(place.python("import time\ndef simulate(x):\n    time.sleep(0.5)\n    return x"), workers=4)
    compute.submit(runs(1.0)).result(20)
    time.sleep(0.3)  # until the other workers have started
    started = time.monotonic()
    futures = [compute.submit([Run(k, {"x": 1.0}, seed=1)]) for k in range(1, 5)]
    began = sorted(future.result(20)[0].started for future in futures)
    assert began[-1] - began[0] < 0.4
    assert time.monotonic() - started < 1.5


def test_context(place):
    source = """
import os
from pathlib import Path
def simulate(x, context):
    assert os.listdir(context.directory) == []
    Path(context.directory, "file").write_text("kept for the run only")
    context.log("a line")
    context.progress(0.25)
    return {"seed": context.seed, "trial": context.trial, "directory": os.path.isdir(context.directory)}
"""
    heard = []

    class Listener:
        def progress(self, trial, fraction):
            heard.append((trial, fraction))

        def log(self, trial, line):
            heard.append((trial, line))

    compute = place.start(place.python(source), listener=Listener())
    outcomes = compute.submit(runs(0.5, 0.6)).result(20)
    assert [outcome.metrics for outcome in outcomes] == [
        {"seed": 1, "trial": 0, "directory": 1}, {"seed": 2, "trial": 1, "directory": 1}
    ]  # fmt: skip
    compute.close()
    assert {(0, "a line"), (1, "a line"), (0, 0.25)} <= set(heard)
    assert place.log(0) == "a line\n"


def test_progress_lines_and_output_in_order(place):
    heard = []

    class Listener:
        def progress(self, trial, fraction):
            heard.append(fraction)

        def log(self, trial, line):
            heard.append(line)

    source = """
import os, sys
def simulate(x):
    print("one")
    os.write(2, b"two\\n")
    print("SIMOPT-PROGRESS 0.4")
    os.system("echo three")
    print("four", end="")
    return x
"""
    compute = place.start(place.python(source), listener=Listener())
    compute.submit(runs(1.0)).result(20)
    compute.close()
    assert heard == ["one", "two", 0.4, "three", "four"]
    assert place.log(0) == "one\ntwo\nSIMOPT-PROGRESS 0.4\nthree\nfour"


def test_global_generators_are_seeded_for_each_run(place):
    source = "import random, numpy\ndef simulate(x): return {'a': random.random(), 'b': numpy.random.rand()}"
    compute = place.start(place.python(source), workers=2)
    first = compute.submit([Run(trial, {"x": 1.0}, seed=trial % 2) for trial in range(4)]).result(20)
    assert first[0].metrics == first[2].metrics != first[1].metrics == first[3].metrics


def test_fields_are_written_with_their_digests(place):
    source = """
import numpy as np
from prefect_simopt.simulators.contract import Field, Result
def simulate(x):
    return Result({"value": x}, {"ez": Field(np.full((3, 2), x), ("z", "t"), "V/m", {"z": [1.0, 2.0, 3.0]})})
"""
    compute = place.start(place.python(source), workers=2)
    outcomes = compute.submit(runs(1.0, 2.0)).result(20)
    assert all(len(outcome.fields["ez"]) == 64 for outcome in outcomes)
    assert outcomes[0].fields != outcomes[1].fields
    assert (place.path / "study/fields/ez/c/1/0/0").exists()
    again = compute.submit([Run(0, {"x": 1.0}, seed=1, replicate=1)]).result(20)
    assert again[0].fields == {}


BATCH = """
import numpy as np
from prefect_simopt.simulators.contract import Result, simulator
CALLS = 0
@simulator(batch=True, batch_size=4)
def simulate(x, kind, context):
    global CALLS
    CALLS += 1
    assert x.shape == (4,) and x.dtype == float and context.seed.shape == (4,) and len(kind) == 4
    if (x > 90).any():
        raise ValueError("too large")
    values = np.where(x < 0, np.nan, x + x.sum() / 1000)
    return Result({"value": values, "calls": np.full(4, CALLS)}, {"f": np.outer(x, [1.0, 2.0])})
"""


def batch_runs(values, **options):
    return [Run(row, {"x": x, "kind": "ab"[row % 2]}, seed=row, row=row, **options) for row, x in enumerate(values)]


def test_batch_rows_have_their_neighbours(place):
    compute = place.start(place.python(BATCH), names=("x", "kind"), workers=2)
    assert compute.info.batch == 4
    outcomes = compute.submit(batch_runs([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])).result(20)
    values = [outcome.metrics["value"] for outcome in outcomes]
    assert values == [1.01, 2.01, 3.01, 4.01, 5.023, 6.023]  # the second block is filled up with its last row
    assert len(outcomes[5].fields["f"]) == 64


def test_batch_computes_the_whole_block_for_one_wanted_row(place):
    compute = place.start(place.python(BATCH), names=("x", "kind"))
    block = batch_runs([1.0, 2.0, 3.0, 4.0], wanted=False)
    block[2] = Run(2, {"x": 3.0, "kind": "a"}, seed=2, row=2)
    outcomes = compute.submit(block).result(20)
    assert [(outcome.trial, outcome.metrics["value"]) for outcome in outcomes] == [(2, 3.01)]
    assert list(place.outcomes()) == [(2, 0, 0)]


def test_batch_only_the_rows_at_fault_fail(place):
    compute = place.start(place.python(BATCH), names=("x", "kind"))
    nan, raising = compute.submit(batch_runs([1.0, -2.0, 3.0, 4.0])), compute.submit(batch_runs([1.0, 99.0, 3.0, 4.0]))
    reasons = [outcome.reason for outcome in nan.result(20)]
    assert reasons == [None, Reason.NOT_FINITE, None, None]
    outcomes = raising.result(20)
    assert [outcome.reason for outcome in outcomes] == [None, Reason.EXCEPTION, None, None]
    assert outcomes[1].message == "ValueError: too large"
    assert outcomes[0].metrics["value"] == 1.004  # alone: four copies of its own row


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        ("x[:2]", Reason.BAD_RESULT),
        ("1.0", Reason.BAD_RESULT),
        ("None", Reason.BAD_RESULT),
        ("{'value': [str(each) for each in x]}", Reason.BAD_RESULT),
        ("Result({'value': x}, {'f': [1.0]})", Reason.BAD_FIELD),
        ("{'value': x, 1: x}", Reason.BAD_RESULT),
        ("{'lift': x}", Reason.MISSING_METRIC),
    ],
)
def test_batch_bad_results(place, returned, reason):
    source = f"""
from prefect_simopt.simulators.contract import Result, simulator
@simulator(batch=True, batch_size=3)
def simulate(x): return {returned}
"""
    compute = place.start(place.python(source), required_metrics=["value"])
    outcomes = compute.submit(runs(1.0, 2.0, 3.0)).result(20)
    assert [outcome.reason for outcome in outcomes] == [reason] * 3


def test_jax_arrays_are_numbers(place):
    pytest.importorskip("jax")
    source = "import jax.numpy as np\ndef simulate(x): return {'value': np.sin(x), 'n': np.int32(3)}"
    outcome = place.start(place.python(source)).submit(runs(0.5)).result(60)[0]
    assert outcome.metrics == pytest.approx({"value": np.sin(0.5), "n": 3.0})


def test_cancel_lets_runs_end_within_the_grace(place):
    source = "import time\ndef simulate(x):\n    time.sleep(x)\n    return x"
    compute = place.start(place.python(source), workers=2)
    time.sleep(1.0)  # until both workers have started
    compute.submit(runs(0.0)).result(20)
    short = compute.submit([Run(1, {"x": 0.4}, seed=1), Run(2, {"x": 0.4}, seed=1)])
    long = compute.submit([Run(3, {"x": 60.0}, seed=1)])
    waiting = [compute.submit([Run(4 + k, {"x": 0.0}, seed=1)]) for k in range(3)]
    time.sleep(0.2)
    compute.cancel(grace=1.0)
    assert [outcome.trial for outcome in short.result(20)] == [1]
    assert long.result(20) == []
    assert [future.result(20) for future in waiting] == [[], [], []]
    assert compute.submit(runs(1.0)).result(20) == []
    assert sorted(place.outcomes()) == [(0, 0, 0), (1, 0, 0)]


def test_a_second_cancel_ends_at_once(place):
    compute = place.start(place.python("import time\ndef simulate(x): time.sleep(60)"))
    future = compute.submit(runs(1.0))
    time.sleep(0.2)
    compute.cancel(grace=50)
    compute.cancel(grace=0)
    assert future.result(10) == []


def test_a_batch_given_in_advance_goes_to_the_worker_that_is_free_first(place):
    source = "import time\ndef simulate(x):\n    time.sleep(x)\n    return x"
    compute = place.start(place.python(source), workers=2)
    time.sleep(1.0)  # until both workers have started
    slow = compute.submit([Run(0, {"x": 60.0}, seed=1)])
    rest = [compute.submit([Run(k, {"x": 0.05}, seed=1)]) for k in range(1, 8)]
    assert [future.result(20)[0].trial for future in rest] == list(range(1, 8))
    assert not slow.done()


def test_close_is_idempotent_and_ends_pending_futures(place):
    compute = place.start(place.python("import time\ndef simulate(x): time.sleep(60)"))
    futures = [compute.submit(runs(1.0)) for _ in range(3)]
    threading.Timer(0.2, compute.close).start()
    assert [future.result(20) for future in futures] == [[], [], []]
    compute.close()
    compute.close()


def test_close_without_start():
    LocalCompute(PythonSimulator(entrypoint="x.py:x"), space_names=["x"], workers=1).close()


@pytest.mark.parametrize("field", [False, True])
def test_a_store_that_cannot_be_written_breaks_the_place(place, field):
    source = """
import numpy as np
from prefect_simopt.simulators.contract import Result
def simulate(x): return Result({"value": x}, {"f": np.zeros(3)} if FIELD else {})
""".replace("FIELD", str(field))
    compute = place.start(place.python(source))
    file = place.path / "a-file"
    file.write_text("no folder")
    compute.attach(StudyLocation(str(file / "study")), 10)
    with pytest.raises(StoreError, match="choose another store"):
        compute.submit(runs(1.0)).result(20)
    with pytest.raises(StoreError):
        compute.submit(runs(1.0)).result(20)


def test_a_changed_simulator_is_noticed(place):
    simulator = place.python("import os\ndef simulate(x):\n    if x > 1: os._exit(1)\n    return x")
    compute = place.start(simulator)
    assert compute.submit(runs(1.0)).result(20)[0].status is Status.COMPLETE
    place.python("import os\ndef simulate(x):\n    if x > 1: os._exit(1)\n    return -x")
    future = compute.submit(runs(2.0, 1.0))  # the first run ends the process; the next one has the new code
    with pytest.raises(SimulatorError, match="changed while the study ran"):
        future.result(20)


def test_a_changed_file_of_a_program_is_noticed(place):
    compute = place.start(place.command("open('metrics.json', 'w').write('{\"value\": 1}')"))
    assert compute.submit(runs(1.0)).result(20)[0].status is Status.COMPLETE
    (place.path / "program.py").write_text("open('metrics.json', 'w').write('{\"value\": 2}')")
    with pytest.raises(SimulatorError, match=r"program\.py changed while the study ran"):
        compute.submit([Run(1, {"x": 1.0}, seed=1)]).result(20)
    assert list(place.outcomes()) == [(0, 0, 0)]


def test_environment_reaches_the_simulator(place, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    source = """
import os, time
def simulate(x):
    time.sleep(0.3)
    return {name: float(os.environ[name]) for name in ("A", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")}
"""
    compute = place.start(place.python(source, environment={"A": "5"}), workers=2)
    time.sleep(1.0)  # until both workers have started
    pair = [compute.submit([Run(k, {"x": 1.0}, seed=1)]).result for k in range(2)]
    metrics = [result(20)[0].metrics for result in pair]
    assert {each["CUDA_VISIBLE_DEVICES"] for each in metrics} == {4.0, 7.0}
    assert all(each["A"] == 5 and each["OMP_NUM_THREADS"] >= 1 for each in metrics)


def test_worker_environment(tmp_path, monkeypatch):
    monkeypatch.setattr("prefect_simopt.simulators.devices.cores", lambda: 8)
    made = worker_environment(3, 4, {"OMP_NUM_THREADS": "5"}, {"MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "0,1"})
    assert (made["OMP_NUM_THREADS"], made["MKL_NUM_THREADS"], made["OPENBLAS_NUM_THREADS"]) == ("5", "1", "1")
    assert made["CUDA_VISIBLE_DEVICES"] == "1"
    assert made["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert visible_gpus({}, str(tmp_path)) == ["0", "1"]
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": ""}, str(tmp_path)) == []


def test_secrets_are_on_no_command_line(place):
    compute = place.start(place.python("def simulate(x): return x"))
    compute.attach(StudyLocation(str(place.path / "study"), {"fsync": True}), 10)
    assert compute.submit(runs(1.0)).result(20)[0].status is Status.COMPLETE
    for worker in compute._alive.values():
        for pid in processes.descendants([worker.pid]):
            for part in ("cmdline", "environ"):
                assert b"fsync" not in Path(f"/proc/{pid}/{part}").read_bytes()
