"""The one object that says how a study stands: what `--json` prints and flows return."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from prefect_simopt.study import Study
from prefect_simopt.trial import Trial

__all__ = ["sentence", "summarize"]

_SHOWN = 12  # parameters and metrics in a line for people


def summarize(study: Study) -> dict[str, Any]:
    """How the study stands, as a JSON document.

    Returns:
        `name`, `state` (running, complete, failed or interrupted), `trials` (counts of complete, failed, cached and
        total ones), `best` (trial, parameters, metrics and, with replicates, standard_errors; None without a complete
        trial), `generations`, `seconds`, `store`, `fingerprint`, with levels of fidelity `cost`, in trials at the
        highest, and with several objectives `pareto`, a list of trials as in `best`.
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
    if study.spec.get("fidelity"):
        document["cost"] = round(study.cost, 6)
    if len(study.spec["objectives"]) > 1:
        document["pareto"] = [_point(trial) for trial in study.pareto]
    return document


def _point(trial: Trial) -> dict[str, Any]:
    point = {"trial": trial.number, "parameters": dict(trial.parameters), "metrics": dict(trial.metrics)}
    return point | ({"standard_errors": dict(trial.errors)} if trial.errors else {})


def sentence(summary: dict[str, Any]) -> str:
    """The summary as one line for people."""
    counts, best = summary["trials"], summary["best"]
    told = f"{counts['total']} trials ({counts['complete']} complete, {counts['failed']} failed"
    told += f", {counts['cached']} from the cache)" if counts["cached"] else ")"
    told += f" at the cost of {summary['cost']:.6g}" if "cost" in summary else ""
    line = f"{summary['name']}: {summary['state']}, {told} in {summary['seconds']:.1f} s"
    if best is not None:
        metrics = _listed(best["metrics"], best.get("standard_errors", {}))
        line += f"; best is trial {best['trial']}: {metrics} at {_listed(best['parameters'])}"
    return line


def _listed(values: Mapping[str, Any], errors: Mapping[str, float] = MappingProxyType({})) -> str:
    shown = [
        f"{name} = {_short(value)}" + (f" ± {errors[name]:.2g}" if name in errors else "")
        for name, value in list(values.items())[:_SHOWN]
    ]
    more = len(values) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
