"""Kills studies at random moments, runs them to the end, and counts what was lost.

The simulators of these studies note their own beginnings and ends in a file that the studies know nothing of. By it,
and by what is in the store when everything has been killed, each of these is counted and must be none:

- lost: a run whose simulator had ended is run again, although nothing but the flow was killed;
- again: a run that the store held when a flow was started was run again by it;
- differing: the fingerprint is not that of the undisturbed study;
- left: processes of the study that are there after its end;
- stuck: the study was refused because a killed process still seemed to hold it;
- unsound: `simopt verify` finds something, the study does not end, or a command shows a traceback.

A simulator's own last line comes some microseconds before its result is in the store, so a kill of the very process
that runs it may come in between: such runs are counted as `unheard`.

Run it: `python tests/faults/chaos.py --studies 200`.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from victims import CASES, FILES, Case

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a program, it finds what the tests share
from s3_server import S3Server

from prefect_simopt.outcomes import decode_outcomes
from prefect_simopt.seeds import derive_seed
from prefect_simopt.simulators.processes import children, descendants, marked
from prefect_simopt.trial import Status

SIMOPT = str(Path(sys.executable).with_name("simopt"))
MARK = "SIMOPT_CHAOS"
PATIENCE = 400.0  # seconds that nothing here takes, however busy the machine is
FAULTS = ("lost", "again", "differing", "left", "stuck", "unsound")
GENTLE = ("flow", "group", "SIGTERM", "SIGINT")
"""Kills that no simulator's process is hit by."""
PARTIAL = ("simulator", "supervisor")
"""Kills that the flow survives. A run may be hit so often only before it counts as failed."""
BRUTAL = ("flow and simulator", "flow and supervisor", "everything", "twice SIGINT", "SIGTERM to everything")
KILLS = (*GENTLE, *PARTIAL, *BRUTAL)

Run = tuple[int, int]
"""Number of the trial, and seed of the replicate."""


@dataclass
class Tally:
    """What was counted, and what it was about."""

    counts: Counter[str] = field(default_factory=Counter)
    details: list[str] = field(default_factory=list)

    def add(self, what: str, number: int, about: str) -> None:
        """Count; faults are described."""
        self.counts[what] += number
        if number and what in FAULTS:
            self.details.append(f"{what}: {number}: {about}")

    @property
    def faults(self) -> int:
        """How many must-not-happens happened."""
        return sum(self.counts[name] for name in FAULTS)

    def merge(self, other: "Tally") -> None:
        """Add another's."""
        self.counts += other.counts
        self.details += other.details


