"""What pods cost: `make bench-cluster`, on the test cluster and inside its network.

1. One trial in a pod beside a bare `run_deployment` of an empty flow, in turn: from the flow run's creation to the
   first line, and from the last line to where the result is known.
2. What a batch of 90 s takes longer than that.
3. Pods a minute, when they have nothing to do.
4. Fields of 64 MiB of random numbers on S3 beside a plain PUT of the same bytes, in turn.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import boto3
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/cluster")]

from cluster_lab import GATEWAY, POD_IMAGE, PrefectServer, Worker, kubectl, make_pool, save_store  # noqa: E402
from prefect.client.orchestration import get_client  # noqa: E402
from prefect.deployments import run_deployment  # noqa: E402
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, PREFECT_LOGGING_LEVEL, temporary_settings  # noqa: E402
from s3_server import S3Server  # noqa: E402

from prefect_simopt.flows.optimize import optimize  # noqa: E402
from prefect_simopt.session import watchers  # noqa: E402
from prefect_simopt.sink import TrialSink  # noqa: E402
from prefect_simopt.specfile import make_spec  # noqa: E402
from prefect_simopt.storage import StudyLocation  # noqa: E402

SIMULATOR = """
import os, time

def timed(x):
    begun = time.time()
    time.sleep(float(os.environ.get("SECONDS", "0")))
    return {"value": x, "begun": begun, "ended": time.time()}
"""
EMPTY = """
import time
from prefect import flow
from prefect.states import Completed

@flow
def empty():
    return Completed(message=str(time.time()))
"""
MEMORY = "600Mi"


class Clock:
    """When trials ended, as the search sees it."""

    def __init__(self) -> None:
        self.recorded: list[tuple[Any, float]] = []

    def generation_started(self, number: int, trials: Any) -> None:
        pass

    def trial_ended(self, trial: Any) -> None:
        self.recorded.append((trial, time.time()))

    def generation_completed(self, number: int, progress: Any) -> None:
        pass


class Bench:
    """Studies and bare flow runs on the pool `kubernetes`."""

    def __init__(self, folder: Path, namespace: str) -> None:
        self.folder, self.namespace, self.count = folder, namespace, 0
        (folder / "simulators.py").write_text(SIMULATOR)
        kubectl("create", "configmap", "bench", "-n", namespace, f"--from-literal=nothing.py={EMPTY}")
        with get_client(sync_client=True) as client:
            self.empty = client.create_deployment(
                client.create_flow_from_name("empty"), "bench", work_pool_name="kubernetes", entrypoint="nothing.empty",
                job_variables={
                    "memory_request": MEMORY, "memory_limit": MEMORY, "env": {"PYTHONPATH": "/bench"},
                    "volumes": [{"name": "bench", "configMap": {"name": "bench"}}],
                    "volume_mounts": [{"name": "bench", "mountPath": "/bench"}],
                },
            )  # fmt: skip

    def bare(self) -> dict[str, float]:
        """Seconds of an empty flow: to its first line, and from there to where the caller knows that it ended."""
        run: Any = run_deployment(self.empty, poll_interval=1)
        told = time.time()
        if not run.state.is_completed():
            raise SystemExit(f"the empty flow ended as {run.state.name}: {run.state.message}")
        there = float(run.state.message)
        return {"to the first line": there - run.created.timestamp(), "from the end": told - there}

    def study(self, trials: int, seconds: float = 0.0, **compute: Any) -> tuple[Clock, float]:
        """A study whose simulator sleeps: what was recorded, and when its first flow run was created."""
        self.count += 1
        clock = Clock()
        spec = make_spec({
            "name": f"bench-{self.count}",
            "simulator": {"entrypoint": "simulators.py:timed", "directory": str(self.folder)},
            "space": [{"name": "x", "low": 0, "high": 1}],
            "objectives": [{"metric": "value"}],
            "optimizer": {"type": "random"},
            "budget": {"trials": trials},
            "store": {"block": "lab"},
            "cache": False,
            "compute": {"pool": "kubernetes", "memory": MEMORY, "job_variables": {"env": {"SECONDS": str(seconds)}},
                        **compute},
        })  # fmt: skip
        token = watchers.set([clock])
        try:
            optimize(study=spec)
        finally:
            watchers.reset(token)
        with get_client(sync_client=True) as client:
            runs = [run for run in client.read_flow_runs() if run.name.startswith(f"bench-{self.count}, ")]
        return clock, min(run.created.timestamp() for run in runs if run.created)

    def ours(self) -> dict[str, float]:
        """Seconds of a study's trial: to the simulator's first line, and from its end to where it is recorded."""
        clock, created = self.study(1)
        ((trial, recorded),) = clock.recorded
        return {"to the first line": trial.metrics["begun"] - created,
                "from the end": recorded - trial.metrics["ended"]}  # fmt: skip

    def overhead(self) -> float:
        """Share of a batch of 90 s that is not simulation."""
        clock, created = self.study(9, 10.0, max_pods=1, trials_per_task=9)
        whole = max(recorded for _, recorded in clock.recorded) - created
        return 1 - sum(trial.metrics["ended"] - trial.metrics["begun"] for trial, _ in clock.recorded) / whole

    def pods_a_minute(self, pods: int) -> float:
        clock, created = self.study(pods, max_pods=pods, trials_per_task=1)
        return 60 * pods / (max(recorded for _, recorded in clock.recorded) - created)


def in_turn(repeats: int, measures: Mapping[str, Callable[[], dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Medians of each measure's values, taken in turn."""
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in measures}
    for _ in range(repeats):
        for name, measure in measures.items():
            taken[name].append(measure())
    return {name: {key: statistics.median(each[key] for each in values) for key in values[0]}
            for name, values in taken.items()}  # fmt: skip


