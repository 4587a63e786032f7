"""Search for the best parameters of a simulator."""

from typing import Any

from prefect import flow

from prefect_simopt.errors import SimoptError
from prefect_simopt.spec import StudySpec
from prefect_simopt.tasks.report import report
from prefect_simopt.tasks.sweep import sweep_children
from prefect_simopt.tasks.tracking import failed, study_name, tracked_session

__all__ = ["optimize"]


@flow(
    description="Searches for the best parameters of a simulator. The form below is the study: its simulator, its "
    "space, its optimizer and its budget. Running the same study again goes on where it stopped.",
    flow_run_name=study_name,
    validate_parameters=False,
    persist_result=True,
    result_serializer="json",
    on_crashed=[sweep_children],
    on_cancellation=[sweep_children],
)
def optimize(study: StudySpec, new: bool = False, wait: float = 0.0, review: int = 0) -> Any:
    """Search for the best parameters of a simulator; running the same study again goes on where it stopped.

    Args:
        study: The question: which simulator, what may vary, what counts, and for how long to search.
        new: Ask anew, under the next free name, instead of going on with the study of this name.
        wait: Seconds to wait while another run writes this study; 0 refuses at once.
        review: Pause after every so many generations, until somebody resumes the run, with a form that takes points,
            narrower bounds and a larger budget; 0 never pauses.

    Returns:
        The summary: state, counts, best trial, where the study is, its fingerprint.

    Raises:
        SpecError: the question is wrong; nothing was run.
        SimulatorError, StudyConflictError, LeaseError: the study cannot be run as it is; nothing was run.
        StoreError: the store failed; what it held is whole.
        StudyFailedError: too many trials failed, or none was feasible.
        StudyInterrupted: it was stopped; what had ended is recorded.
    """
    try:
        with tracked_session(study, new=new, wait=wait, review=review) as session:
            session.search()
        return session.conclude(report(session.study, session.board))
    except SimoptError as error:
        return failed(error)
