"""Run a simulator once at each of some given points."""
from typing import Any
from prefect import flow
from prefect_simopt.spec import StudySpec
@flow
def simulate(study: StudySpec, points: list[dict[str, Any]]) -> Any:
    """Run a simulator once at each of the given points."""
