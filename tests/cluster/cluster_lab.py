"""The real cluster that these tests run on, and the servers beside it, which tests may kill and start again."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect_aws import MinIOCredentials

from prefect_simopt.blocks import StudyStore

__all__ = [
    "GATEWAY",
    "POD_IMAGE",
    "THIRD_PARTY_IMAGE",
    "TOLERATION",
    "WORKER_IMAGE",
    "Kubelet",
    "PrefectServer",
    "Worker",
    "kubectl",
    "kubernetes",
    "make_pool",
    "need_cluster",
    "save_store",
]

GATEWAY = "10.244.0.1"
"""Where pods reach the servers of the tests: this side of the cluster's bridge."""

POD_IMAGE, WORKER_IMAGE = "lab.local/simopt:test", "lab.local/simopt-worker:test"
THIRD_PARTY_IMAGE = "lab.local/mawk:test"
"""Debian's program `mawk` and the libraries it needs: no shell, no Python, nothing of ours."""

TOLERATION = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
"""What every pod needs on the only node."""

HOW = "these tests need the test cluster and run inside its network: make test-cluster"


def kubectl(*words: str, given: str | None = None, check: bool = True) -> str:
    """What kubectl prints."""
    done = subprocess.run(["kubectl", *words], input=given, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise AssertionError(f"kubectl {' '.join(words)}: {done.stderr}")
    return done.stdout


def kubernetes(*words: str) -> dict:
    """What kubectl prints, as JSON."""
    return json.loads(kubectl(*words, "-o", "json"))


def need_cluster() -> None:
    """Fail, with the way out, where there is no cluster."""
    try:
        kubectl("get", "--raw", "/readyz")
    except (AssertionError, FileNotFoundError) as error:
        pytest.fail(f"{HOW} ({error})")


def make_pool(name: str, namespace: str) -> None:
    """Make a work pool of our template, for the test cluster's only node."""
    template = json.loads(files("prefect_simopt.deployments").joinpath("kubernetes/base-job-template.json").read_text())
    defaults = {"namespace": namespace, "image": POD_IMAGE, "image_pull_policy": "Never", "tolerations": [TOLERATION]}
    for variable, value in defaults.items():
        template["variables"]["properties"][variable]["default"] = value
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name=name, type="kubernetes", base_job_template=template))


def save_store(name: str, url: str, options: dict[str, Any]) -> None:
    """Save a StudyStore block, with the credentials that pods take from there."""
    credentials = MinIOCredentials(
        minio_root_user=options["key"],
        minio_root_password=options["secret"],
        aws_client_parameters={"endpoint_url": options["endpoint_url"]},
    )
    credentials.save(name, overwrite=True)
    StudyStore(url=url, credentials=credentials).save(name, overwrite=True)


class _Process:
    """A process of Prefect in a folder of its own."""

    def __init__(self, folder: Path, command: list[str], environment: dict[str, str]) -> None:
        self.folder, self.command = folder, [sys.executable, "-m", "prefect", *command]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        self.environment = {**inherited, "PREFECT_HOME": str(folder), **environment}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["env", "--default-signal=INT,QUIT", *self.command],
                env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End it and all that it started; at once, unless another signal is given."""
        if self.process is None:
            return
        if number != signal.SIGKILL:
            self.process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(60)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None


class PrefectServer(_Process):
    """Prefect's server, where pods reach it.

    Attributes:
        url: of its API.
    """

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind((GATEWAY, 0))
            port = probe.getsockname()[1]
        self.url = f"http://{GATEWAY}:{port}/api"
        recorder = ("TASK_RUN_RECORDER", "EVENT_PERSISTER")
        settings = {f"PREFECT_SERVER_SERVICES_{each}_{size}": "500" for each in recorder
                    for size in ("READ_BATCH_SIZE", "BATCH_SIZE")}  # fmt: skip
        settings["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
        super().__init__(folder, ["server", "start", "--host", GATEWAY, "--port", str(port)], settings)

    def start(self) -> None:
        super().start()
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                pytest.fail(f"Prefect's server ended at once:\n{self.log}")
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=5)
            except OSError:
                time.sleep(0.3)
            else:
                return
        pytest.fail(f"Prefect's server does not answer:\n{self.log}")


class Worker(_Process):
    """A Kubernetes worker that looks for work every second. It makes the pool where there is none."""

    def __init__(self, folder: Path, api: str, pool: str) -> None:
        command = ["worker", "start", "--pool", pool, "--type", "kubernetes", "--install-policy", "never"]
        settings = {"PREFECT_API_URL": api, "PREFECT_WORKER_QUERY_SECONDS": "1", "HOME": str(folder),
                    "PREFECT_WORKER_ENABLE_CANCELLATION": "true"}  # fmt: skip
        super().__init__(folder, command, settings)
        del self.environment["PREFECT_HOME"]  # pods would get it, too


class Kubelet:
    """The node's kubelet, which `up.sh` started, and wrote down its process number."""

    started: ClassVar[list[subprocess.Popen[bytes]]] = []  # they outlive the tests

    def __init__(self) -> None:
        home = Path(os.environ.get("CLUSTER_HOME") or Path.home() / ".cache/test-cluster")
        self._number, self._log = home / "run/kubelet.pid", home / "log/kubelet.log"
        process = Path("/proc") / self._number.read_text().strip()
        self._command = process.joinpath("cmdline").read_text().rstrip("\0").split("\0")
        assert "kubelet" in self._command[0]

    def kill(self) -> None:
        """SIGKILL: containers go on."""
        os.kill(int(self._number.read_text()), signal.SIGKILL)

    def start(self) -> None:
        """Start it as it was; it forgets GPUs that no device plugin tells it of, so they are given again."""
        node = kubernetes("get", "node", "node1")
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._number.write_text(f"{process.pid}\n")
        Kubelet.started.append(process)
        gpus = {"nvidia.com/gpu": node["status"]["capacity"]["nvidia.com/gpu"]}
        for _ in range(60):
            kubectl("patch", "node", "node1", "--subresource=status", "--type=merge", "-p",
                    json.dumps({"status": {"capacity": gpus, "allocatable": gpus}}))  # fmt: skip
            time.sleep(0.5)
            status = kubernetes("get", "node", "node1")["status"]
            ready = {each["type"]: each["status"] for each in status["conditions"]}["Ready"] == "True"
            if ready and status["allocatable"].get("nvidia.com/gpu") == gpus["nvidia.com/gpu"]:
                return
        pytest.fail(f"the kubelet does not start again: {self._log}")
