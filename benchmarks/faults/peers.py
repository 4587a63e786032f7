"""The same kills, of studies by prefect-simopt, by Optuna with a journal and by libEnsemble: what was lost?

    python -m venv peers && peers/bin/pip install optuna libensemble
    python benchmarks/faults/peers.py --python peers/bin/python --repeats 5

Each study has 60 evaluations of 0.1 s by two workers. It is hit at a random moment by a SIGKILL of the process in which
a simulator runs, of the main process, or of all its processes at once, and then the same command is given again until
it has 60 results. Every evaluation notes its own begin and end in a file that the tools know nothing of.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import yaml

from prefect_simopt.api import load_study
from prefect_simopt.errors import StoreError
from prefect_simopt.liveness import is_gone
from prefect_simopt.simulators.processes import marked

TRIALS, PATIENCE, MARK = 60, 45.0, "SIMOPT_PEERS"
KILLS = ("simulator's process", "main process", "everything")
SIMULATOR = """
import json, math, os, time

def evaluate(x, y):
    note("begin", x, y)
    time.sleep(0.1)
    note("end", x, y)
    return (x - 1) ** 2 + y**2 + 3 * math.sin(5 * x) * math.cos(3 * y)

def note(mark, x, y):
    descriptor = os.open("calls.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(descriptor, (json.dumps([mark, float(x), float(y), os.getpid()]) + "\\n").encode())
    os.close(descriptor)
"""
OURS = {
    "name": "bowl",
    "simulator": {"entrypoint": "simulator.py:evaluate"},
    "space": [{"name": "x", "low": -5, "high": 5}, {"name": "y", "low": -5, "high": 5}],
    "optimizer": {"type": "pso", "model": False},
    "budget": {"trials": TRIALS},
    "compute": {"workers": 2, "timeout": 60},
    "cache": False,
}
OPTUNA = f"""
import json, multiprocessing, sys
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import MaxTrialsCallback
from optuna.trial import TrialState
from simulator import evaluate

optuna.logging.set_verbosity(optuna.logging.ERROR)

def objective(trial):
    return evaluate(trial.suggest_float("x", -5, 5), trial.suggest_float("y", -5, 5))

def study(seed=0):
    return optuna.create_study(study_name="bowl", storage=JournalStorage(JournalFileBackend("journal.log")),
                               load_if_exists=True, sampler=optuna.samplers.TPESampler(seed=seed))

def complete(study):
    return study.get_trials(states=(TrialState.COMPLETE,))

def work(seed):
    mine = study(seed)
    if len(complete(mine)) < {TRIALS}:
        mine.optimize(objective, callbacks=[MaxTrialsCallback({TRIALS}, states=(TrialState.COMPLETE,))])

if __name__ == "__main__":
    if sys.argv[1] == "results":
        print(json.dumps([[t.params["x"], t.params["y"], t.value] for t in complete(study())]))
    else:
        study()
        workers = [multiprocessing.Process(target=work, args=(seed,)) for seed in (1, 2)]
        [worker.start() for worker in workers]
        [worker.join() for worker in workers]
"""
LIBENSEMBLE = f"""
import glob, json, os, sys
import numpy as np
from libensemble.gen_funcs.sampling import latin_hypercube_sample
from libensemble.libE import libE
from libensemble.tools import add_unique_random_streams
from simulator import evaluate

def sim(H, persis_info, sim_specs, libE_info):
    out = np.zeros(1, dtype=[("f", float)])
    out["f"] = evaluate(*H["x"][0])
    return out, persis_info

def history():
    files = sorted(glob.glob("*.npy"), key=os.path.getmtime)
    for name in reversed(files):
        try:
            return np.load(name)
        except Exception:  # cut short
            continue
    return None

def ended(H):
    return [] if H is None else [[*map(float, row["x"]), float(row["f"])] for row in H if row["sim_ended"]]

if __name__ == "__main__":
    H0 = history()
    if sys.argv[1] == "results":
        print(json.dumps(ended(H0)))
        sys.exit()
    left = {TRIALS} - len(ended(H0))
    if left > 0:
        if H0 is not None:
            H0 = H0[H0["sim_ended"]]
        libE({{"sim_f": sim, "in": ["x"], "out": [("f", float)]}},
             {{"gen_f": latin_hypercube_sample, "out": [("x", float, (2,))],
              "user": {{"gen_batch_size": 10, "lb": np.array([-5.0, -5.0]), "ub": np.array([5.0, 5.0])}}}},
             {{"sim_max": left}}, add_unique_random_streams({{}}, 4),
             libE_specs={{"nworkers": 3, "comms": "local", "save_every_k_sims": 1, "disable_log_files": True}}, H0=H0)
"""


@dataclass
class Tool:
    """One of the contestants.

    Attributes:
        name: its name.
        command: that runs a study, or goes on with it.
        results: that prints the results there are, as JSON.
        file: name and text of its program.
    """

    name: str
    command: list[str]
    results: list[str]
    file: tuple[str, str]

    def prepare(self, folder: Path) -> None:
        """Write its files."""
        folder.mkdir()
        (folder / "simulator.py").write_text(SIMULATOR)
        (folder / self.file[0]).write_text(self.file[1])

    def start(self, folder: Path) -> subprocess.Popen[bytes]:
        """Run it, or go on."""
        with (folder / "output.txt").open("ab") as output:
            return subprocess.Popen(
                self.command, cwd=folder, env={**os.environ, MARK: str(folder)}, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

    def found(self, folder: Path) -> list[list[float]]:
        """What it says the results are: x, y and the value of each, sorted."""
        if not self.results:
            with suppress(StoreError):
                frame = load_study(folder / "studies/bowl").trials
                return sorted(frame[frame["status"] == "complete"][["x", "y", "value"]].to_numpy().tolist())
            return []
        answer = subprocess.run(self.results, cwd=folder, capture_output=True, text=True, check=False)
        return sorted(json.loads(answer.stdout.splitlines()[-1])) if answer.returncode == 0 else []


def calls(folder: Path) -> list[tuple[str, tuple[float, float], int]]:
    """What the simulators noted: begin or end, where, and in which process."""
    path = folder / "calls.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [(mark, (x, y), pid) for mark, x, y, pid in lines]


def living(folder: Path) -> list[int]:
    """The study's processes."""
    return [pid for pid in marked(MARK, str(folder)) if not is_gone(pid)]


def end(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def ends(process: subprocess.Popen[bytes]) -> bool:
    """Wait for it; False when it hangs."""
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        return False
    return True


def undisturbed(tool: Tool, folder: Path) -> list[list[float]]:
    tool.prepare(folder)
    if not ends(tool.start(folder)):
        raise SystemExit(f"{tool.name} does not end by itself; see {folder}/output.txt")
    points = [point for mark, point, _ in calls(folder) if mark == "begin"]
    if len(set(points)) < len(points):
        raise SystemExit(f"{tool.name} asks for a point twice by itself, so that runs cannot be told apart")
    return tool.found(folder)


def torment(tool: Tool, folder: Path, kind: str, chance: random.Random, whole: list[list[float]]) -> Counter[str]:
    """One study: hit, run to its end, counted."""
    counts: Counter[str] = Counter(studies=1)
    tool.prepare(folder)
    process = tool.start(folder)
    wanted = chance.randint(5, TRIALS - 10)
    while sum(mark == "end" for mark, _, _ in calls(folder)) < wanted and process.poll() is None:
        time.sleep(0.005)
    time.sleep(chance.uniform(0, 0.1))
    seen = calls(folder)
    if kind == "simulator's process":
        open_ones = {pid for mark, _, pid in seen if mark == "begin"} & set(living(folder)) - {process.pid}
        end([chance.choice(sorted(open_ones))])
    elif kind == "main process":
        end([process.pid])
    else:
        while left := living(folder):
            end(left)
    counts["hung"] += not ends(process)
    deadline = time.monotonic() + 20
    while living(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    counts["processes left"] += len(left := living(folder))
    end(left)
    for _ in range(5):
        if len(tool.found(folder)) >= TRIALS:
            break
        process = tool.start(folder)
        if not ends(process):
            counts["hung"] += 1
            end(living(folder))
    process.wait()
    found = tool.found(folder)
    noted = calls(folder)
    points = {(x, y) for x, y, _ in found}
    counts["finished and lost"] += len({point for mark, point, _ in noted if mark == "end"} - points)
    finished, again = set(), 0
    for mark, point, _ in noted:
        if mark == "end":
            finished.add(point)
        elif point in finished:
            again += 1
    counts["run twice"] += again
    counts["not brought to its end"] += len(found) < TRIALS
    counts["other results than undisturbed"] += found != whole
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", required=True, help="Python of an environment with optuna and libensemble")
    parser.add_argument("--repeats", type=int, default=5, help="studies for each tool and kind of kill")
    parser.add_argument("--tools", default="simopt,optuna,libensemble")
    arguments = parser.parse_args()
    other = str(Path(arguments.python).absolute())
    simopt = [str(Path(sys.executable).with_name("simopt")), "run", "study.yaml", "--untracked"]
    tools = [
        Tool("simopt", simopt, [], ("study.yaml", yaml.safe_dump(OURS))),
        Tool("optuna", [other, "program.py", "run"], [other, "program.py", "results"], ("program.py", OPTUNA)),
        Tool("libensemble", [other, "program.py", "run"], [other, "program.py", "results"],
             ("program.py", LIBENSEMBLE)),
    ]  # fmt: skip
    columns = ["studies", "finished and lost", "run twice", "hung", "processes left", "not brought to its end",
               "other results than undisturbed"]  # fmt: skip
    print(f"| tool | killed | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 2)}")
    with tempfile.TemporaryDirectory(prefix="peers-") as name:
        for tool in tools:
            if tool.name not in arguments.tools.split(","):
                continue
            whole = undisturbed(tool, Path(name) / tool.name)
            same = undisturbed(tool, Path(name) / f"{tool.name}-again") == whole
            for kind in KILLS:
                total: Counter[str] = Counter()
                for repeat in range(arguments.repeats):
                    folder = Path(name) / f"{tool.name}-{KILLS.index(kind)}-{repeat}"
                    total += torment(tool, folder, kind, random.Random(f"{kind} {repeat}"), whole)
                shown = " | ".join(str(total[column]) for column in columns)
                print(f"| {tool.name} | {kind} | {shown} |", flush=True)
            print(f"| {tool.name} | nothing, twice: {'the same' if same else 'different'} results |", flush=True)


if __name__ == "__main__":
    main()
