"""The process that runs a simulator. It calls, checks what came back, writes fields, and reports to its supervisor.

Whatever the simulator does to its process (close files, change directory, leave children, exit, crash), the next run
finds it as the first one did, or in a new process.
"""

import contextlib
import ctypes
import faulthandler
import io
import os
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, Protocol

import orjson

from prefect_simopt.errors import SimulatorError, StoreError
from prefect_simopt.simulators import processes, python, wire
from prefect_simopt.simulators.board import Board
from prefect_simopt.simulators.contract import Result
from prefect_simopt.simulators.failure import RunFailure, SimulatorChanged
from prefect_simopt.simulators.results import to_fields, to_metrics
from prefect_simopt.simulators.workspace import Workspace
from prefect_simopt.trial import Outcome, Reason, Run, Status

__all__ = ["LENGTH", "Host", "Wiring", "main"]

LENGTH = struct.Struct(">I")
_PROGRESS_SECONDS = 0.05
_libc = ctypes.CDLL(None)


class Simulator(Protocol):
    """A simulator in its own process.

    Attributes:
        batch: rows of a call, 0 for one run at a time.
        info: what the flow is told of it.
    """

    batch: int
    info: dict[str, Any]

    def run(self, run: Run, workspace: Workspace) -> Result:
        """One run. Whatever it raises is the run's failure."""

    def run_block(self, runs: Sequence[Run], workspace: Workspace) -> list[Result]:
        """All runs of a block in one call."""


@dataclass(frozen=True)
class Wiring:
    """What connects a host with its supervisor.

    Attributes:
        control: messages to and from the supervisor.
        outcomes: pipe to which each call's outcomes are written.
        capture: pipe that takes what the simulator prints.
        board: shared with the supervisor.
        marker: written to `capture` where a call ends.
        supervisor: its process id.
    """

    control: socket.socket
    outcomes: int
    capture: int
    board: Board
    marker: bytes
    supervisor: int


