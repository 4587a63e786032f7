"""Programs in a container beside this one, whose image knows nothing of us: `runner.sh` runs them there.

The two share one folder and nothing else. Limits of memory and CPU are those of the program's container; the time limit
is kept here, since from here its processes cannot be seen.
"""

import os
import secrets
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from prefect_simopt.errors import SimulatorError
from prefect_simopt.simulators.command import CommandProgram, check_end
from prefect_simopt.simulators.failure import RunFailure
from prefect_simopt.simulators.fields import check_readers
from prefect_simopt.simulators.identity import identity
from prefect_simopt.simulators.metrics import StdoutScanner
from prefect_simopt.simulators.staging import Staging, check_placeholders
from prefect_simopt.simulators.wire import write_all
from prefect_simopt.simulators.workspace import Workspace
from prefect_simopt.trial import Reason, Run

__all__ = ["SHARED", "STOP_MARGIN", "ContainerProgram", "check_container"]

SHARED = "/simopt"
"""Folder that both containers have."""
STOP_MARGIN = 15.0
"""Seconds that the supervisor waits beyond the time limit, which is kept here."""
_BOOT_SECONDS = 120.0
_POLL = 0.05
_PIECE = 1 << 16
_KEPT = 16 << 20  # bytes of output on the shared folder, which counts against the node's disk


class ContainerProgram(CommandProgram):
    """A program that a runner in another container starts for each run.

    Args:
        simulator: the spec's `ContainerSimulator` as a document, with its `directory`.
        names: the space's parameters.
        resolved: what the first host found out.
        timeout: seconds after which this process is killed; the program is, `STOP_MARGIN` earlier.
        conditional: names of parameters that some runs do not have.

    Raises:
        SimulatorError: there is no runner, or a file or a template is missing or wrong.
    """

    def __init__(
        self,
        simulator: Mapping[str, Any],
        names: Sequence[str],
        resolved: Mapping[str, Any] | None,
        timeout: float | None,
        conditional: Collection[str] = (),
    ) -> None:
        self._shared = Path(os.environ.get("SIMOPT_SHARED", SHARED))
        self._limit = None if timeout is None else timeout - STOP_MARGIN
        self._boot = self._wait_for_boot()
        for request in (self._shared / "requests").iterdir():  # of a process that was killed here
            (request / "stop").touch()
        super().__init__({**simulator, "source": None}, names, resolved, conditional)
        self._fixed = {}
        self._environment = dict(simulator["environment"])

    def _wait_for_boot(self) -> str:
        end = time.monotonic() + (_BOOT_SECONDS if self._shared.is_dir() else 0.0)
        while not (boot := self._booted()):
            if time.monotonic() > end:
                raise SimulatorError(
                    "a container simulator needs its own container beside this process, which a Kubernetes work pool "
                    "gives it: compute: {type: work_pool, pool: NAME}. Without one, give its program as a command"
                )
            time.sleep(_POLL)
        return boot

    def _booted(self) -> str:
        """What tells the runner's start from an earlier one; empty when it has not started."""
        try:
            return (self._shared / "boot").read_text().strip()
        except OSError:
            return ""

    def _check_program(self) -> None:
        """What is in the image is seen when it runs."""

    def _identity(self, revision: str) -> str:
        return _identity(self._simulator, self._staging)

    def _stage(self, run: Run, workspace: Workspace) -> Path:
        del workspace  # the program cannot see it
        directory = self._shared / "trials" / f"{run.trial}-{run.replicate}-{run.attempt}-{secrets.token_hex(4)}"
        before = os.umask(0o002)
        try:
            directory.mkdir()
            self._staging.stage(directory, run)
        finally:
            os.umask(before)
        for path in [directory, *directory.rglob("*")]:  # another user writes here, of the same group
            with suppress(OSError):
                mode = path.stat().st_mode
                path.chmod(mode | 0o070 if path.is_dir() or mode & 0o100 else mode | 0o060)
        return directory

    def run(self, run: Run, workspace: Workspace) -> Any:
        """Stage, run, read; what the other user wrote is left to the runner to remove."""
        try:
            return super().run(run, workspace)
        finally:
            for directory in (self._shared / "trials").glob(f"{run.trial}-{run.replicate}-{run.attempt}-*"):
                with suppress(OSError):
                    directory.rename(self._shared / "trash" / directory.name)

    def _execute(
        self, words: Sequence[str], directory: Path, environment: Mapping[str, str], scanner: StdoutScanner
    ) -> None:
        request = self._shared / "requests" / directory.name
        self._write(request, words, directory, environment)
        output = _Output(request / "output", scanner)
        try:
            answer = self._wait(request, output)
        finally:
            output.pass_on()
            scanner.end()
            output.close()
            shutil.rmtree(request, ignore_errors=True)
        first, _, rest = answer.partition(" ")
        if first == "none":
            raise RunFailure(Reason.NOT_STARTED, rest)
        code, before, after = (int(word) for word in answer.split())
        code = 128 - code if 128 < code < 193 else code
        check_end(words[0], code, starved=code < 0 and after > before)

    @staticmethod
    def _write(request: Path, words: Sequence[str], directory: Path, environment: Mapping[str, str]) -> None:
        before = os.umask(0o002)
        try:
            request.mkdir()
            (request / "cwd").write_text(f"{directory}\n")
            for i, word in enumerate(words):
                (request / f"arg.{i}").write_text(f"{word}\n")
            for i, (name, value) in enumerate(environment.items()):
                (request / f"env.{i}").write_text(f"{name}={value}\n")
            (request / "output").touch()
            (request / "go").touch()
        finally:
            os.umask(before)

    def _wait(self, request: Path, output: "_Output") -> str:
        """The runner's answer; meanwhile what the program prints is passed on."""
        start = time.monotonic()
        while True:
            output.pass_on()
            with suppress(FileNotFoundError):
                if (answer := (request / "code").read_text().strip()) and answer != "lost":
                    return answer
            if self._limit is not None and time.monotonic() - start > self._limit:
                (request / "stop").touch()
                self._wait_for_end(request)
                raise RunFailure(Reason.TIMEOUT, f"the simulator did not end within {self._limit:g} s")
            if (boot := self._booted()) not in ("", self._boot):
                self._boot = boot
                raise RunFailure(
                    Reason.MEMORY,
                    "the simulator's container was killed and started anew: memory ran out, if nobody killed it",
                )
            time.sleep(_POLL)

    @staticmethod
    def _wait_for_end(request: Path) -> None:
        end = time.monotonic() + 5.0
        while not (request / "code").exists() and time.monotonic() < end:
            time.sleep(_POLL)