class Victim:
    """One study, and what is done to it.

    Args:
        folder: of its own.
        case: which kind.
        seed: of the study.
        chance: decides on the kills.
        server: the S3 server that holds its store; None for a folder.
    """

    def __init__(
        self, folder: Path, case: Case, seed: int, chance: random.Random, server: S3Server | None = None
    ) -> None:
        self.folder, self.case, self.seed, self.random, self.server = folder, case, seed, chance, server
        self.tally = Tally()
        self.log = folder / "log.jsonl"
        self.mark = f"{os.getpid()}-{time.time_ns()}"
        self.story: list[str] = []
        self.unheard: set[Run] = set()
        self.rough = False  # a simulator's process was hit since losses were last looked for
        folder.mkdir(parents=True)
        for name, text in FILES.items():
            (folder / name).write_text(text)
        (folder / "study.yaml").write_text(yaml.safe_dump(case.document(seed)))
        self.log.touch()

    # Running

    def start(self, store: str = "studies", mark: str = "") -> subprocess.Popen[str]:
        """`simopt run` in a session of its own."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        environment |= {"CHAOS_LOG": str(self.log if store == "studies" else self.log.with_suffix(f".{store}"))}
        environment |= self.credentials
        with (self.folder / "stderr.txt").open("w") as errors:
            return subprocess.Popen(
                [SIMOPT, "run", "study.yaml", "--untracked", "--json", "--store", self.url(store)],
                cwd=self.folder,
                env={**environment, MARK: mark or self.mark},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )

    def undisturbed(self) -> str:
        """The fingerprint of the study when nothing happens to it."""
        process = self.start("undisturbed", "undisturbed")
        out, _ = process.communicate(timeout=PATIENCE)
        if process.returncode:
            raise RuntimeError((self.folder / "stderr.txt").read_text())
        return str(json.loads(out)["fingerprint"])

    def torment(self, fingerprint: str, kills: tuple[int, int]) -> Tally:
        """Kill it several times, then let it end; count."""
        partial = 2
        for _ in range(self.random.randint(*kills)):
            process, held = self.start(), self.held()
            before = self.size()
            kind = self.random.choice((*KILLS, "S3 server", "S3 server") if self.server else KILLS)
            ended = self.wait_for_moment(process)
            if not ended and kind in (*PARTIAL, "S3 server"):
                if partial or kind == "S3 server":
                    partial -= 1
                    self.kill(kind, process)
                ended = self.wait_for_moment(process)
                kind = "everything" if self.random.random() < 0.5 else "flow"
            if not ended:
                self.kill(kind, process)
            self.expect(process, kind, ended)
            self.check_repetitions(held, before)
            if ended:
                self.tally.counts["ended before a kill"] += 1
                break
            if self.random.random() < 0.6:  # otherwise the next flow comes while orphans still run
                self.wait_for_orphans()
                self.check_losses(kind)
        self.finish(fingerprint)
        return self.tally

    def finish(self, fingerprint: str) -> None:
        """Run to the end, and look at everything once more."""
        process, held, before = self.start(), self.held(), self.size()
        out = self.expect(process, "none", ended=True)
        self.check_repetitions(held, before)
        self.wait_for_orphans()
        summary = json.loads(out) if out.strip() else {}
        if self.case.reproducible and summary.get("fingerprint") != fingerprint:
            self.fault("differing", 1, f"{summary.get('fingerprint')} is not {fingerprint}")
        trials = [entry["id"] for entry in self.ledger() if entry["activity"] == "trial"]
        if len(set(trials)) != len(trials) or len(trials) != self.case.document(0)["budget"]["trials"]:
            self.fault("unsound", 1, f"{len(trials)} trials in the ledger, {len(set(trials))} different ones")
        verified = subprocess.run(
            [SIMOPT, "verify", f"{self.url('studies')}/{self.case.name}"],
            env={**os.environ, **self.credentials},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        if verified.returncode:
            self.fault("unsound", 1, f"verify: {verified.stdout}{verified.stderr}")
        self.tally.counts["studies"] += 1
        self.tally.counts["studies on S3"] += self.server is not None

    def expect(self, process: "subprocess.Popen[str]", kind: str, ended: bool) -> str:
        """Wait for the end of a flow, and check that it is one that may be; returns what it printed."""
        try:
            out, _ = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.fault("unsound", 1, "it does not end")
            process.kill()
            return process.communicate()[0]
        code = process.returncode
        self.story.append(f"exit {code}")
        errors = (self.folder / "stderr.txt").read_text()
        # A kill may come when everything is done, and a signal before Python has come to our code.
        allowed = [0] if ended else [0, 130, -signal.SIGKILL, -signal.SIGTERM]
        unready = not ended and errors.rstrip().endswith("KeyboardInterrupt") and ", in main\n" not in errors
        if code == 2 and "is being written by" in errors:
            self.fault("stuck", 1, errors)
        elif not unready and (code not in allowed or "Traceback" in errors):
            self.fault("unsound", 1, f"exit code {code} after {kind}: {errors}")
        return out

    # Killing

    def wait_for_moment(self, process: "subprocess.Popen[str]") -> bool:
        """Wait for a random moment; True when the study has ended before it."""
        begin, lines = time.monotonic(), self.size()
        early = self.random.random() < 0.25
        until = self.random.uniform(0, 1.5) if early else PATIENCE
        wanted = lines + self.random.randint(1, 80 if "free" not in self.case.name else 2500) * 60
        while process.poll() is None and time.monotonic() - begin < until:
            if not early and self.size() >= wanted:
                break
            time.sleep(0.001)
        time.sleep(self.random.uniform(0, 0.03))
        return process.poll() is not None

    def kill(self, kind: str, process: "subprocess.Popen[str]") -> None:
        """Do it."""
        self.story.append(kind)
        self.rough = self.rough or kind not in (*GENTLE, "S3 server")
        self.tally.counts["kills"] += 1
        self.tally.counts[f"kill of {kind}"] += 1
        flow, supervisors = process.pid, children(process.pid)
        hosts = [each for supervisor in supervisors for each in descendants([supervisor])[1:]]
        if kind in ("flow", "flow and simulator", "flow and supervisor"):
            end([flow])
        if kind == "group":
            with suppress(ProcessLookupError):
                os.killpg(flow, signal.SIGKILL)
        if kind in ("simulator", "flow and simulator") and hosts:
            end([self.random.choice(hosts)])
        if kind in ("supervisor", "flow and supervisor") and supervisors:
            end([self.random.choice(supervisors)])
        if kind == "everything":
            end([flow, *supervisors, *hosts])
            end(marked(MARK, self.mark))
        if kind == "S3 server" and self.server:
            self.server.kill()
            time.sleep(self.random.uniform(0, 2))
            self.server.start()
        if kind == "SIGTERM to everything":  # as when a machine shuts down, or a scheduler ends a job
            end([flow, *supervisors, *hosts], signal.SIGTERM)
        if kind in ("SIGTERM", "SIGINT", "twice SIGINT"):
            number = signal.SIGTERM if kind == "SIGTERM" else signal.SIGINT
            process.send_signal(number)
        if kind == "twice SIGINT":
            time.sleep(self.random.uniform(0, 0.05))
            process.send_signal(signal.SIGINT)

    def wait_for_orphans(self) -> None:
        """Processes end by themselves, in a few times their longest run."""
        deadline = time.monotonic() + PATIENCE / 2
        while left := living(marked(MARK, self.mark)):
            if time.monotonic() > deadline:
                commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left]
                self.fault("left", len(left), f"{commands}")
                end(left)
            time.sleep(0.01)

    # Counting

    def check_repetitions(self, held: set[Run], before: int) -> None:
        """No run that was held when the flow started has begun since."""
        calls: dict[str, list[Run]] = {}
        for mark, trial, seed, call in self.lines(before):
            if mark == "begin":
                calls.setdefault(call, []).append((trial, seed))
        again = [runs for runs in calls.values() if held.issuperset(runs)]
        if again:
            self.fault("again", len(again), f"{again}")

    def check_losses(self, kind: str) -> None:
        """Every run whose simulator noted its end is in the store. Called when nothing of the study runs."""
        held = self.held()
        ended = {(trial, seed) for mark, trial, seed, _ in self.lines(0) if mark == "end"}
        lost = ended - held - self.unheard
        self.unheard |= lost
        gentle, self.rough = not self.rough, False
        if lost and gentle:
            self.fault("lost", len(lost), f"{sorted(lost)} after {kind}")
        else:
            self.tally.add("unheard", len(lost), "")

    def held(self) -> set[Run]:
        """Runs that the store has results of."""
        found: set[Run] = set()
        replicates = self.case.spec.get("replicates", 1)
        for entry in self.ledger():
            if entry["activity"] == "trial":
                number = int(entry["id"].removeprefix("trial/"))
                found |= {(number, self.derived(number, replicate)) for replicate in range(replicates)}
        with suppress(FileNotFoundError):
            for path in (self.study / "outcomes").glob("*.jsonl"):
                with suppress(FileNotFoundError):
                    good, damaged = decode_outcomes(path.read_bytes())
                    if damaged:
                        self.fault("unsound", 1, f"{path.name} is torn")
                    for outcome in good:
                        if outcome.status is Status.COMPLETE:
                            found.add((outcome.trial, self.derived(outcome.trial, outcome.replicate)))
        return found

    def derived(self, trial: int, replicate: int) -> int:
        """The seed of a run."""
        return derive_seed(self.seed, trial, replicate)

    def url(self, store: str) -> str:
        """Where a store is, as the command line takes it."""
        return f"s3://lab/{store}" if self.server else str(self.folder / store)

    @property
    def study(self) -> Path:
        """The study's folder; the S3 server keeps each object in a file of its name."""
        root = self.server.folder / "lab" if self.server else self.folder
        return root / "studies" / self.case.name

    @property
    def credentials(self) -> dict[str, str]:
        """How the S3 server is reached, in environment variables."""
        if self.server is None:
            return {}
        options = self.server.options
        return {
            "AWS_ACCESS_KEY_ID": options["key"],
            "AWS_SECRET_ACCESS_KEY": options["secret"],
            "AWS_ENDPOINT_URL": options["endpoint_url"],
        }

    def ledger(self) -> Iterable[dict[str, Any]]:
        """The records, without a last one that a kill cut short."""
        for path in sorted(self.study.glob("ledger/*.jsonl")):
            for line in path.read_bytes().splitlines():
                with suppress(json.JSONDecodeError):
                    yield json.loads(line)

    def size(self) -> int:
        """Bytes of the simulators' own log."""
        return self.log.stat().st_size

    def lines(self, start: int) -> list[tuple[str, int, int, str]]:
        """What the simulators noted since."""
        with self.log.open("rb") as file:
            file.seek(start)
            return [tuple(json.loads(line)) for line in file]

    def fault(self, what: str, number: int, about: str) -> None:
        """Count something that must not happen."""
        self.tally.add(what, number, f"{self.folder} [{'; '.join(self.story)}]: {about}")


