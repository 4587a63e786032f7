"""The flow as a plain Python function: what it returns, what it raises, and what Prefect shows of it."""

import json
import os
import signal
import subprocess
import sys
import threading
from contextvars import copy_context

import httpx
import pytest
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterName,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.states import Cancelling
from waiting import eventually

from prefect_simopt.api import load_study, run_untracked
from prefect_simopt.errors import LeaseError, SimulatorError, SpecError, StudyFailedError, StudyInterrupted
from prefect_simopt.flows.optimize import optimize
from prefect_simopt.flows.simulate import simulate
from prefect_simopt.lease import is_held
from prefect_simopt.specfile import make_spec
from prefect_simopt.storage import StudyLocation


def flow_runs(client, name):
    return client.read_flow_runs(flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=[name])))


def logs_of(client, run):
    return client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id])))


def is_held_by_one(document):
    return is_held(StudyLocation(f"{document['store']['url']}/{document['name']}").storage())


def untracked_fingerprint(document, store):
    spec = make_spec({**document, "store": {"url": str(store)}})
    run_untracked(spec)
    return load_study(store / spec.name).fingerprint()


def test_the_flow_gives_the_summary_of_the_same_study_as_without_prefect(client, study, tmp_path):
    document = study("same")
    summary = optimize(study=document)
    assert summary["trials"] == {"complete": 60, "failed": 0, "cached": 0, "total": 60}
    assert summary["fingerprint"] == untracked_fingerprint(document, tmp_path / "elsewhere")
    (run,) = flow_runs(client, "same")
    assert run.state.is_completed()
    assert "best is trial" in run.state.message


def test_a_finished_study_returns_at_once(client, study, tmp_path):
    document = study("ended", trials=20)
    summary = optimize(study=document)
    before = (tmp_path / "studies/ended/ledger/000000.jsonl").read_bytes()
    (tmp_path / "designs.py").unlink()  # no simulator is started
    assert optimize(study=make_spec(document)) == summary
    assert (tmp_path / "studies/ended/ledger/000000.jsonl").read_bytes() == before
    messages = [run.state.message for run in flow_runs(client, "ended")]
    assert sum("it had ended before" in message for message in messages) == 1


def test_a_study_that_another_run_writes_is_refused_or_waited_for(client, study):
    document = study("shared", "slow", trials=60)
    here = copy_context()  # says which server is ours
    first = threading.Thread(target=lambda: here.run(optimize, study=document))
    first.start()
    assert eventually(lambda: is_held_by_one(document))
    with pytest.raises(LeaseError, match="is being written by process"):
        optimize(study=document)
    summary = optimize(study=document, wait=120)
    first.join()
    assert summary["trials"]["complete"] == 60
    assert eventually(lambda: any("This one waits for it" in log.message
                                  for run in flow_runs(client, "shared") for log in logs_of(client, run)))  # fmt: skip


def test_what_the_core_warns_of_is_in_the_log_of_the_run(client, study, tmp_path):
    document = study("changed", trials=20)
    optimize(study=document)
    with (tmp_path / "designs.py").open("a") as file:
        file.write("# changed\n")
    optimize(study={**document, "budget": {"trials": 40, "failures": 1}})
    assert eventually(
        lambda: any("the simulator has changed" in log.message
                    for run in flow_runs(client, "changed") for log in logs_of(client, run))
    )  # fmt: skip


@pytest.mark.usefixtures("house")
def test_asked_anew_it_takes_the_next_free_name(study):
    document = study("anew", trials=20)
    names = [optimize(study=document, new=True)["name"] for _ in range(3)]
    assert names == ["anew", "anew-2", "anew-3"]


def test_artifacts_show_how_far_it_is_the_best_trials_and_a_picture(client, study):
    summary = optimize(study=study("Shown.here", trials=40))
    (run,) = flow_runs(client, "Shown.here")
    mine = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
    found = {each.key: each for each in client.read_artifacts(artifact_filter=mine) if each.key}
    kinds = {key: each.type for key, each in found.items()}
    assert kinds == {
        "shown-here-progress": "progress",
        "shown-here-best": "table",
        "shown-here-convergence": "image",
        "shown-here-report": "markdown",
    }
    assert float(found["shown-here-progress"].data) == 100
    rows = json.loads(found["shown-here-best"].data)
    assert len(rows) == 10
    assert rows[0]["trial"] == summary["best"]["trial"]
    assert [row["value"] for row in rows] == sorted(row["value"] for row in rows)
    assert found["shown-here-convergence"].data.startswith("data:image/svg+xml;base64,")
    assert summary["fingerprint"] in found["shown-here-report"].data


def test_the_log_tells_of_the_start_of_generations_and_of_failures(client, study):
    optimize(study=study("told", "partial"))
    (run,) = flow_runs(client, "told")
    mine = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id]))

    def lines():
        found = [log.message for log in client.read_logs(log_filter=mine, limit=200)]
        return found if any(line.startswith("Finished in state Completed('told") for line in found) else None

    found = "\n".join(eventually(lines))
    assert "study told: minimize value by pso over x, y; up to 60 trials, 2 at a time" in found
    assert "generation 0: 10 of 60 trials" in found
    assert "failed (exception): ValueError: x is too large" in found
    assert "looking at" in found


