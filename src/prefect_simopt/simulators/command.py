"""Programs as simulators, inside the host process: staged, run without a shell, and read."""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from prefect_simopt.errors import SimulatorError
from prefect_simopt.simulators import processes
from prefect_simopt.simulators.contract import Result
from prefect_simopt.simulators.failure import RunFailure
from prefect_simopt.simulators.fields import check_readers, read_fields
from prefect_simopt.simulators.identity import digest_of_path, identity
from prefect_simopt.simulators.memory import Shortage
from prefect_simopt.simulators.metrics import StdoutScanner, read_metrics
from prefect_simopt.simulators.source import checkout
from prefect_simopt.simulators.staging import PARAMS_FILE, Staging, as_text, check_placeholders, substitute
from prefect_simopt.simulators.verdicts import STARVED, signal_name
from prefect_simopt.simulators.wire import write_all
from prefect_simopt.simulators.workspace import Workspace
from prefect_simopt.trial import Reason, Run

__all__ = ["CommandProgram"]

_INTERPRETERS = ("python", "bash", "sh", "perl", "ruby", "node", "julia", "octave", "Rscript")
_PIECE = 1 << 16


class CommandProgram:
    """A program that is started for each run.

    Args:
        simulator: the spec's `CommandSimulator` as a document, with its `directory`.
        names: the space's parameters.
        resolved: what the first host found out, so that the others need not.
        conditional: names of parameters that some runs do not have.

    Attributes:
        info: what the flow is told: identity, and the commit of a program that was built from source.

    Raises:
        SimulatorError: the program, a file or a template is missing or wrong.
    """

    batch = 0

    def __init__(
        self,
        simulator: Mapping[str, Any],
        names: Sequence[str],
        resolved: Mapping[str, Any] | None,
        conditional: Collection[str] = (),
    ) -> None:
        self._simulator = simulator
        self._staging = Staging(simulator, names, resolved["stamps"] if resolved else None)
        source = simulator["source"]
        self._fixed = {"python": sys.executable}
        if source is not None:
            found = resolved or checkout(source, Path(simulator["directory"]))
            self._fixed["source"] = found["source"]
        self._environment = program_environment(simulator["environment"])
        known = [*names, "params", "output", "seed", "trial", *self._fixed]
        check_placeholders(simulator["command"], known, "command", conditional)
        check_readers(simulator["fields"])
        self._check_program()
        revision = found["revision"] if source is not None else ""
        code = resolved["identity"] if resolved else self._identity(revision)
        self.info = {
            "identity": code,
            "revision": revision,
            "resolved": {
                "identity": code,
                "revision": revision,
                "source": self._fixed.get("source", ""),
                "stamps": self._staging.stamps,
            },
        }

    def run(self, run: Run, workspace: Workspace) -> Result:
        """Stage, run, read."""
        directory = self._stage(run, workspace)
        values = {
            **self._fixed,
            "params": str(directory / PARAMS_FILE),
            "output": str(directory),
            "seed": str(run.seed),
            "trial": str(run.trial),
            **{name: as_text(value) for name, value in run.parameters.items()},
        }
        environment = {
            **self._environment,
            "SIMOPT_PARAMS": str(directory / PARAMS_FILE),
            "SIMOPT_OUTPUT": str(directory),
            "SIMOPT_SEED": str(run.seed),
            "SIMOPT_TRIAL": str(run.trial),
        }
        scanner = StdoutScanner(self._simulator["metrics"])
        words = [substitute(word, values) for word in self._simulator["command"]]
        self._execute(words, directory, environment, scanner)
        metrics = read_metrics(directory, self._simulator["metrics"], scanner.found)
        return Result(metrics, read_fields(directory, self._simulator["fields"]))

    def _stage(self, run: Run, workspace: Workspace) -> Path:
        """The run's own directory, with what the program finds in it."""
        directory = workspace.directory()
        self._staging.stage(directory, run)
        return directory

    def _execute(
        self, words: Sequence[str], directory: Path, environment: Mapping[str, str], scanner: StdoutScanner
    ) -> None:
        """Run the program; raises `RunFailure` unless it ended well."""
        shortage = Shortage()
        code = execute(words, directory, environment, scanner)
        check_end(words[0], code, starved=code == -signal.SIGKILL and shortage.seen())

    def run_block(self, runs: Sequence[Run], workspace: Workspace) -> list[Result]:
        """Programs take one run at a time."""
        raise NotImplementedError

    def _check_program(self) -> None:
        """Raise `SimulatorError` when it is sure that the command cannot start."""
        command, base = self._simulator["command"], Path(self._simulator["directory"])
        program = substitute(command[0], self._fixed) if "{" not in substitute_all(command[0], self._fixed) else ""
        staged = {*self._staging.files, *self._staging.templates}
        if program and "/" not in program and not shutil.which(program, path=self._environment.get("PATH")):
            hint = (
                f"; to run {base / program}, put it into `files` and write ./{program}"
                if (base / program).exists()
                else ""
            )
            raise SimulatorError(f"simulator.command[0]: there is no program {program!r} on PATH{hint}")
        if program.startswith("/") and not os.access(program, os.X_OK):
            raise SimulatorError(f"simulator.command[0]: {program} is missing or not executable")
        if "/" in program and not program.startswith("/"):
            self._check_staged(os.path.normpath(program))
        if program and Path(program).name.rstrip("0123456789.") in _INTERPRETERS:
            script = next((word for word in command[1:] if not word.startswith("-")), "")
            inside = any(script == each or script.startswith(f"{each}/") for each in staged)
            if (
                "-c" not in command[1:3]
                and "-m" not in command[1:3]
                and (base / script).is_file()
                and not (inside or script.startswith("/") or "{" in script)
            ):
                raise SimulatorError(
                    f"simulator.command: {script} is not in the trial's directory, where the program runs; "
                    f"add it: files: [{script}]"
                )

    def _check_staged(self, program: str) -> None:
        """Raise `SimulatorError` unless this path within the trial's directory will be a program."""
        staged = self._staging.files
        folder = next((each for each in staged if program.startswith(f"{each}/")), None)
        path = staged.get(program, staged[folder] / program[len(folder) + 1 :] if folder else None)
        if path is None or not path.is_file():
            raise SimulatorError(
                f"simulator.command[0]: {program} is not in the trial's directory, where it is looked for; "
                f"add it: files: [{program}]"
            )
        if not os.access(path, os.X_OK):
            raise SimulatorError(f"simulator.command[0]: {path} is not executable; chmod +x {path} makes it so")

    def _identity(self, revision: str) -> str:
        simulator = self._simulator
        named = [substitute_all(word, self._fixed) for word in simulator["command"]]
        source = simulator["source"]
        return identity({
            "type": "command",
            "command": simulator["command"],
            "programs": {word: digest_of_path(Path(word)) for word in named if word.startswith("/") and _is_own(word)},
            **self._staging.digests(),
            "environment": simulator["environment"],
            "metrics": simulator["metrics"],
            "fields": simulator["fields"],
            "source": {"revision": revision, "build": source["build"]} if source is not None else None,
        })  # fmt: skip


