"""What `simopt run` and `simopt simulate` do, with Prefect and without."""

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefect_simopt.api import check_answer, resolved
from prefect_simopt.console import DONE, FAILED, again, print_summary
from prefect_simopt.errors import NoStudyError, SimoptError, SpecError, StudyInterrupted
from prefect_simopt.loop import Ending
from prefect_simopt.session import (
    StudyFinished,
    local_compute,
    open_session,
    stop_if_finished,
    study_location,
    watchers,
)
from prefect_simopt.spec import StudySpec
from prefect_simopt.specfile import make_spec, parse_value
from prefect_simopt.study import Study, open_study
from prefect_simopt.summary import summarize
from prefect_simopt.terminal import Terminal

__all__ = ["run_study", "simulate_once"]

_SERVER_HINT = (
    "PREFECT_API_URL is not set, so Prefect starts a temporary server, which takes about ten seconds. Two ways around"
    " it: a server that stays (`make up`, or `prefect server start` and the URL that it prints), or --untracked."
)


def run_study(arguments: argparse.Namespace, spec: StudySpec) -> int:
    """Run or resume a study and print its summary; returns the exit code."""
    spec, options = resolved(spec)
    hint = again()
    if arguments.new is not None:
        spec = _renamed(spec, options, arguments.new)
        hint = again(spec.name)
    try:
        stop_if_finished(spec, study_location(spec, options))  # before Prefect is imported
        if arguments.untracked:
            _run_untracked(spec, options, arguments.wait, hint)
        else:
            _run_tracked(spec, arguments.wait, hint)
    except StudyFinished as finished:
        ending = finished.study.ending.replace("_", " ")
        print(
            f"this study is finished ({ending}); below is what came of it then. After a change of the simulator: --new"
            " asks again",
            file=sys.stderr,
        )
        print_summary(summarize(finished.study), as_json=arguments.json)
        check_answer(finished.study)
        return DONE
    with _begun():
        print_summary(summarize(_study(spec, options)), as_json=arguments.json)
    return DONE


@contextmanager
def _begun() -> Iterator[None]:
    """Says of errors inside the block that trials have been run."""
    try:
        yield
    except SimoptError as error:
        error.begun = True
        raise


def _run_untracked(spec: StudySpec, options: Mapping[str, Any], wait: float, hint: str) -> None:
    with Terminal(spec) as terminal:
        with open_session(spec, options=options, listener=terminal, wait=wait) as session:
            ending = session.search(observers=[terminal])
        terminal.say(f"{spec.name}: {ending}")
    if ending is Ending.INTERRUPTED:
        raise StudyInterrupted(f"interrupted; what had ended is recorded. To go on: {hint}")
    with _begun():
        check_answer(_study(spec, options))


def _run_tracked(spec: StudySpec, wait: float, hint: str) -> None:
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "400")
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "ERROR")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")  # for a server that lives for seconds
    from prefect.settings import get_current_settings

    from prefect_simopt.flows.optimize import optimize

    if not get_current_settings().api.url:  # neither in the environment nor in the profile
        print(_SERVER_HINT, file=sys.stderr, flush=True)
    with Terminal(spec) as terminal:
        token = watchers.set([terminal])
        try:
            optimize(study=spec, wait=wait)
        except StudyInterrupted as error:
            raise StudyInterrupted(f"{error}: {hint}") from None
        except RuntimeError as error:
            if "API" not in str(error):  # of the temporary server, or of the one that was named
                raise
            raise SimoptError(f"Prefect's server does not answer: {error} Go without it: --untracked") from None
        finally:
            watchers.reset(token)


def simulate_once(arguments: argparse.Namespace, spec: StudySpec) -> int:
    """Run the simulator once, at the given point, and print what came of it; nothing is recorded."""
    import orjson

    from prefect_simopt.seeds import derive_seed
    from prefect_simopt.storage import StudyLocation
    from prefect_simopt.trial import Run, Status

    point = _point(spec, arguments.param)
    with tempfile.TemporaryDirectory(prefix="simopt-") as scratch:
        compute = local_compute(spec, workers=1)
        try:
            compute.start()
            compute.attach(StudyLocation(str(Path(scratch) / "study"), {}), 1)
            (outcome,) = compute.submit([Run(0, point, derive_seed(spec.seed, 0))]).result()
        finally:
            compute.close()
    document = {
        "parameters": point,
        "status": outcome.status.name.lower(),
        "metrics": dict(outcome.metrics),
        "fields": dict(outcome.fields),
        "seconds": outcome.seconds,
    }
    if outcome.status is not Status.COMPLETE:
        document |= {"reason": str(outcome.reason), "message": outcome.message, "output": outcome.output}
    if arguments.json:
        print(orjson.dumps(document).decode())
    else:
        for name, value in outcome.metrics.items():
            print(f"{name} = {value:.10g}")
    if outcome.status is not Status.COMPLETE:
        print(f"simopt: the simulator failed ({outcome.reason}): {outcome.message}\n{outcome.output}", file=sys.stderr)
        return FAILED
    return DONE


def _point(spec: StudySpec, assignments: list[str]) -> dict[str, Any]:
    """The values of all parameters that there are, checked against the space."""
    fidelity = spec.fidelity
    exactness: dict[str, Any] = {} if fidelity is None else {fidelity.name: fidelity.keyword(fidelity.high)}
    parameters = [*(parameter.name for parameter in spec.space), *exactness]
    point: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or name not in parameters:
            raise SpecError(
                f"--param takes NAME=VALUE with a name of the space ({', '.join(parameters)}), not {assignment!r}"
            )
        point[name] = parse_value(text, f"--param {name}")
    if fidelity is not None and fidelity.name in point:
        exactness = {fidelity.name: fidelity.check(point.pop(fidelity.name))}
    space = spec.make_space()
    try:
        point = space.check(point)
    except SpecError as error:
        raise SpecError([replace(each, path=f"--param {each.path}") for each in error.problems]) from None
    if space.violation(space.encode([point]))[0] > 0:
        raise SpecError(f"--param: the point violates a relation of the space ({'; '.join(spec.relations)})")
    return point | exactness


def _study(spec: StudySpec, options: Mapping[str, Any]) -> Study:
    return open_study(study_location(spec, options).url, options)


def _renamed(spec: StudySpec, options: Mapping[str, Any], name: str) -> StudySpec:
    """The spec under the given name, or under the next free one: bowl-2, bowl-3 and so on."""
    stem, number = re.sub(r"-\d+$", "", spec.name), 1
    while not name:
        candidate = f"{stem}-{number}" if number > 1 else spec.name
        if _is_free(spec, options, candidate):
            name = candidate
        number += 1
    renamed = make_spec({**spec.document(), "name": name}, "--new")
    if not _is_free(spec, options, name):
        raise SpecError(
            f"--new: there is a study {name} already. To go on with it: {again(name)}; for a free name: --new alone"
        )
    return renamed


def _is_free(spec: StudySpec, options: Mapping[str, Any], name: str) -> bool:
    try:
        _study(spec.model_copy(update={"name": name}), options)
    except NoStudyError:
        return True
    return False
