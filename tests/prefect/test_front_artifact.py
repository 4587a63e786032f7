"""What Prefect shows of a study with several objectives: its front, and the hypervolume of it."""

import base64
import json
import xml.etree.ElementTree as ET

from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowRunFilter, FlowRunFilterName

from prefect_simopt.api import load_study
from prefect_simopt.flows.optimize import optimize
from prefect_simopt.report.front import front_of

TWO = """
def trade(x, y):
    return {"drag": x + y**2, "weight": (1 - x) ** 2 + y**2}
"""


def artifacts(client, name):
    runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=[name])))
    mine = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id for run in runs]))
    found = client.read_artifacts(artifact_filter=mine)
    return [{each.key: each for each in found if each.flow_run_id == run.id} for run in runs]


def test_the_front_is_an_artifact_with_its_picture_and_hypervolume(client, designs, study):
    (designs / "trade.py").write_text(TWO)
    document = study(
        "traded",
        simulator={"type": "python", "entrypoint": "trade.py:trade", "directory": str(designs)},
        objectives=[{"metric": "drag"}, {"metric": "weight"}],
        optimizer={"type": "nsga2", "population": 10},
    )
    optimize(study=document)
    optimize(study=document)  # it has ended, and is shown once more
    front = front_of(load_study(f"{document['store']['url']}/traded"))
    both = artifacts(client, "traded")
    assert len(both) == 2
    for found in both:
        shown = found["traded-front"]
        assert shown.description == f"traded: {len(front.trials)} trials on the front; {front.sentence()}"
        picture = ET.fromstring(base64.b64decode(shown.data.partition(",")[2]))
        dots = [each for each in picture.iter("{http://www.w3.org/2000/svg}circle") if each.get("r") == "3.5"]
        assert len(dots) == len(front.trials)
        assert front.sentence() in found["traded-report"].data
        rows = json.loads(found["traded-best"].data)
        assert sorted(row["trial"] for row in rows) == sorted(trial.number for trial in front.trials)