def program_environment(own: Mapping[str, str]) -> dict[str, str]:
    """Environment of programs: this process's, the virtual environment's programs first, and the spec's own."""
    environment = dict(os.environ)
    environment.setdefault("PYTHONUNBUFFERED", "1")  # so that lines are seen when they are printed
    if sys.prefix != sys.base_prefix:
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment.get('PATH', os.defpath)}"
    environment.update(own)
    return environment


def execute(words: Sequence[str], directory: Path, environment: Mapping[str, str], scanner: StdoutScanner) -> int:
    """Run a program to its end, then kill what it leaves in its process group; returns as `Popen.returncode` does."""
    try:
        process = subprocess.Popen(
            words,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if scanner else None,
            process_group=0,
            preexec_fn=partial(processes.die_with_parent, os.getpid()),  # noqa: PLW1509 - this process has one thread
        )
    except (OSError, ValueError) as error:
        text = getattr(error, "strerror", None) or str(error)
        raise RunFailure(Reason.NOT_STARTED, f"the program {words[0]!r} cannot be started: {text}") from None
    if process.stdout is not None:
        _pump(process, scanner)
    os.waitid(
        os.P_PID, process.pid, os.WEXITED | os.WNOWAIT
    )  # as long as it is not reaped, its group's number is its own
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def _pump(process: "subprocess.Popen[bytes]", scanner: StdoutScanner) -> None:
    """Pass on what the program prints until it ends, whoever else may still hold its output open."""
    assert process.stdout is not None  # noqa: S101
    source = process.stdout.fileno()
    os.set_blocking(source, False)
    ended = False
    with process.stdout:
        while True:
            readable = select.select([source], [], [], 0.0 if ended else 0.05)[0]
            if readable:
                with contextlib.suppress(BlockingIOError):
                    data = os.read(source, _PIECE)
                    if not data:
                        break
                    scanner.feed(data)
                    write_all(1, data)
            elif ended:
                break
            if not ended and os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None:
                ended = True
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
    scanner.end()


def check_end(program: str, code: int, *, starved: bool = False) -> None:
    """Raise `RunFailure` unless the program ended well."""
    if starved:
        raise RunFailure(Reason.MEMORY, STARVED)
    if code > 0:
        raise RunFailure(Reason.EXIT, f"the program {Path(program).name!r} ended with exit code {code}")
    if code < 0:
        raise RunFailure(Reason.KILLED, f"the program {Path(program).name!r} was killed by {signal_name(-code)}")


def substitute_all(word: str, values: Mapping[str, str]) -> str:
    """The word with those of its placeholders replaced that have a value already."""
    for name, value in values.items():
        word = word.replace(f"{{{name}}}", value)
    return word


def _is_own(word: str) -> bool:
    """Whether a path in the command is a file of the user's, not a program of the system or this Python."""
    path = Path(word)
    system = ("/usr/", "/bin/", "/sbin/", "/lib")
    return path.is_file() and word != sys.executable and not word.startswith(system)
