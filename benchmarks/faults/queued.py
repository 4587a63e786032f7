"""Very many requests of studies at once, several for each study, against one Prefect server: all of them are run.

    python benchmarks/faults/queued.py --requests 1000

Half of the requests ask for a study that another one asks for as well, and wait for it. Counted: requests that did not
end Completed, studies that are not whole, trials that were simulated more than once.
"""

import argparse
import json
import os
import random
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SIMULATOR = """
import os

def bowl(x, context):
    descriptor = os.open("CALLS", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(descriptor, f"{context.seed} {x!r}\\n".encode())
    os.close(descriptor)
    return (x - 1) ** 2
"""


def document(folder: Path, number: int) -> dict[str, object]:
    return {
        "name": f"study-{number}",
        "simulator": {"entrypoint": "simulator.py:bowl", "directory": str(folder)},
        "space": [{"name": "x", "low": -5, "high": 5}],
        "optimizer": "random",
        "budget": {"trials": 4},
        "compute": {"workers": 1},
        "cache": False,
        "store": str(folder / "studies"),
        "seed": number,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=3, help="flow runs at the same time; SQLite takes no more")
    arguments = parser.parse_args()
    os.environ["PREFECT_LOGGING_LEVEL"] = "ERROR"
    os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    os.environ["PREFECT_CLIENT_MAX_RETRIES"] = "8"  # the server answers 503 while its SQLite is locked
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

    from prefect_simopt.api import load_study
    from prefect_simopt.deployments.local import down, up
    from prefect_simopt.flows.optimize import optimize

    with tempfile.TemporaryDirectory(prefix="queued-") as name:
        folder, state = Path(name), Path(name) / "state"
        (folder / "simulator.py").write_text(SIMULATOR.replace("CALLS", str(folder / "calls")))
        studies = arguments.requests * 3 // 4
        numbers = [i % studies for i in range(arguments.requests)]
        random.Random(1).shuffle(numbers)
        url = up(state, deploy=())
        begin = time.monotonic()

        def ask(number: int) -> str:
            with temporary_settings(updates={PREFECT_API_URL: url, PREFECT_HOME: state / "prefect"}):
                try:
                    summary = optimize(study=document(folder, number), wait=3600)
                except Exception as error:  # noqa: BLE001 - whatever it is, the request was not run
                    print(f"study-{number}: {error!r}", flush=True)
                    return "failed"
                return "completed" if summary["trials"]["complete"] == 4 else "incomplete"

        try:
            with ThreadPoolExecutor(arguments.at_once) as pool:
                answers = Counter(pool.map(ask, numbers))
        finally:
            down(state)
        seconds = time.monotonic() - begin
        whole = sum(load_study(folder / f"studies/study-{i}").counts["complete"] == 4 for i in range(studies))
        calls = Counter((folder / "calls").read_text().splitlines())
        print(json.dumps({
            "requests": arguments.requests, **answers, "studies": studies, "whole": whole,
            "simulated": len(calls), "simulated more than once": sum(count > 1 for count in calls.values()),
            "seconds": round(seconds, 1), "load": round(os.getloadavg()[0], 1),
        }))  # fmt: skip


if __name__ == "__main__":
    main()
