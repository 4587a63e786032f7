"""What Prefect's UI shows of a study while it runs: how far it is, its best trials, and a picture of convergence."""

import base64
import re
import threading
from bisect import insort
from collections.abc import Iterator
from itertools import compress
from typing import Any
from uuid import UUID

import orjson
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate

from prefect_simopt.loop import Progress
from prefect_simopt.ranking import Scale
from prefect_simopt.report.convergence import Convergence
from prefect_simopt.report.front import Cloud
from prefect_simopt.spec import StudySpec
from prefect_simopt.study import Study
from prefect_simopt.trial import Status, Trial

__all__ = ["Board"]

_ROWS = 10
_SHOWN = 30  # parameters and metrics in a row of the table
_QUICK = 200  # trials of a front whose hypervolume of three objectives or more is told while the search runs


class Board:
    """Collects what the artifacts show, in the search's thread, and writes them, in any other.

    Each artifact is created once for a flow run and then updated in place.

    Args:
        spec: the question.
        flow_run: the flow run that the artifacts belong to.

    Attributes:
        last: number of the last trial that has ended.
    """

    def __init__(self, spec: StudySpec, flow_run: UUID) -> None:
        self._spec, self._flow_run = spec, flow_run
        self._scale = Scale(spec.objectives, spec.constraints, spec.fidelity)
        self._convergence = Convergence(self._scale, spec.name)
        self._cloud = Cloud(self._scale) if len(spec.objectives) > 1 else None
        self._best: list[tuple[tuple[float, ...], int, Trial]] = []
        self._running: dict[int, float] = {}
        self._told, self._budget = 0, spec.budget.trials
        self.last = -1
        self._changed = True
        self._waiting: list[Trial] | None = None
        self._lock = threading.Lock()
        self._ids: dict[str, UUID] = {}
        self._slug = re.sub(r"[^a-z0-9]+", "-", spec.name.lower()).strip("-")

    def generation_started(self, number: int, trials: int) -> None:
        """Nothing to show."""

    def trial_ended(self, trial: Trial) -> None:
        """Take a trial into account."""
        with self._lock:
            self._running.pop(trial.number, None)
            if self._waiting is not None:
                self._waiting.append(trial)
            else:
                self._told += 1
                self._add(trial)

    def generation_completed(self, number: int, progress: Progress) -> None:
        """Take up the search's own count, which knows of earlier runs."""
        with self._lock:
            self._told, self._budget = progress.told, progress.budget
            if len(self._spec.objectives) > 1:
                self._best = [((), trial.number, trial) for trial in progress.ranking.pareto]

    def progress(self, trial: int, fraction: float) -> None:
        """A simulator said how far it is."""
        with self._lock:
            self._running[trial] = fraction
            self._changed = True

    def hold(self) -> None:
        """Let trials wait until those of earlier runs have been recalled."""
        self._waiting = []

    def recall(self, study: Study) -> None:
        """Take the trials of earlier runs into account, then those that waited."""
        trials: list[Trial] = []
        try:
            trials = list(_ended(study, self._spec))
        finally:
            known = {trial.number for trial in trials}
            with self._lock:
                trials += [trial for trial in self._waiting or () if trial.number not in known]
                self._waiting = None
                self._told += len(trials)
                for trial in trials:
                    self._add(trial)
                if self._cloud is not None and not self._best:
                    self._best = [((), trial.number, trial) for trial in study.pareto]

    def publish(self, client: SyncPrefectClient, *, done: bool = False) -> None:
        """Write the artifacts, if anything has changed.

        Args:
            client: of Prefect's API.
            done: whether the study has ended.
        """
        with self._lock:
            if not self._changed and not done:
                return
            self._changed = False
            share = (self._told + sum(self._running.values())) / self._budget
            rows = [self._row(trial) for _, _, trial in self._best]
            picture = self._convergence.svg()
            front = self._cloud.front([trial for _, _, trial in self._best]) if self._cloud is not None else None
        percent = 100.0 if done else round(100 * min(share, 1.0), 2)
        told = f"{self._spec.name}: {self._told} of up to {self._budget} trials"
        self._write(client, "progress", "progress", percent, told)
        best = "trials that no other one dominates" if len(self._spec.objectives) > 1 else "best trials, the best first"
        self._write(client, "table", "best", orjson.dumps(rows).decode(), f"{self._spec.name}: {best}")
        said = f"{self._spec.name}: every trial, and the best so far"
        self._write(client, "image", "convergence", _address(picture), said)
        if front is not None:
            # Of three objectives and many trials it takes long, which a report may, and a search must not.
            quick = done or len(front.metrics) == 2 or len(front.trials) <= _QUICK
            said = (
                f"{self._spec.name}: {len(front.trials)} trials on the front{f'; {front.sentence()}' if quick else ''}"
            )
            self._write(client, "image", "front", _address(front.picture(f"{self._spec.name}: the front")), said)

    def write_report(self, client: SyncPrefectClient, text: str) -> None:
        """Write the report, in Markdown."""
        self._write(client, "markdown", "report", text, f"{self._spec.name}: what was found")

    def _add(self, trial: Trial) -> None:
        self._changed = True
        self.last = max(self.last, trial.number)
        self._convergence.add(trial)
        if self._cloud is not None:
            self._cloud.add(trial)
        if not self._scale.counts(trial) or len(self._spec.objectives) > 1:
            return
        rank = (self._scale.violation(trial), *self._scale.values(trial))
        if len(self._best) < _ROWS or rank < self._best[-1][0]:
            insort(self._best, (rank, trial.number, trial), key=lambda entry: entry[:2])
            del self._best[_ROWS:]

    def _row(self, trial: Trial) -> dict[str, Any]:
        values = {**trial.metrics, **{f"{name} ± ": error for name, error in trial.errors.items()}, **trial.parameters}
        shown = {name: _short(value) for name, value in list(values.items())[:_SHOWN]}
        if self._spec.constraints:
            shown = {"feasible": self._scale.violation(trial) == 0, **shown}
        return {"trial": trial.number, **shown}

    def _write(self, client: SyncPrefectClient, kind: str, name: str, data: Any, description: str) -> None:
        known = self._ids.get(name)
        if known is not None:
            client.update_artifact(known, ArtifactUpdate(data=data, description=description))
            return
        artifact = ArtifactCreate(
            type=kind, key=f"{self._slug}-{name}", data=data, description=description, flow_run_id=self._flow_run
        )
        self._ids[name] = client.create_artifact(artifact).id


