"""The one object that says how a study stands: what `--json` prints and flows return."""

from typing import Any

from prefect_simopt.study import Study
from prefect_simopt.trial import Trial

__all__ = ["sentence", "summarize"]


def summarize(study: Study) -> dict[str, Any]:
    """How the study stands, as a JSON document.

    Returns:
        `name`, `state` (running, complete, failed or interrupted), `trials` (counts of complete, failed, cached and
        total ones), `best` (trial, parameters, metrics; None without a complete trial), `generations`, `seconds`,
        `store`, `fingerprint`, and with several objectives `pareto`, a list of trials as in `best`.
    """
    best = study.best
    document: dict[str, Any] = {
        "name": study.name,
        "state": study.state,
        "trials": study.counts,
        "best": None if best is None else _point(best),
        "generations": study.generations,
        "seconds": round(study.seconds, 3),
        "store": study.store,
        "fingerprint": study.fingerprint(),
    }
    if len(study.spec["objectives"]) > 1:
        document["pareto"] = [_point(trial) for trial in study.pareto]
    return document


def _point(trial: Trial) -> dict[str, Any]:
    return {"trial": trial.number, "parameters": dict(trial.parameters), "metrics": dict(trial.metrics)}


def sentence(summary: dict[str, Any]) -> str:
    """The summary as one line for people."""
    counts, best = summary["trials"], summary["best"]
    told = f"{counts['total']} trials ({counts['complete']} complete, {counts['failed']} failed"
    told += f", {counts['cached']} from the cache)" if counts["cached"] else ")"
    line = f"{summary['name']}: {summary['state']}, {told} in {summary['seconds']:.1f} s"
    if best is not None:
        metrics = ", ".join(f"{name} = {value:.6g}" for name, value in best["metrics"].items())
        parameters = ", ".join(f"{name} = {_short(value)}" for name, value in best["parameters"].items())
        line += f"; best is trial {best['trial']}: {metrics} at {parameters}"
    return line


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
