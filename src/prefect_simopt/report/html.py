"""The report of a study as one HTML page that needs nothing else: pictures and tables are inside."""

import base64
import io
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from prefect_simopt.ranking import Scale
from prefect_simopt.report.convergence import Convergence
from prefect_simopt.report.front import front_of
from prefect_simopt.report.wanted import wanted
from prefect_simopt.simulators.contract import Field
from prefect_simopt.study import Study
from prefect_simopt.summary import sentence, summarize
from prefect_simopt.trial import Trial

__all__ = ["report_page"]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1, h2 { font-weight: 600; line-height: 1.2 } h2 { margin-top: 2.2rem; font-size: 1.2rem }
table { border-collapse: collapse }
td, th { padding: .25rem .9rem .25rem 0; text-align: left; border-bottom: 1px solid #e4e4e4 }
.number { text-align: right; font-variant-numeric: tabular-nums }
img, svg { max-width: 100%; height: auto }
.failed { color: #b03030 } .small { color: #666; font-size: .9em; overflow-wrap: anywhere }
"""
_BEST = 10  # trials in the table
_FRONT = 50  # likewise, of the front


def report_page(study: Study) -> str:
    """The page: how the study ended, its convergence, the best design with its fields, the best trials, what made it.

    Raises:
        CorruptionError: what it shows is damaged in the store.
    """
    summary = summarize(study)
    parts = [f"<h1>{escape(study.name)}</h1>", f"<p>{escape(sentence(summary))}.</p>"]
    if study.verdict:
        parts.append(f'<p class="failed">{escape(study.verdict)}</p>')
    parts += [_convergence(study), *_front(study)]
    if study.best is not None:
        parts += [f"<h2>Best: trial {study.best.number}</h2>", _design(study, study.best), *_fields(study, study.best)]
        parts += ["<h2>Best trials</h2>", _best_trials(study)]
    parts += ["<h2>How it came to be</h2>", _origin(study, summary)]
    title = f"<title>{escape(study.name)}</title>"
    head = f'<!doctype html><html lang="en"><head><meta charset="utf-8">{title}<style>{_STYLE}</style></head>'
    return f"{head}<body>{''.join(parts)}</body></html>\n"


def _convergence(study: Study) -> str:
    picture = Convergence(Scale.of(study.spec), study.name)
    for trial in study.each():
        picture.add(trial)
    return picture.svg()


def _front(study: Study) -> Iterator[str]:
    """The trials that no other one dominates: a picture where there are two objectives, and a table."""
    front = front_of(study)
    if front is None:
        return
    yield f"<h2>Front: {len(front.trials)} trials that no other one dominates</h2><p>{escape(front.sentence())}.</p>"
    yield front.picture(f"{study.name}: the front")
    names = [each["name"] for each in study.spec["space"]]
    rows = [
        (each.number, *(each.parameters.get(name) for name in names), *(each.metrics[name] for name in front.metrics))
        for each in front.trials[:_FRONT]
    ]
    yield _table(("trial", *names, *front.metrics), rows)


def _design(study: Study, best: Trial) -> str:
    units = {each["name"]: each.get("unit") or "" for each in study.spec["space"]}
    rows = [(name, value, units[name]) for name, value in best.parameters.items()]
    aims = wanted(study.spec)
    head = ("metric", "value", *(["standard error"] if best.errors else []), "wanted")
    metrics = [
        (name, value, *([best.errors.get(name)] if best.errors else []), aims.get(name, ""))
        for name, value in best.metrics.items()
    ]
    return _table(("parameter", "value", "unit"), rows) + "<br>" + _table(head, metrics)


def _best_trials(study: Study) -> str:
    scale = Scale.of(study.spec)
    complete = [trial for trial in study.each() if scale.counts(trial)]
    complete.sort(key=lambda trial: (scale.violation(trial), scale.values(trial), trial.number))
    order = [trial.number for trial in complete[:_BEST]]
    frame = study.trials.loc[order]
    names = [each["name"] for each in study.spec["space"]]
    columns = [*names, *(name for name in study.best.metrics if name in frame)] if study.best else names
    rows = frame[columns].itertuples(index=True, name=None)
    return _table(("trial", *columns), [(int(number), *values) for number, *values in rows])


def _fields(study: Study, best: Trial) -> Iterator[str]:
    """Pictures of the best trial's fields that have one or two axes."""
    for name in best.fields:
        described = study.field(name, best.number)
        values = np.asarray(described.values)
        if values.ndim in (1, 2) and values.size > 1 and values.dtype.kind in "fiu":
            yield f"<h2>{escape(name)} of trial {best.number}</h2>"
            yield f'<img alt="{escape(name)}" src="data:image/png;base64,{_picture(name, values, described)}">'


def _picture(name: str, values: Any, described: Field) -> str:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    axes = [
        np.asarray(described.coords.get(dim, np.arange(n))) for dim, n in zip(described.dims, values.shape, strict=True)
    ]
    labels = [f"{dim} ({unit})" if (unit := described.coord_units.get(dim)) else dim for dim in described.dims]
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    plot = figure.add_subplot()
    label = f"{name} ({described.unit})" if described.unit else name
    if values.ndim == 1:
        plot.plot(axes[0], values, color="#1f4e8c")
        plot.set(xlabel=labels[0], ylabel=label)
        plot.grid(color="#e4e4e4")
    else:
        image = plot.pcolormesh(axes[1], axes[0], values, shading="nearest", cmap="viridis")
        plot.set(xlabel=labels[1], ylabel=labels[0])
        figure.colorbar(image, label=label)
    with io.BytesIO() as file:
        figure.savefig(file, format="png", dpi=120)
        return base64.b64encode(file.getvalue()).decode()


def _origin(study: Study, summary: Mapping[str, Any]) -> str:
    simulator = study.spec["simulator"]
    program = simulator.get("entrypoint") or " ".join(simulator.get("command", ()))
    versions = ", ".join(
        f"{name} {v}"
        for name, v in study.attributes.get("provenance", {}).items()
        if name not in ("simulator", "optimizer")
    )
    rows = [
        ("simulator", program, ""),
        ("optimizer", _optimizer(study), ""),
        *_levels(study),
        ("seed", str(study.spec["seed"]), ""),
        ("store", study.url, ""),
        ("fingerprint", summary["fingerprint"], ""),
        ("versions", versions, ""),
    ]
    return f'<div class="small">{_table(("", "", ""), rows)}</div>'


def _optimizer(study: Study) -> str:
    """What searched; where the study left that open, what was picked."""
    named = str(study.spec["optimizer"]["type"])
    picked = study.attributes.get("provenance", {}).get("optimizer")
    return f"{picked['type']}, picked by auto" if named == "auto" and picked else named


def _levels(study: Study) -> Iterator[tuple[str, str, str]]:
    """How many trials there were at each level of fidelity, and what they cost."""
    counts = Counter(trial.fidelity for trial in study.each() if trial.fidelity is not None)
    if counts:
        listed = ", ".join(f"{count} at {value:g}" for value, count in sorted(counts.items()))
        name = study.spec["fidelity"]["name"]
        yield (name, f"{listed}; together as costly as {study.cost:.6g} at {max(counts):g}", "")


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    numeric = [any(isinstance(row[i], int | float) for row in rows) for i in range(len(head))]
    kinds = [' class="number"' if each else "" for each in numeric]  # a name stands above its numbers
    top = "".join(f"<th{kind}>{escape(each)}</th>" for kind, each in zip(kinds, head, strict=True)) if any(head) else ""
    body = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>" if top else f"<table>{body}</table>"


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):  # a parameter that the trial does not have
        return "<td></td>"
    if isinstance(value, float):
        return f'<td class="number">{value:.6g}</td>'
    return f'<td class="number">{value}</td>' if isinstance(value, int) else f"<td>{escape(str(value))}</td>"