def fields(options: dict[str, Any], repeats: int) -> tuple[float, float, float]:
    """MiB/s of our fields, of plain PUTs, and the median of the ratios, 64 MiB each."""
    array = np.random.default_rng(0).standard_normal((8, 1024, 1024))
    raw, size = array.tobytes(), array.nbytes / 2**20
    sink = TrialSink(StudyLocation("s3://lab/fields", options), 1000)
    keys = {"aws_access_key_id": options["key"], "aws_secret_access_key": options["secret"]}
    client = boto3.client("s3", endpoint_url=options["endpoint_url"], region_name="us-east-1", **keys)
    sink.put_field(0, "field", array)
    client.put_object(Bucket="lab", Key="plain", Body=raw)
    rates = []
    for i in range(1, repeats + 1):
        started = time.perf_counter()
        client.put_object(Bucket="lab", Key="plain", Body=raw)
        middle = time.perf_counter()
        sink.put_field(i, "field", array)
        rates.append((size / (time.perf_counter() - middle), size / (middle - started)))
    ours, plain = (statistics.median(each) for each in zip(*rates, strict=True))
    return ours, plain, statistics.median(a / b for a, b in rates)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--pods", type=int, default=12)
    arguments = parser.parse_args()
    namespace = "simopt-bench"
    kubectl("create", "namespace", namespace)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        s3, server = S3Server(folder / "s3", GATEWAY), PrefectServer(folder / "server")
        worker = Worker(folder / "worker", server.url, "kubernetes")
        try:
            ours, plain, ratio = fields(s3.options, 2 * arguments.repeats)
            print(
                f"fields of 64 MiB on S3: {ours:.0f} MiB/s; a plain PUT {plain:.0f} MiB/s; ratio {ratio:.2f}",
                flush=True,
            )
            server.start()
            settings = {PREFECT_API_URL: server.url, PREFECT_HOME: folder / "home", PREFECT_LOGGING_LEVEL: "WARNING"}
            with temporary_settings(updates=settings):
                make_pool("kubernetes", namespace)
                save_store("lab", "s3://lab/studies", s3.options)
                worker.start()
                bench = Bench(folder, namespace)
                bench.bare()  # the worker is there, and the image warm
                for name, values in in_turn(arguments.repeats, {"bare": bench.bare, "ours": bench.ours}).items():
                    print(name, ", ".join(f"{key} {seconds:.2f} s" for key, seconds in values.items()), flush=True)
                print(f"overhead of a batch of 90 s: {bench.overhead():.1%}", flush=True)
                print(f"pods a minute: {bench.pods_a_minute(arguments.pods):.1f}", flush=True)
            images = subprocess.run(["ctr", "images", "ls"], capture_output=True, text=True, check=True).stdout
            print("\n".join(line for line in images.splitlines() if POD_IMAGE in line))
        finally:
            for each in (worker, server):
                each.kill()
            s3.kill()
            kubectl("delete", "namespace", namespace, "--wait=false")


if __name__ == "__main__":
    main()
