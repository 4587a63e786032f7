"""A flow to be killed: submits runs that log their own starts and ends, and waits for them."""

import sys
from pathlib import Path

from prefect_simopt.simulators.config import CommandSimulator, PythonSimulator
from prefect_simopt.simulators.local import LocalCompute
from prefect_simopt.storage import StudyLocation
from prefect_simopt.trial import Run

FUNCTION = """
import os, subprocess, time
LOG = {log!r}
def say(word, x):
    fd = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{{word}} {{x:g}}\\n".encode())
    os.close(fd)
def simulate(x, seconds):
    say("start", x)
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    print("working")
    time.sleep(seconds)
    say("end", x)
    return x
"""
PROGRAM = (
    FUNCTION
    + """
import json, sys
x, seconds = float(sys.argv[1]), float(sys.argv[2])
json.dump({{"value": simulate(x, seconds)}}, open("metrics.json", "w"))
"""
)


def main(kind, folder, seconds, timeout):
    folder = Path(folder)
    log = str(folder / "log")
    if kind == "python":
        (folder / "module.py").write_text(FUNCTION.format(log=log))
        simulator = PythonSimulator(
            entrypoint="module.py:simulate", directory=str(folder), arguments={"seconds": seconds}
        )
    else:
        (folder / "program.py").write_text(PROGRAM.format(log=log))
        command = ["{python}", "program.py", "{x}", str(seconds)]
        simulator = CommandSimulator(command=command, files=["program.py"], directory=str(folder))
    compute = LocalCompute(simulator, space_names=["x"], workers=2, timeout=timeout)
    compute.start()
    compute.attach(StudyLocation(str(folder / "study")), 10_000)
    batches = [[Run(10 * k + j, {"x": float(10 * k + j)}, seed=1) for j in range(10)] for k in range(200)]
    futures = [compute.submit(batch) for batch in batches]
    print("submitted", *(worker.pid for worker in compute._alive.values()), flush=True)
    for future in futures:
        future.result()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))
