"""What `simopt suggest`, `narrow`, `extend`, `pause` and `resume` do: put a request into a study's store."""

import argparse
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from prefect_simopt.api import load_study
from prefect_simopt.errors import Problem, SpecError
from prefect_simopt.requests import make_request, pending, submit
from prefect_simopt.space import Categorical
from prefect_simopt.spec import StudySpec
from prefect_simopt.specfile import parse_value
from prefect_simopt.steering import Kind, Steering
from prefect_simopt.study import Study

__all__ = ["ask", "ask_study", "print_request"]


def print_request(arguments: argparse.Namespace) -> None:
    """Ask what the command line says, and print what becomes of it.

    Raises:
        SpecError: the study cannot do that; nothing was written.
        StoreError: there is no such study, or its store cannot be written.
    """
    study = load_study(arguments.study)
    kind: Kind = arguments.kind
    names = [each["name"] for each in study.spec["space"]]
    content: dict[str, Any] = {}
    if kind == "suggest":
        content["points"] = _points(arguments.param, names) + (_read_points(arguments.file) if arguments.file else [])
    elif kind == "narrow":
        content["bounds"] = _bounds(arguments.param, StudySpec.model_validate(study.spec))
    elif kind == "extend":
        content |= {name: getattr(arguments, name) for name in ("trials", "cost", "wall_time")}
    (answer,) = ask_study(study, [(kind, content)])
    print(orjson.dumps(answer).decode() if arguments.json else f"{study.name}: {answer['message']}")


def ask(url: str, kind: Kind, content: Mapping[str, Any] | None = None, *, agent: str = "") -> dict[str, Any]:
    """Ask something of a study, which runs or rests.

    Args:
        url: the study's folder or URL.
        kind: what is asked for: suggest, narrow, extend, pause or resume.
        content: what goes with it, see `Request`.
        agent: who asks; left out: the user of this process.

    Returns:
        `name`, `kind`, `request` (by which the ledger knows it; empty when there was nothing to ask for), `state`
        (pending or unchanged), `running` (whether the study is), and a `message`.

    Raises:
        SpecError: the study cannot do that; nothing was written.
        StoreError: there is no such study, or its store cannot be written.
    """
    (answer,) = ask_study(load_study(url), [(kind, content or {})], agent=agent)
    return answer


def ask_study(
    study: Study, wishes: Sequence[tuple[Kind, Mapping[str, Any]]], *, agent: str = ""
) -> list[dict[str, Any]]:
    """As `ask`, of a study that was opened, for several things in order: for all of them, or for none."""
    storage, spec = study.location.storage(), StudySpec.model_validate(study.spec)
    space = spec.make_space()
    steering = Steering.of(study.attributes)
    waiting = [each for _, each in pending(storage) if each is not None]
    for each in waiting:  # which come first
        try:
            steering = steering.after(each, space, spec.budget)
        except SpecError:  # it will be refused
            continue
    running, answers, requests = study.state == "running", [], []
    for kind, content in wishes:
        request = make_request(kind, {name: value for name, value in content.items() if value is not None}, agent)
        before, steering = steering, steering.after(request, space, spec.budget)
        answer = {"name": study.name, "kind": kind, "request": "", "state": "unchanged", "running": running}
        if kind in ("pause", "resume") and bool(steering.paused) == bool(before.paused):
            paused = f"is paused already ({before.paused})"
            answers.append({**answer, "message": paused if kind == "pause" else "is not paused; nothing is changed"})
            continue
        when = _when(study, steering, spec, running=running, paused=bool(before.paused))
        message = f"{request.sentence}; {when}"
        answers.append({**answer, "request": request.token, "state": "pending", "message": message})
        requests.append(request)
    for request in requests:
        submit(storage, request)
    return answers


def _when(study: Study, steering: Steering, spec: StudySpec, *, running: bool, paused: bool) -> str:
    if running:
        return "the paused search takes it up now" if paused else "the search takes it up when its generation has ended"
    budget, before = steering.budget(spec.budget), Steering.of(study.attributes).budget(spec.budget)
    used_up = study.counts["total"] >= budget.trials or (study.ending == "budget" and budget == before)
    option = "--trials N" if budget.cost is None else "--cost C"
    hint = f"; its budget is used up: `simopt extend {study.url} {option}` makes room" if used_up else ""
    return f"it is taken up when the study is run again{hint}"


def _assignments(texts: Sequence[str], names: Sequence[str]) -> list[tuple[str, str]]:
    found = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in names:
            known = ", ".join(names)
            raise SpecError(f"--param takes NAME=VALUE with a name of the space ({known}), not {text!r}")
        found.append((name, value))
    return found


def _points(texts: Sequence[str], names: Sequence[str]) -> list[dict[str, Any]]:
    """The points of the command line: a name that comes again begins the next one."""
    points: list[dict[str, Any]] = []
    for name, text in _assignments(texts, names):
        if not points or name in points[-1]:
            points.append({})
        points[-1][name] = parse_value(text, f"--param {name}")
    return points


def _bounds(texts: Sequence[str], spec: StudySpec) -> dict[str, list[Any]]:
    """The bounds of the command line: LOW:HIGH, LOW:, :HIGH, or one value that is to stay."""
    parameters = {parameter.name: parameter for parameter in spec.space}
    bounds: dict[str, list[Any]] = {}
    for name, text in _assignments(texts, list(parameters)):
        parameter = parameters[name]
        if name in bounds:
            raise SpecError([Problem(f"--param {name}", "is given twice")])
        if isinstance(parameter, Categorical) or ":" not in text:
            bounds[name] = [parse_value(text, f"--param {name}")] * 2
            continue
        low, _, high = text.partition(":")
        bounds[name] = [
            parse_value(end, f"--param {name}") if end.strip() else known
            for end, known in ((low, parameter.low), (high, parameter.high))
        ]
    return bounds


def _read_points(path: str) -> list[dict[str, Any]]:
    """The points of a file: a JSON list of objects, or CSV whose first line has the parameters' names."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise SpecError(f"--file {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if path.lower().endswith(".json"):
        try:
            document = orjson.loads(text)
        except ValueError as error:
            raise SpecError(f"--file {path} is no JSON: {error}") from None
        listed = document if isinstance(document, list) else [document]
        if not all(isinstance(each, dict) for each in listed):
            raise SpecError(f"--file {path} must hold a list of objects, each with a value for every parameter")
        return listed
    try:
        rows = list(csv.DictReader(text.splitlines(), strict=True))
    except csv.Error as error:
        raise SpecError(f"--file {path} is no CSV: {error}") from None
    if any(None in row or None in row.values() for row in rows):
        raise SpecError(f"--file {path}: every line needs as many values as the first one has names")
    return [
        {name.strip(): parse_value(value, f"{path}, {name}") for name, value in row.items() if value.strip()}
        for row in rows
    ]
