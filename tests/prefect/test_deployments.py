"""What `make up` starts: deployments with a form and schedules, and a worker that runs and cancels them."""

import subprocess
import threading
from datetime import timedelta
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId, FlowRunFilter, FlowRunFilterState
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments import run_deployment
from prefect.states import Cancelling
from prefect.types._datetime import now
from waiting import eventually

from prefect_simopt.api import load_study, run_untracked
from prefect_simopt.deployments.local import _home, up
from prefect_simopt.specfile import make_spec


def start(document):
    return run_deployment("optimize/optimize", parameters={"study": document}, timeout=0)


def ended(client, run):
    def look():
        found = client.read_flow_run(run.id)
        return found if found.state.is_final() else None

    return eventually(look, seconds=150)


def test_up_again_changes_nothing(house, state):
    before = {name: (state / f"{name}.json").read_text() for name in ("server", "worker")}
    assert up(state, deploy=()) == house
    assert {name: (state / f"{name}.json").read_text() for name in before} == before


def test_a_server_is_known_by_its_folder(house, state):
    """So that one of somebody else's, which has taken the port first, is not used."""
    assert _home(house) == state / "prefect"
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        assert _home(f"http://127.0.0.1:{other.server_port}/api") is None
        other.shutdown()


def test_deployments_are_those_of_prefect_yaml_and_runs_start_in_the_present_folder(client, state):
    entries = yaml.safe_load((Path(__file__).parents[2] / "prefect.yaml").read_text())["deployments"]
    ours = {each["name"]: each for each in entries if each["work_pool"]["name"] == "simopt"}
    assert len(ours) == 3
    for name, entry in ours.items():
        found = client.read_deployment_by_name(f"{name}/{name}")
        assert (found.entrypoint, found.tags, found.work_pool_name) == (entry["entrypoint"], entry["tags"], "simopt")
        assert found.description.startswith(("Runs ", "Searches "))
        (step,) = found.pull_steps
        assert step["prefect.deployments.steps.set_working_directory"] == {"directory": str(state.resolve())}


def test_every_union_of_the_form_has_tabs_and_every_tag_a_default(client):
    schema = client.read_deployment_by_name("optimize/optimize").parameter_openapi_schema
    definitions = schema["definitions"]
    unions = [definitions["StudySpec"]["properties"][name] for name in ("simulator", "optimizer")]
    unions.append(definitions["StudySpec"]["properties"]["space"]["items"])
    for union in unions:
        assert "oneOf" not in union
        for choice in union["anyOf"]:
            model = definitions[choice["$ref"].rpartition("/")[2]]
            assert model["properties"]["type"]["const"] == model["properties"]["type"]["default"]
    assert {"study", "new", "wait", "review"} == set(schema["properties"])
    assert schema["required"] == ["study"]


def test_a_scheduled_deployment_has_its_next_runs(client):
    deployment = client.read_deployment_by_name("simulate/simulate")
    schedule = CronSchedule(cron="0 3 * * 1", timezone="UTC")
    client.create_deployment_schedules(deployment.id, [(schedule, True)])
    only = DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))
    waiting = FlowRunFilter(state=FlowRunFilterState(type={"any_": ["SCHEDULED"]}))
    runs = eventually(lambda: client.read_flow_runs(deployment_filter=only, flow_run_filter=waiting))
    first = min(run.expected_start_time for run in runs)
    assert (first.weekday(), first.hour, first.minute) == (0, 3, 0)
    assert timedelta(0) < first - now("UTC") <= timedelta(days=7)


def test_a_run_of_the_deployment_is_the_same_study(client, study, tmp_path):
    document = study("deployed")
    run = ended(client, start(document))
    assert (run.name, run.state.name) == ("deployed", "Completed"), run.state.message
    spec = make_spec({**document, "store": {"url": str(tmp_path / "elsewhere")}})
    run_untracked(spec)
    there = load_study(f"{document['store']['url']}/deployed")
    assert there.fingerprint() == load_study(tmp_path / "elsewhere" / "deployed").fingerprint()


@pytest.mark.slow
def test_queued_requests_are_all_run(client, study):
    documents = [study(f"queued-{number % 3}", trials=20) for number in range(8)]
    parameters = [{"study": document, "wait": 200} for document in documents]
    runs = [run_deployment("optimize/optimize", parameters=each, timeout=0) for each in parameters]
    states = [ended(client, run).state for run in runs]
    assert [state.name for state in states] == ["Completed"] * 8, states
    assert sum("it had ended before" in state.message for state in states) == 5
    for document in documents:
        assert load_study(f"{document['store']['url']}/{document['name']}").counts["complete"] == 20


@pytest.mark.slow
def test_cancelled_under_a_worker_it_keeps_what_ended_and_goes_on_later(client, study):
    document = study("cancelled", "slow", trials=200)
    store = f"{document['store']['url']}/cancelled"
    run = start(document)

    def some_trials():
        try:
            return load_study(store).counts["complete"] > 20
        except OSError:
            return None

    assert eventually(some_trials, seconds=150)
    client.set_flow_run_state(run.id, Cancelling())
    assert ended(client, run).state.name == "Cancelled"
    there = load_study(store)
    assert there.state == "interrupted"
    assert 20 < there.counts["complete"] < 200
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert store not in left
    run = ended(client, start({**document, "compute": {"workers": 2, "retries": 1}}))
    assert run.state.name == "Completed", run.state.message
    assert load_study(store).counts == {"complete": 200, "failed": 0, "cached": 0, "total": 200}
