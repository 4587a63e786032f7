"""What reports say of the metrics that count."""

from prefect_simopt.report.wanted import wanted
from prefect_simopt.specfile import make_spec


def test_a_metric_is_told_all_that_is_wanted_of_it():
    spec = make_spec({
        "name": "wing",
        "simulator": {"entrypoint": "wing.py:polar"},
        "space": [{"name": "angle", "low": 0, "high": 12}],
        "objectives": [{"metric": "drag", "target": 0.0}, {"metric": "lift", "direction": "maximize"}],
        "constraints": [{"metric": "lift", "low": 0.5}, {"metric": "mass", "low": 1, "high": 2.5}],
    })  # fmt: skip
    assert wanted(spec.document()) == {
        "drag": "minimize, target 0", "lift": "maximize, at least 0.5", "mass": "at least 1, at most 2.5",
    }  # fmt: skip
    assert wanted(spec.model_dump(mode="json")) == wanted(spec.document())
