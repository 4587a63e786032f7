"""What a team has, on this machine: a Prefect server, a work pool, a worker and our deployments, all on loopback.

    python -m prefect_simopt.deployments.local up
    python -m prefect_simopt.deployments.local down

Everything they write is in one folder, `.state` by default, with a Prefect home of its own: no profile is touched.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from prefect_simopt.liveness import born

__all__ = ["Process", "down", "environment", "main", "up"]

POOL = "simopt"
_PREFERRED_PORT = 4200
_PATIENCE = 180.0  # seconds: a server that creates its database on a busy machine takes long
_STOP_SECONDS = 40.0  # a worker gives its flow runs 30 s

# Prefect's server records task runs one by one unless told to take many at a time: 18 against 4.5 ms of CPU each.
_SERVER = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "500",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "500",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "500",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "500",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
}
_WORKER = {"PREFECT_WORKER_QUERY_SECONDS": "2"}


@dataclass(frozen=True)
class Process:
    """A process that `up` started, the leader of its own process group.

    Attributes:
        pid: its number.
        born: when it started, which tells it from a later process of this number.
        url: the address that it serves, or works for.
    """

    pid: int
    born: str
    url: str

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return bool(self.born) and born(self.pid) == self.born

    def end(self) -> None:
        """Ask it and its whole group to end, then insist. A process that is not ours any more is left alone."""
        if not self.alive:
            return
        os.kill(self.pid, signal.SIGTERM)
        if self._ends(lambda: not self.alive):
            self._signal(signal.SIGTERM)  # flow runs go on without their worker
            self._ends(lambda: not self._signal(0))
        self._signal(signal.SIGKILL)

    def _ends(self, ended: Callable[[], bool]) -> bool:
        """Wait for the end; whether it came in time."""
        deadline = time.monotonic() + _STOP_SECONDS
        while not ended() and time.monotonic() < deadline:
            time.sleep(0.1)
            with suppress(ChildProcessError):
                os.waitpid(self.pid, os.WNOHANG)  # a dead child counts as a member of its group until it is waited for
        return ended()

    def _signal(self, number: int) -> bool:
        """Send a signal to the group; False when nobody is in it."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return False
        return True


def environment(state: Path, url: str | None = None) -> dict[str, str]:
    """This process's environment without Prefect's settings, plus those of the server in `state`.

    Args:
        state: folder of the server.
        url: its address; left out, the server's own environment.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    own = {"PREFECT_HOME": str(state / "prefect")}
    return {**inherited, **own, **(_SERVER if url is None else {"PREFECT_API_URL": url})}


def up(state: Path, port: int = _PREFERRED_PORT, deploy: Sequence[str] = ("optimize", "simulate", "evaluate")) -> str:
    """Start what is not running yet: server, work pool, worker; then register blocks and deployments.

    Relative paths in a study that the worker runs start from the present folder.

    Args:
        state: folder for databases, logs and process numbers.
        port: first port to try.
        deploy: names of the flows to create deployments of.

    Returns:
        The address of Prefect's API.
    """
    state = state.resolve()
    (state / "prefect").mkdir(parents=True, exist_ok=True)
    server = _load(state, "server")
    if server is None:
        server = _start_server(state, port)
    else:
        _wait_for(f"{server.url}/health", server, state / "server.log")
    settings = environment(state, server.url)
    worker = _load(state, "worker")
    if worker is not None and worker.url != server.url:
        worker.end()
        worker = None
    if worker is None:
        _say("starting a worker")
        command = ["worker", "start", "--pool", POOL, "--type", "process", "--name", "simopt"]
        worker = _start(state, "worker", command, {**settings, **_WORKER}, server.url)
    _say("registering blocks and deployments")
    _run(["prefect", "block", "register", "-m", "prefect_simopt.blocks"], settings)
    _wait_for(f"{server.url}/work_pools/{POOL}", worker, state / "worker.log")  # the worker creates it
    if deploy:
        _run(["prefect_simopt.deployments.register", POOL, *deploy], settings)
    return server.url


def down(state: Path) -> list[str]:
    """End the worker, with the flow runs that it started, and the server.

    Returns:
        What was running.
    """
    ended = []
    for name in ("worker", "server"):
        if (process := _load(state.resolve(), name)) is not None:
            process.end()
            ended.append(name)
        (state / f"{name}.json").unlink(missing_ok=True)
    return ended


def _say(line: str) -> None:
    print(f"{line} ...", flush=True)


def _start_server(state: Path, port: int) -> Process:
    """Start Prefect's server on a free port; on a later one if somebody else takes that before the server does."""
    while True:
        free = _free_port(port)
        url = f"http://127.0.0.1:{free}/api"
        command = ["server", "start", "--host", "127.0.0.1", "--port", str(free)]
        page = {"PREFECT_SERVER_UI_API_URL": url}  # otherwise the page looks for the API on port 4200
        _say(f"starting Prefect's server on port {free}; its first start creates a database")
        server = _start(state, "server", command, {**environment(state), **page}, url)
        try:
            _wait_for(f"{url}/health", server, state / "server.log")
            if _home(url) == state / "prefect":
                return server
        except SystemExit:
            if server.alive or _free_port(free) == free:
                raise
        server.end()
        port = free + 1


