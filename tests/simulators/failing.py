"""One simulator with every fault there is, where x > 0.5; as a function, for a batch, as a program."""

import ctypes
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from prefect_simopt.simulators.contract import Result, simulator


class Refuses:
    def __float__(self):
        raise RuntimeError("no number today")


class Lazy:
    """Computed where its value is asked for, as JAX's arrays are; and that hangs."""

    def __array__(self, *_, **__):
        time.sleep(600)

    def __float__(self):
        time.sleep(600)


class SilentError(Exception):
    def __str__(self):
        raise ValueError("not even a message")


def _recurse(depth):
    return _recurse(depth + 1) + 1


def _daemonize():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)


def _flood(size):
    piece = b"the same line again and again, and again\n" * 1600
    for _ in range(size // len(piece)):
        os.write(1, piece)
    print("the flood is over")


def _exception():
    raise ValueError("no such wing")


def _interrupt():
    raise KeyboardInterrupt


def _fork_and_return():
    if os.fork() == 0:
        return "the child came back"
    return 1.0


def _sigint():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1)


def _busy_in_c():
    ctypes.PyDLL(None).pause()  # PyDLL keeps the interpreter's lock


def _busy():
    while True:
        pass


def _deaf():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(600)


def _leave_child():
    subprocess.Popen(["sleep", "600"])
    return 1.0


def _leave_group():
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    return 1.0


def _leave_daemon():
    _daemonize()
    return 1.0


def _fork_child():
    if os.fork() == 0:
        time.sleep(600)
        os._exit(0)
    return 1.0


def _pool():
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return float(pool.apply(abs, (-1,)))


def _close_output():
    print("last words")
    sys.stdout.close()
    os.close(1)
    os.close(2)
    return 1.0


def _close_everything():
    os.closerange(0, 4096)
    return 1.0


def _delete_directory():
    directory = os.environ.get("SIMOPT_OUTPUT")
    if directory:
        shutil.rmtree(directory)
        Path(directory).mkdir()
    return 1.0


def _change_directory():
    os.chdir("/")
    return 1.0


def _lost_directory():
    path = Path("lost-by-a-test").absolute()
    path.mkdir(exist_ok=True)
    os.chdir(path)
    path.rmdir()
    return 1.0


FAULTS = {
    # not well
    "exception": _exception,
    "silent": lambda: (_ for _ in ()).throw(SilentError()),
    "exit 3": lambda: sys.exit(3),
    "exit 0": lambda: sys.exit(0),
    "exit text": lambda: sys.exit("bad mesh"),
    "_exit": lambda: os._exit(0),
    "_exit 5": lambda: os._exit(5),
    "interrupt": _interrupt,
    "sigint": _sigint,
    "nan": lambda: float("nan"),
    "infinity": lambda: {"value": 1.0, "drag": float("-inf")},
    "none": lambda: None,
    "none metric": lambda: {"value": None},
    "text": lambda: "12.5",
    "text metric": lambda: {"value": "12.5"},
    "list": lambda: {"value": [1.0, 2.0]},
    "complex": lambda: 1j,
    "huge": lambda: 10**400,
    "refuses": Refuses,
    "other metric": lambda: {"lift": 1.0},
    "no metric": dict,
    "bad name": lambda: {"value": 1.0, "a/b": 1.0},
    "recursion": lambda: _recurse(0),
    "memory": lambda: bytearray(1 << 60),
    "sleep": lambda: time.sleep(600),
    "deaf": _deaf,
    "busy": _busy,
    "busy in C": _busy_in_c,
    "stopped": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "lazy field": lambda: Result({"value": 1.0}, {"ez": Lazy()}),
    "lazy metric": lambda: {"value": Lazy()},
    "sigkill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "sigterm": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "group killed": lambda: os.killpg(0, signal.SIGKILL),
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "close everything": _close_everything,
    "object field": lambda: Result({"value": 1.0}, {"ez": np.array([object()])}),
    "ragged field": lambda: Result({"value": 1.0}, {"ez": [[1.0], [1.0, 2.0]]}),
    "field of other shape": lambda: Result({"value": 1.0}, {"ez": np.zeros(7)}),
    # well
    "flood": lambda: _flood(int(os.environ.get("FLOOD_BYTES", "50000000"))) or 1.0,
    "leave child": _leave_child,
    "leave group": _leave_group,
    "leave daemon": _leave_daemon,
    "fork child": _fork_child,
    "fork and return": _fork_and_return,
    "pool": _pool,
    "close output": _close_output,
    "delete directory": _delete_directory,
    "change directory": _change_directory,
    "lost directory": _lost_directory,
    "bool": lambda: True,
    "numpy": lambda: {"value": np.float32(1), "count": np.int64(3), "flag": np.True_, "zero": np.array(1.0)},
    "big": lambda: 1e308,
    "integer": lambda: 2**70,
}

WELL = Result({"value": 1.0}, {})


def scalar(x, fault):
    """A function of one parameter."""
    print(f"x is {x}")
    if "field" in fault and x <= 0.5:
        return Result({"value": 1.0}, {"ez": np.zeros(5)})
    return FAULTS[fault]() if x > 0.5 else WELL


@simulator(batch=True, batch_size=4)
def batch(x, fault):
    """The same for a block of four rows: a fault in any row strikes the whole call."""
    print(f"x is {x}")
    given = [FAULTS[fault]() if each > 0.5 else 1.0 for each in x]
    values = [each if isinstance(each, float) else 1.0 for each in given]
    return {"value": np.array(values)}


def main():
    """The same as a program."""
    fault, x = sys.argv[1], float(sys.argv[2])
    returned = scalar(x, fault)
    if isinstance(returned, Result):
        for name, values in returned.fields.items():
            np.save(f"{name}.npy", np.asarray(values))
        returned = returned.metrics
    if isinstance(returned, dict):
        returned = {
            name: value.item() if isinstance(value, np.generic | np.ndarray) else value
            for name, value in returned.items()
        }
    else:
        returned = {"value": returned}
    Path(os.environ["SIMOPT_OUTPUT"], "metrics.json").write_text(json.dumps(returned))


if __name__ == "__main__":
    main()