def test_events_arrive_and_an_automation_acts_on_them(house, study):
    automation = {
        "name": "celebrate",
        "trigger": {
            "type": "event",
            "posture": "Reactive",
            "expect": ["simopt.study.completed"],
            "match": {"prefect.resource.id": "simopt.study.heard"},
            "threshold": 1,
            "within": 0,
        },
        "actions": [{"type": "do-nothing"}],
    }
    made = httpx.post(f"{house}/automations/", json=automation)
    assert made.status_code == 201, made.text
    optimize(study=study("heard", "partial"))

    def events(prefix, resource):
        query = {"event": {"prefix": [prefix]}, "any_resource": {"id": [resource]}, "occurred": {}}
        answer = httpx.post(f"{house}/events/filter", json={"filter": query, "limit": 50})
        return {each["event"]: each for each in answer.json()["events"]}

    names = {"study.started", "generation.completed", "trial.failed", "study.completed"}
    heard = eventually(lambda: len(found := events("simopt.", "simopt.study.heard")) == 4 and found)
    assert set(heard) == {f"simopt.{name}" for name in names}
    assert heard["simopt.trial.failed"]["payload"]["message"] == "ValueError: x is too large"
    assert heard["simopt.study.completed"]["payload"]["state"] == "complete"
    assert "flow-run" in {each["prefect.resource.role"] for each in heard["simopt.study.completed"]["related"]}
    acted = eventually(lambda: events("prefect.automation.triggered", f"prefect.automation.{made.json()['id']}"))
    assert acted


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"space": [], "seed": -1}, SpecError, "space"),
        ({"simulator": {"entrypoint": "designs.py:nothing"}}, SimulatorError, "nothing"),
        ({"budget": {"trials": 30, "failures": 0.2}}, StudyFailedError, "no licence"),
    ],
)
def test_what_is_wrong_is_raised_and_is_the_final_state(client, study, changes, error, message):
    name = f"wrong-{error.__name__}"
    changes = {**changes, "simulator": {**study("x", "broken")["simulator"], **changes.get("simulator", {})}}
    with pytest.raises(error, match=message):
        optimize(study=study(name, **changes))
    (run,) = flow_runs(client, name)
    assert run.state.is_failed()
    assert message in run.state.message
    assert 'Traceback (most recent call last):\n  File "/' not in run.state.message.replace(
        str(designs_of(changes)), ""
    )


def designs_of(changes):
    return changes["simulator"]["directory"]


def test_cancelled_through_the_api_it_stops_and_goes_on_when_run_again(client, study, tmp_path):
    document = study("stopped", "slow", trials=300)

    def cancel():
        run = eventually(lambda: [run for run in flow_runs(client, "stopped") if run.state.is_running()])[0]
        client.set_flow_run_state(run.id, Cancelling())

    canceller = threading.Timer(2.0, cancel)
    canceller.start()
    with pytest.raises(StudyInterrupted, match="run it again"):
        optimize(study=document)
    canceller.join()
    (run,) = flow_runs(client, "stopped")
    assert run.state.is_cancelled()
    there = load_study(f"{document['store']['url']}/stopped")
    assert 0 < there.counts["total"] < 300
    summary = optimize(study=document)
    assert summary["trials"]["complete"] == 300
    fast = {**document, "simulator": {**document["simulator"], "entrypoint": "designs.py:bowl"}}
    assert summary["fingerprint"] == untracked_fingerprint(fast, tmp_path / "elsewhere")


def test_a_signal_stops_it_and_what_had_ended_is_kept(house, study, tmp_path):
    document = study("signalled", "slow", trials=2000)
    code = (
        "import json, sys\n"
        "from prefect_simopt.errors import StudyInterrupted\n"
        "from prefect_simopt.flows.optimize import optimize\n"
        "try:\n    optimize(study=json.loads(sys.argv[1]))\n"
        "except StudyInterrupted:\n    sys.exit(130)\n"
    )
    settings = {"PREFECT_API_URL": house, "PREFECT_HOME": str(tmp_path)}
    child = subprocess.Popen([sys.executable, "-c", code, json.dumps(document)], env={**os.environ, **settings})
    store = f"{document['store']['url']}/signalled"
    assert eventually(lambda: os.path.exists(f"{store}/status/c/0"))  # noqa: PTH110
    child.send_signal(signal.SIGTERM)
    assert child.wait(60) == 130
    there = load_study(store)
    assert there.state == "interrupted"
    assert 0 < there.counts["complete"] < 2000


def test_given_points_are_simulated_in_their_order(client, study):
    points = [{"x": 1.0, "y": 2.0}, {"x": 1.5, "y": 0.0}, {"x": 1.0, "y": 2.0}]
    summary = simulate(study=study("grid"), points=points)
    assert summary["best"] == {"trial": 1, "parameters": points[1], "metrics": {"value": 0.25}}
    there = load_study(f"{summary['store']}/{summary['name']}")
    assert there.trials[["x", "y"]].to_dict("records") == points
    assert [run.state.name for run in flow_runs(client, "grid")] == ["Completed"]


@pytest.mark.usefixtures("house")
def test_points_outside_of_the_space_are_refused_all_at_once(study):
    with pytest.raises(SpecError) as refused:
        simulate(study=study("outside"), points=[{"x": 9.0, "y": 0.0}, {"x": 0.0, "z": 1.0}])
    assert [problem.path for problem in refused.value.problems] == ["points[0].x", "points[1].z", "points[1].y"]
