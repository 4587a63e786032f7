"""Simulate given points."""

from typing import Any

from prefect import flow

from prefect_simopt.errors import SimoptError
from prefect_simopt.points import at_points
from prefect_simopt.spec import StudySpec
from prefect_simopt.tasks.report import report
from prefect_simopt.tasks.sweep import sweep_children
from prefect_simopt.tasks.tracking import as_spec, failed, study_name, tracked_session

__all__ = ["simulate"]


@flow(
    description="Runs a simulator once at each of the given points and records what came of it.",
    flow_run_name=study_name,
    validate_parameters=False,
    persist_result=True,
    result_serializer="json",
    on_crashed=[sweep_children],
    on_cancellation=[sweep_children],
)
def simulate(study: StudySpec, points: list[dict[str, bool | int | float | str]], wait: float = 0.0) -> Any:
    """Run a simulator once at each of the given points; running the same points again goes on where it stopped.

    Args:
        study: Which simulator, in which space. How to search, and for how long, does not matter here.
        points: The points, each a value for every parameter.
        wait: Seconds to wait while another run writes this study; 0 refuses at once.

    Returns:
        The summary: state, counts, best trial, where the study is, its fingerprint.

    Raises:
        SpecError: the study or a point is wrong; nothing was run.
        SimulatorError, StudyConflictError, LeaseError: the study cannot be run as it is; nothing was run.
        StoreError: the store failed; what it held is whole.
        StudyFailedError: no trial was feasible.
        StudyInterrupted: it was stopped; what had ended is recorded.
    """
    try:
        with tracked_session(at_points(as_spec(study), points), wait=wait) as session:
            session.search()
        return session.conclude(report(session.study, session.board))
    except SimoptError as error:
        return failed(error)
