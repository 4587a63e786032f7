"""What `simopt show` prints: a study, one trial of it, or what a store holds."""

import argparse
from collections.abc import Iterator
from typing import Any

from prefect_simopt.api import load_study
from prefect_simopt.console import print_summary
from prefect_simopt.errors import NoStudyError, SpecError, StoreError
from prefect_simopt.report.front import front_of
from prefect_simopt.requests import pending, taken_up
from prefect_simopt.steering import Request, Steering
from prefect_simopt.storage import StudyLocation
from prefect_simopt.study import Study
from prefect_simopt.summary import summarize
from prefect_simopt.trial import Trial

__all__ = ["requests_of", "show"]


def show(arguments: argparse.Namespace) -> None:
    """Print how the named study stands, or what was asked for of it.

    Raises:
        SpecError: it has no such trial.
        StoreError: there is neither a study nor a store of studies.
    """
    try:
        study = load_study(arguments.study)
    except NoStudyError:
        if arguments.trial is not None or not (studies := list(_studies(arguments.study))):
            raise
        for each in studies:
            print_summary(summarize(each), as_json=arguments.json)
        return
    if arguments.trial is not None:
        _show_trial(study, arguments.trial, as_json=arguments.json)
        return
    if not arguments.json:
        for line in _remarks(study):
            print(line)
        if (front := front_of(study)) is not None:
            print(front.text())
    waiting = {"waiting": study.waiting} if study.waiting else {}
    print_summary(summarize(study) | waiting | requests_of(study), as_json=arguments.json)


def requests_of(study: Study) -> dict[str, Any]:
    """What people have asked of a study, as a JSON document; empty when they have not.

    Returns:
        `requests`: those `pending`, `applied` and `refused`, each a list in order; `paused`: by whom and since when.
    """
    steering, storage = Steering.of(study.attributes), study.location.storage()
    records = list(taken_up(storage, steering.requests))[::-1]
    known = {record["used"]["token"] for record in records}
    found: dict[str, list[dict[str, Any]]] = {"pending": [], "applied": [], "refused": []}
    for record in records:
        refused, note = record["generated"]["refused"], record["generated"]["note"]
        found["refused" if refused else "applied"].append(_request(Request.from_json(record["used"]), refused or note))
    waiting = [request for _, request in pending(storage) if request is not None and request.token not in known]
    found["pending"] = [_request(request) for request in waiting]
    document: dict[str, Any] = {"requests": found} if records or waiting else {}
    return document | ({"paused": steering.paused} if steering.paused else {})


def _request(request: Request, note: str = "") -> dict[str, Any]:
    facts = {"request": request.token, "kind": request.kind, **request.content}
    facts |= {"agent": request.agent, "at": request.at, "text": request.sentence}
    return facts | ({"note": note} if note else {})


def _studies(url: str) -> Iterator[Study]:
    """The studies of a store."""
    for name in StudyLocation(url, {}).storage().folders():
        try:
            yield load_study(f"{url.rstrip('/')}/{name}")
        except StoreError:
            continue


def _remarks(study: Study) -> Iterator[str]:
    """What the one line of the summary does not say."""
    if study.verdict:
        yield study.verdict
    if study.waiting:
        who = "the search takes" if study.state == "running" else "the study's next run takes"
        yield f"complete runs that are not recorded yet: {study.waiting}; {who} them up"
    requests = requests_of(study)
    for state in ("applied", "refused", "pending"):
        for each in requests.get("requests", {}).get(state, ()):
            note = each.get("note", "")
            yield f"{state}: {each['text']}, {each['at']}" + (f"; {note}" if note else "")
    if "paused" in requests:
        yield f"paused by {requests['paused']}; `simopt resume {study.url}` goes on"
    if len(versions := study.attributes.get("simulators", ())) > 1:
        yield (
            f"its trials come from {len(versions)} versions of the simulator, which changed between two runs; "
            "`simopt run --new` asks the one of now alone"
        )


def _show_trial(study: Study, number: int, *, as_json: bool) -> None:
    try:
        trial = study.trial(number)
    except KeyError:
        raise SpecError(f"{study.name} has no trial {number}; it has {study.counts['total']}, from 0") from None
    document = _document(trial, study.printed(number))
    if as_json:
        import orjson

        print(orjson.dumps(document).decode())
        return
    for key, value in document.items():
        if isinstance(value, dict):
            for name, each in value.items():
                print(f"{key}.{name} = {each}")
        elif key == "printed":
            print(f"printed:\n{value}", end="")
        else:
            print(f"{key} = {value}")


def _document(trial: Trial, printed: str) -> dict[str, Any]:
    document: dict[str, Any] = {
        "trial": trial.number,
        "status": trial.status.name.lower(),
        "parameters": dict(trial.parameters),
        "metrics": dict(trial.metrics),
        "standard_errors": dict(trial.errors),
        "fields": dict(trial.fields),
        "fidelity": "" if trial.fidelity is None else trial.fidelity,
        "generation": trial.generation,
        "seed": trial.seed,
        "seconds": trial.seconds,
        "cached": trial.cached,
        "reason": str(trial.reason or ""),
        "message": trial.message,
        "printed": printed,
    }
    return {key: value for key, value in document.items() if value not in ("", {})}