class Host:
    """Runs calls until its supervisor is gone.

    Args:
        wiring: what connects it with the supervisor.
    """

    def __init__(self, wiring: Wiring) -> None:
        self._control, self._outcomes, self._capture = wiring.control, wiring.outcomes, wiring.capture
        self._marker, self._board = wiring.marker, wiring.board
        self._pid = os.getpid()
        self._worker = f"{socket.gethostname()}:{self._pid}"
        self._frames = wire.Frames()
        self._sink: Any = None
        self._location: dict[str, Any] = {}
        self._spoke = 0.0
        self._redirect_output()

    def serve(self) -> None:
        """Load the simulator, then run what comes, until the supervisor closes the channel."""
        while frames := wire.receive(self._control, self._frames):
            for document, blob in frames:
                if "setup" in document:
                    self._load(document["setup"], blob)
                elif "store" in document:
                    self._location, self._sink = document["store"], None
                else:
                    for number, runs in document["calls"]:
                        if self._board.stop:
                            break
                        self._call(number, [Run(**run) for run in runs])
                    self._control.sendall(wire.pack({"rest": True}))

    def _load(self, setup: dict[str, Any], blob: bytes) -> None:
        self._required = setup["required"]
        self._root = Path(setup["scratch"])
        self._home = setup["simulator"]["directory"]
        sys.path[:] = setup["path"]
        os.chdir(self._home)
        self._simulator = load(setup, blob)
        if "numpy" in sys.modules:  # its generators load lazily, and could not be seeded for the first run
            import numpy.random  # noqa: F401
        self._kept = set(processes.children())
        self._redirect_output()
        self._control.sendall(wire.pack({"ready": self._simulator.info}))

    def _call(self, number: int, runs: list[Run]) -> None:
        """Run one call and report it."""
        outcomes = self._run_block(number, runs) if self._simulator.batch else [self._run(number, runs[0])]
        self._tidy()
        data = orjson.dumps([number, [outcome.to_json() for outcome in outcomes]])
        wire.write_all(self._outcomes, LENGTH.pack(len(data)) + data)

    def _run(self, number: int, run: Run) -> Outcome:
        workspace = Workspace(self._root, self._progress)
        _seed_generators(run.seed)
        started, clock = time.time(), time.perf_counter()
        try:
            self._board.begin(number)
            result = self._plain(run, self._simulator.run(run, workspace))  # a lazy array computes only now
            self._leave()
        except SimulatorChanged:
            raise
        except BaseException as error:  # noqa: BLE001 - user code may raise anything
            self._leave()
            workspace.remove()
            return self._failed(run, error, started, time.perf_counter() - clock)
        seconds = time.perf_counter() - clock
        outcome = self._complete(run, result, started, seconds)
        workspace.remove()
        return outcome

    def _run_block(self, number: int, runs: list[Run]) -> list[Outcome]:
        """One call for a block; where it fails, a call for each row, so that only those at fault fail."""
        wanted = [place for place, run in enumerate(runs) if run.wanted]
        workspace = Workspace(self._root, self._progress)
        _seed_generators(runs[0].seed)
        started, clock = time.time(), time.perf_counter()
        try:
            self._board.begin(number)
            results = self._simulator.run_block(runs, workspace)
            self._leave()
        except BaseException as error:  # noqa: BLE001
            self._leave()
            workspace.remove()
            if len(runs) == 1:
                return [self._failed(runs[0], error, started, time.perf_counter() - clock)]
            return [outcome for place in wanted for outcome in self._run_block(number, [runs[place]])]
        seconds = (time.perf_counter() - clock) / len(runs)
        outcomes = [self._complete_row(runs[place], results[place], started, seconds) for place in wanted]
        workspace.remove()
        return outcomes

    def _plain(self, run: Run, result: Result) -> Result:
        """What a run returned, as floats and NumPy arrays; raises for what it should not have returned."""
        metrics = to_metrics(result.metrics, self._required)
        fields = to_fields(result.fields) if run.replicate == 0 else {}  # a trial has one array for each field
        return replace(result, metrics=metrics, fields=fields)

    def _complete_row(self, run: Run, result: Result, started: float, seconds: float) -> Outcome:
        try:
            plain = self._plain(run, result)
        except Exception as error:  # noqa: BLE001 - of this row, not of the others
            return self._failed(run, error, started, seconds)
        return self._complete(run, plain, started, seconds)

    def _complete(self, run: Run, result: Result, started: float, seconds: float) -> Outcome:
        """The outcome of a run that returned: complete, with its fields written, or failed where one cannot be."""
        digests = {}
        if result.fields and self._board.stop:
            self._check_writer()
        for name, field in result.fields.items():
            try:
                digests[name] = self._open_sink().put_field(run.trial, name, field)
            except ValueError as error:
                return self._failed(run, RunFailure(Reason.BAD_FIELD, str(error)), started, seconds)
        return Outcome(run.trial, Status.COMPLETE, run.replicate, result.metrics, digests, seconds, attempt=run.attempt,
                       started=started, worker=self._worker, gradients=result.gradients)  # fmt: skip

    def _failed(self, run: Run, error: BaseException, started: float, seconds: float) -> Outcome:
        reason, message = describe(error)
        return Outcome(run.trial, Status.FAILED, run.replicate, seconds=seconds, reason=reason, message=message,
                       attempt=run.attempt, started=started, worker=self._worker)  # fmt: skip

    def _check_writer(self) -> None:
        """Once the flow is gone, another one may have run this trial again: its field must stay as it is.

        Raises:
            StoreError: the study has another writer, and what this process finds is not wanted any more.
        """
        from prefect_simopt.lease import holds
        from prefect_simopt.storage import StudyLocation

        token = self._location["token"]
        if token and not holds(StudyLocation.from_json(self._location["location"]).storage(), token):
            raise StoreError("another run of the study has taken over")

    def _open_sink(self) -> Any:
        if self._sink is None:
            from prefect_simopt.sink import TrialSink
            from prefect_simopt.storage import StudyLocation

            location = StudyLocation.from_json(self._location["location"])
            searched = bool(self._location["token"])  # by a study's writer
            self._sink = TrialSink(location, self._location["capacity"], arbitrated=searched)
        return self._sink

    def _progress(self, fraction: float) -> None:
        now = time.monotonic()
        if now - self._spoke >= _PROGRESS_SECONDS or fraction >= 1:
            self._spoke = now
            self._control.sendall(wire.pack({"progress": fraction}))

    def _leave(self) -> None:
        """The simulator's code has ended. A child that it forked and that came back here is not the host."""
        self._board.leave()
        if os.getpid() != self._pid:
            os._exit(0)

    def _redirect_output(self) -> None:
        """Let standard output and error go to the supervisor, whole lines at a time."""
        for descriptor, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(self._capture, descriptor)
            stream = io.TextIOWrapper(
                io.FileIO(descriptor, "w", closefd=False),
                "utf-8",
                "backslashreplace",
                line_buffering=True,
                write_through=True,
            )
            setattr(sys, name, stream)
        self._streams = sys.stdout, sys.stderr
        self._pipe = os.fstat(self._capture).st_ino

    def _tidy(self) -> None:
        """Undo what a run did to this process, and mark the end of what it printed."""
        with contextlib.suppress(Exception):
            self._streams[0].flush()
            self._streams[1].flush()
        _libc.fflush(None)
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # raises unless there are children
            self._end_children()
        try:
            redirected = os.fstat(1).st_ino == self._pipe == os.fstat(2).st_ino
        except OSError:
            redirected = False
        streams = sys.stdout, sys.stderr
        if not redirected or streams != self._streams or streams[0].closed or streams[1].closed:
            self._redirect_output()
        os.chdir(self._home)
        os.write(self._capture, self._marker)

    def _end_children(self) -> None:
        """Kill what the run started and left running. Pools of multiprocessing stay, and what the import started."""
        kept = set(self._kept)
        if multiprocessing := sys.modules.get("multiprocessing"):
            kept.update(child.pid for child in multiprocessing.active_children())
        leftover = [child for child in processes.children() if child not in kept and not _is_pool_helper(child)]
        if leftover:
            processes.end_descendants(leftover)


