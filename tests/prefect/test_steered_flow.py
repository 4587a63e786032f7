"""A study steered from Prefect's UI: paused with a form, resumed by it, each request told as an event."""

import httpx
import pytest
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.deployments import run_deployment
from prefect.states import Paused, Suspended
from waiting import eventually

from prefect_simopt.api import load_study, run_untracked
from prefect_simopt.asking import ask
from prefect_simopt.showing import requests_of
from prefect_simopt.specfile import make_spec


def paused(client, run, beside=()):
    """The run's Paused state, once there is one that is not beside."""

    def look():
        state = client.read_flow_run(run.id).state
        assert not state.is_final(), state.message
        return state if state.is_paused() and state.id not in beside else None

    return eventually(look, seconds=150)


def running(client, document):
    """A run of the deployment that has begun, and where its study is."""
    run = run_deployment("optimize/optimize", parameters={"study": document}, timeout=0)
    assert eventually(lambda: (state := client.read_flow_run(run.id).state).is_running() and state, seconds=150)
    return run, f"{document['store']['url']}/{document['name']}"


def final(client, run):
    return eventually(lambda: (state := client.read_flow_run(run.id).state).is_final() and state, seconds=150)


def lines(client, run):
    logs = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id])))
    return "\n".join(line.message for line in logs)


def test_a_review_pauses_the_run_and_the_form_steers_it(client, house, study):
    document = study("reviewed", "slow", trials=60)
    run = run_deployment("optimize/optimize", parameters={"study": document, "review": 2}, timeout=0)
    store = f"{document['store']['url']}/reviewed"
    state = paused(client, run)
    told = load_study(store).counts["total"]
    assert 20 <= told < 60
    keys = state.state_details.run_input_keyset
    form = httpx.get(f"{house}/flow_runs/{run.id}/input/{keys['schema']}").json()
    assert set(form["properties"]) == {"points", "bounds", "trials", "cost", "wall_time", "agent"}
    assert "flow run reviewed" in client.read_flow_run_input(run.id, keys["description"])

    # What cannot be done is told, and the run is paused again.
    client.resume_flow_run(run.id, run_input={"points": [{"x": 99, "y": 0}], "trials": 70})
    again = paused(client, run, beside=[state.id])
    keys = again.state_details.run_input_keyset
    assert "outside the space" in client.read_flow_run_input(run.id, keys["description"])
    assert load_study(store).counts["total"] == told
    assert "extend" not in [each["kind"] for each in requests_of(load_study(store))["requests"]["applied"]]

    answer = {"points": [{"x": 1.5, "y": 0.5}], "bounds": [{"name": "y", "low": -1, "high": 1}], "trials": 80}
    client.resume_flow_run(run.id, run_input={**answer, "agent": "ann"})
    seen = [state.id, again.id]
    while (state := eventually(lambda: next_state(client, run, seen), seconds=150)).is_paused():
        seen.append(state.id)
        client.resume_flow_run(run.id)  # the next review: nothing to say
    assert state.is_completed(), state.message
    done = load_study(store)
    trials = done.trials
    assert len(trials) == 80
    assert (trials["x"][told], trials["y"][told]) == (1.5, 0.5)
    assert trials["y"][told:].between(-1, 1).all()
    applied = [(each["kind"], each["agent"]) for each in requests_of(done)["requests"]["applied"]]
    assert applied[0] == ("pause", "flow run reviewed")
    assert [kind for kind, agent in applied if agent == "ann"] == ["narrow", "suggest", "extend", "resume"]
    assert "ann narrows y to -1 to 1" in eventually(lambda: lines(client, run))

    def events():
        query = {"event": {"prefix": ["simopt.request."]}, "resource": {"id": ["simopt.study.reviewed"]}}
        found = httpx.post(f"{house}/events/filter", json={"filter": query, "limit": 50}).json()["events"]
        return {each["payload"]["kind"]: each["event"] for each in found}

    kinds = {"pause", "resume", "narrow", "suggest", "extend"}
    assert eventually(lambda: kinds <= set(events())), events()


def next_state(client, run, seen):
    state = client.read_flow_run(run.id).state
    return state if state.is_final() or (state.is_paused() and state.id not in seen) else None


@pytest.mark.slow
def test_what_is_paused_on_the_command_line_is_paused_in_prefect_and_resumed_there_or_here(client, study):
    document = study("held", "slow", trials=100)
    run = run_deployment("optimize/optimize", parameters={"study": document}, timeout=0)
    store = f"{document['store']['url']}/held"

    def begun():
        try:
            return load_study(store).counts["total"] > 0
        except OSError:
            return False

    assert eventually(begun, seconds=150)
    ask(store, "pause", agent="bob@lab")
    assert "bob@lab" in paused(client, run).message
    ask(store, "resume")
    assert final(client, run).is_completed()
    assert load_study(store).counts["total"] == 100


@pytest.mark.slow
def test_a_suspended_flow_run_stops_and_goes_on_when_it_is_resumed(client, study, tmp_path):
    document = study("suspended", "sluggish", trials=30)
    run, store = running(client, document)
    client.set_flow_run_state(run.id, Suspended())

    def stopped():
        try:
            return load_study(store).state == "interrupted"
        except OSError:
            return False

    assert eventually(stopped), client.read_flow_run(run.id).state
    assert client.read_flow_run(run.id).state.name == "Suspended"
    ended = load_study(store).counts["complete"]
    assert ended < 30
    client.resume_flow_run(run.id)
    assert final(client, run).is_completed()
    run_untracked(make_spec({**document, "store": {"url": str(tmp_path / "elsewhere")}}))
    assert load_study(store).fingerprint() == load_study(tmp_path / "elsewhere" / "suspended").fingerprint()


@pytest.mark.slow
def test_a_run_that_is_paused_through_prefect_pauses_its_study_and_the_form_goes_on(client, study):
    document = study("outside", "sluggish", trials=30)
    run, store = running(client, document)
    client.set_flow_run_state(run.id, Paused())

    def adopted():
        state = client.read_flow_run(run.id).state
        return state if state.is_paused() and state.state_details.run_input_keyset else None

    assert eventually(adopted, seconds=150), client.read_flow_run(run.id).state
    told = load_study(store).counts["total"]
    assert told < 30
    client.resume_flow_run(run.id, run_input={"trials": 34})
    assert final(client, run).is_completed()
    assert load_study(store).counts["total"] == 34