def _ended(study: Study, spec: StudySpec) -> Iterator[Trial]:
    """The trials that have ended, with what the artifacts show of them."""
    frame = study.trials
    names = [parameter.name for parameter in spec.space]
    sources = [f"metric.{name}" if f"metric.{name}" in frame else name for name in spec.metrics]
    status = frame["trial.status" if "trial.status" in frame else "status"]
    columns = [frame[name].tolist() for name in (*names, *sources)]
    there = frame[names].notna().to_numpy().tolist()
    levels = [None] * len(frame)
    if spec.fidelity is not None:
        levels = frame["trial.fidelity" if "trial.fidelity" in frame else "fidelity"].tolist()
    rows = zip(frame.index.tolist(), status, levels, there, *columns, strict=True)
    for number, state, level, has, *values in rows:
        point = dict(compress(zip(names, values, strict=False), has))
        metrics = values[len(names) :]
        if state == "complete":
            known = dict(zip(spec.metrics, metrics, strict=True))
            yield Trial(number, point, Status.COMPLETE, known, fidelity=level)
        elif state == "failed":
            yield Trial(number, point, Status.FAILED)


def _address(picture: str) -> str:
    """An SVG document as the address that an image artifact takes."""
    return f"data:image/svg+xml;base64,{base64.b64encode(picture.encode()).decode()}"


def _short(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value