def load(setup: dict[str, Any], blob: bytes) -> Simulator:
    """The simulator that a setup describes."""
    if setup["simulator"]["type"] == "python":
        return python.PythonFunction(
            setup["simulator"], setup["names"], blob, setup["code"], setup["conditional"], setup["required"],
            setup["slopes"],
        )  # fmt: skip
    if setup["simulator"]["type"] == "container":
        from prefect_simopt.simulators.container import ContainerProgram

        return ContainerProgram(
            setup["simulator"], setup["names"], setup.get("resolved"), setup["timeout"], setup["conditional"]
        )
    from prefect_simopt.simulators.command import CommandProgram

    return CommandProgram(setup["simulator"], setup["names"], setup.get("resolved"), setup["conditional"])


def describe(error: BaseException) -> tuple[Reason, str]:
    """The reason and the sentence for what a simulator raised; its traceback is printed, the user's frames only."""
    if isinstance(error, RunFailure):
        return error.reason, _readable(error.message)
    if isinstance(error, SystemExit):
        code = 0 if error.code is None else error.code
        if not isinstance(code, int):
            return Reason.EXIT, _readable(f"the simulator called sys.exit({str(code)[:300]!r})")
        hint = " instead of returning a result" if code == 0 else ""
        return Reason.EXIT, f"the simulator called sys.exit({code}){hint}: exit code {code}"
    with contextlib.suppress(Exception):
        frames = error.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename in (__file__, python.__file__):
            frames = frames.tb_next
        lines = traceback.format_exception(type(error), error, frames)
        sys.stderr.write("".join(lines))
    text = "".join(traceback.format_exception_only(error)).strip().split("\n", 1)[0]
    return Reason.EXCEPTION, _readable(text)[:500]


def _readable(text: str) -> str:
    """The text without halves of surrogate pairs, which no encoding takes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _seed_generators(seed: int) -> None:
    """Seed the global generators, so that a simulator that uses them gives the same result again, wherever it runs."""
    if (generator := sys.modules.get("random")) is not None:
        generator.seed(seed)
    if (generator := sys.modules.get("numpy.random")) is not None:
        generator.seed(seed)


def _is_pool_helper(process: int) -> bool:
    """Whether it is the resource tracker or fork server of multiprocessing or loky, which pools need until the end."""
    with contextlib.suppress(OSError):
        command = Path(f"/proc/{process}/cmdline").read_bytes()
        return b"from multiprocessing." in command or b"loky" in command
    return False


def main(wiring: Wiring) -> NoReturn:
    """Be the host of a supervisor, then end the process."""
    processes.die_with_parent(wiring.supervisor)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(each, signal.SIG_DFL)
    processes.adopt_orphans()
    report: dict[str, Any] = {}
    try:
        host = Host(wiring)
        faulthandler.enable(2)
        host.serve()
    except SimulatorError as error:
        report = {"error": str(error)}
    except StoreError as error:
        report = {"broken": str(error)}
    except OSError as error:
        report = {"crash": f"the simulator's process lost a file that it needs: {error}"}
    finally:
        with contextlib.suppress(OSError):
            wiring.control.sendall(wire.pack(report) if report else b"")
        os._exit(1 if report else 0)


if __name__ == "__main__":  # started by a supervisor that cannot fork
    descriptors = [int(word) for word in sys.argv[1:5]]
    main(
        Wiring(
            socket.socket(fileno=descriptors[0]),
            descriptors[1],
            descriptors[2],
            Board(descriptors[3]),
            bytes.fromhex(sys.argv[5]),
            int(sys.argv[6]),
        )
    )