def _home(url: str) -> Path | None:
    """The folder of the server that answers; None where what answers is no server of Prefect's."""
    try:
        with urllib.request.urlopen(f"{url}/admin/settings", timeout=5) as answer:  # noqa: S310 - our own address
            return Path(json.load(answer)["home"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _start(state: Path, name: str, command: Sequence[str], settings: Mapping[str, str], url: str) -> Process:
    log = str(state / f"{name}.log")
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "prefect", *command],
        settings,
        file_actions=files,
        setsid=True,
        setsigdef=[signal.SIGINT, signal.SIGQUIT],  # shells have background jobs ignore them
    )
    process = Process(pid, born(pid), url)
    (state / f"{name}.json").write_text(json.dumps(asdict(process)))
    return process


def _load(state: Path, name: str) -> Process | None:
    """The process of that name, if it is still running."""
    try:
        process = Process(**json.loads((state / f"{name}.json").read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return process if process.alive else None


def _free_port(first: int) -> int:
    for port in range(first, first + 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise SystemExit(f"no free port from {first} to {first + 199}; name another one with --port")


def _wait_for(address: str, process: Process, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if not process.alive:
            raise SystemExit(f"a process ended at once; its last words are in {log}")
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:  # noqa: S310 - our own address
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    raise SystemExit(f"{address} did not answer within {_PATIENCE:g} s; see {log}")


def _run(module: Sequence[str], settings: Mapping[str, str]) -> None:
    """Run a module with its arguments, in a process that has the server's settings."""
    done = subprocess.run(
        [sys.executable, "-m", *module],
        env={**settings, "PREFECT_LOGGING_LEVEL": "WARNING", "PREFECT_CLI_COLORS": "false"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"`python -m {' '.join(module)}` failed:\n{done.stdout}{done.stderr}")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: `up` or `down`."""
    parser = argparse.ArgumentParser(
        prog="python -m prefect_simopt.deployments.local", description=__doc__.split("\n")[0]
    )
    parser.add_argument("action", choices=["up", "down"])
    parser.add_argument(
        "--state", type=Path, default=Path(".state"), help="folder for databases, logs, process numbers"
    )
    parser.add_argument("--port", type=int, default=_PREFERRED_PORT, help="first port to try")
    given = parser.parse_args(arguments)
    if given.action == "down":
        ended = down(given.state)
        print(f"ended: {', '.join(ended)}" if ended else "nothing was running")
        return
    url = up(given.state, given.port)
    page = url.removesuffix("/api")
    print(
        f"Prefect's UI: {page}\n"
        f"Start a study there: {page}/deployments, `optimize`, Run; or from a terminal:\n"
        f"  PREFECT_API_URL={url} simopt run STUDY.yaml\n"
        f"Logs: {given.state}/server.log, {given.state}/worker.log. To end it all: `make down`, or\n"
        f"  python -m prefect_simopt.deployments.local down --state {given.state}"
    )


if __name__ == "__main__":
    main()
