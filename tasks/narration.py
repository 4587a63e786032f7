"""What a person reads while a study runs: lines in the flow run's log, and events that automations can act on."""

from collections.abc import Mapping
from typing import Any

from prefect.events import emit_event

from prefect_simopt.loop import Progress
from prefect_simopt.spec import StudySpec
from prefect_simopt.steering import Request
from prefect_simopt.tasks.pace import Logger, Pace, PrintedLines
from prefect_simopt.trial import Status, Trial

__all__ = ["Narrator"]

_LINE_SECONDS = 2.0  # between two lines on generations, or on failures
_EVENTS = 5.0  # a second, of each kind


class Narrator(PrintedLines):
    """Watches a search and its simulators, and tells of them.

    Args:
        spec: the question.
        logger: of the flow run.
    """

    def __init__(self, spec: StudySpec, logger: Logger) -> None:
        super().__init__(logger)
        self._spec = spec
        self._resource = {
            "prefect.resource.id": f"simopt.study.{spec.name}",
            "prefect.resource.name": spec.name,
        }
        self._generations, self._failures = Pace(1 / _LINE_SECONDS), Pace(1 / _LINE_SECONDS)
        self._generation_events, self._failure_events = Pace(_EVENTS), Pace(_EVENTS)

    def started(self, store: str, optimizer: str, workers: int, *, created: bool) -> None:
        """The study is open at the address `store`, `optimizer` searches, and its simulators have started."""
        spec = self._spec
        self._resource["simopt.store"] = store
        names = ", ".join(parameter.name for parameter in spec.space)
        aims = " and ".join(f"{each.direction} {each.metric}" for each in spec.objectives)
        self._logger.info(
            "%s %s: %s by %s over %s; up to %d trials, %d at a time; store %s",
            "study" if created else "going on with study", spec.name, aims, optimizer,
            names if len(names) < 200 else f"{len(spec.space)} parameters", spec.budget.trials, workers, store,
        )  # fmt: skip
        document = spec.document()
        payload = {key: document[key] for key in ("objectives", "optimizer", "budget")}
        self._emit("study.started", {**payload, "resumed": not created})

    def generation_started(self, number: int, trials: int) -> None:
        """Nothing to tell."""

    def trial_ended(self, trial: Trial) -> None:
        """A failed trial is told, with its reason."""
        if trial.status is not Status.FAILED:
            return
        if self._failures.allows():
            also = self._failures.missed()
            more = f" ({also} more failed since the last such line)" if also else ""
            self._logger.warning("trial %d failed (%s): %s%s", trial.number, trial.reason, trial.message, more)
        if self._failure_events.allows():
            facts = {"trial": trial.number, "reason": str(trial.reason), "message": trial.message[:2000]}
            parameters = dict(list(trial.parameters.items())[:100])
            skipped = self._failure_events.missed()
            self._emit("trial.failed", {**facts, "parameters": parameters, "not_told": skipped})

    def generation_completed(self, number: int, progress: Progress) -> None:
        """How the search stands."""
        if self._generations.allows():
            self._logger.info("generation %d: %s", number, standing(progress))
        if self._generation_events.allows():
            self._emit("generation.completed", {"generation": number, **_facts(progress)})

    def request_taken_up(self, request: Request, refused: str) -> None:
        """What somebody asked of the study was done, or refused: the log has a line of it already."""
        facts = {"kind": request.kind, **request.content, "agent": request.agent, "at": request.at}
        self._emit("request.refused" if refused else "request.applied", {**facts, "because": refused})

    def completed(self, summary: Mapping[str, Any], ending: str) -> None:
        """The study has ended, one way or another."""
        facts = {key: summary[key] for key in ("state", "trials", "best", "generations", "seconds", "fingerprint")}
        self._emit("study.completed", {**facts, "because": ending})

    def _emit(self, event: str, payload: dict[str, Any]) -> None:
        emit_event(f"simopt.{event}", resource=self._resource, payload=payload)


def standing(progress: Progress) -> str:
    """How a search stands, as in `64 of 200 trials, 2 failed; best reflectance = 0.0123 (trial 51)`."""
    failed = f", {progress.failed} failed" if progress.failed else ""
    cached = f", {progress.cached} from the cache" if progress.cached else ""
    line = f"{progress.told} of {progress.budget} trials{failed}{cached}"
    best = progress.ranking.best
    if best is None:
        return line
    names = [each.metric for each in progress.ranking.scale.objectives]
    metrics = ", ".join(f"{name} = {best.metrics[name]:.6g}" for name in names)
    feasible = "" if progress.ranking.feasible else ", infeasible"
    return f"{line}; best {metrics} (trial {best.number}{feasible})"


def _facts(progress: Progress) -> dict[str, Any]:
    best = progress.ranking.best
    return {
        "trials": {"complete": progress.complete, "failed": progress.failed, "cached": progress.cached},
        "best": None if best is None else {"trial": best.number, "metrics": dict(best.metrics)},
        "seconds": round(progress.seconds, 3),
    }