def end(pids: Iterable[int], number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to each."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def living(pids: Iterable[int]) -> list[int]:
    """Those that are not merely waiting to be reaped."""
    found = []
    for pid in pids:
        with suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                found.append(pid)
    return found


def run(
    folder: Path,
    studies: int,
    *,
    seed: int = 0,
    jobs: int = 2,
    kills: tuple[int, int] = (2, 5),
    s3: int = 0,
    say: Any = None,
) -> Tally:
    """Torment so many studies.

    Args:
        folder: where they live; studies that nothing happened to are removed.
        studies: how many.
        seed: another one, other studies and other kills.
        jobs: how many at the same time.
        kills: how often each is killed, at least and at most.
        s3: one in so many has its store on an S3 server, which is killed and started again too; 0: none.
        say: called with a line now and then.
    """
    total, lock = Tally(), threading.Lock()
    known: dict[tuple[str, int], str] = {}
    guards: dict[tuple[str, int], threading.Lock] = {}

    def one(number: int) -> None:
        case = CASES[number % len(CASES)]
        # The same few studies are killed in many ways, so that the undisturbed ones need not all be run.
        key = case.name, 1000 * seed + number // len(CASES) % 4
        place = folder / f"{number:04d}-{case.name}"
        server = S3Server(place.with_suffix(".s3")) if s3 and number % s3 == s3 - 1 else None
        victim = Victim(place, case, key[1], random.Random(f"{seed} {number}"), server)
        with lock:
            guard = guards.setdefault(key, threading.Lock())
        with guard:
            if key not in known:
                known[key] = victim.undisturbed()
        tally = victim.torment(known[key], kills)
        if server is not None:
            server.kill()
        with lock:
            total.merge(tally)
            if not tally.faults:
                shutil.rmtree(place)
                shutil.rmtree(place.with_suffix(".s3"), ignore_errors=True)
            if say is not None and (tally.faults or total.counts["studies"] % 20 == 0):
                say(f"{dict(total.counts)}\n" + "\n".join(tally.details))

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, range(studies)))
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--s3", type=int, default=7, help="one in so many has its store on an S3 server; 0: none")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    begin = time.monotonic()
    total = run(
        folder,
        arguments.studies,
        seed=arguments.seed,
        jobs=arguments.jobs,
        s3=arguments.s3,
        say=lambda line: print(line, flush=True),
    )
    for name, count in sorted(total.counts.items()):
        print(f"{name:28} {count}")
    for name in FAULTS:
        print(f"{name:28} {total.counts[name]}")
    print(f"{'seconds':28} {time.monotonic() - begin:.0f}")
    if total.faults:
        print(f"what is left of them is in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