class _Output:
    """What a program prints into a file, passed on as it comes; what was read of a long one is cut off."""

    def __init__(self, path: Path, scanner: StdoutScanner) -> None:
        self._file = path.open("r+b", buffering=0)
        self._scanner = scanner

    def pass_on(self) -> None:
        while data := self._file.read(_PIECE):
            self._scanner.feed(data)
            write_all(1, data)
            if self._file.tell() > _KEPT and self._file.tell() == os.fstat(self._file.fileno()).st_size:
                self._file.truncate(0)  # the program appends
                self._file.seek(0)

    def close(self) -> None:
        self._file.close()


def check_container(simulator: Mapping[str, Any], names: Sequence[str], conditional: Collection[str] = ()) -> str:
    """Check all of a container simulator that can be seen without its container; returns its identity.

    Args:
        simulator: the spec's simulator as a document.
        names: the space's parameters.
        conditional: those that some runs do not have.

    Raises:
        SimulatorError: a file or a template is missing or wrong, or a placeholder stands for nothing.
    """
    directory = Path(simulator["directory"] or ".").expanduser().resolve()
    staging = Staging({**simulator, "directory": str(directory)}, names)
    check_placeholders(simulator["command"], [*names, "params", "output", "seed", "trial"], "command", conditional)
    check_readers(simulator["fields"])
    return _identity(simulator, staging)


def _identity(simulator: Mapping[str, Any], staging: Staging) -> str:
    """SHA-256 over all of a container simulator that determines results; its image by the name that the spec gives."""
    return identity({
        "type": "container",
        "image": simulator["image"],
        "command": simulator["command"],
        **staging.digests(),
        "environment": simulator["environment"],
        "metrics": simulator["metrics"],
        "fields": simulator["fields"],
    })  # fmt: skip
