"""Evaluate one batch of a study."""

from typing import Any

from prefect import flow

from prefect_simopt.tasks.batch import run_batch

__all__ = ["evaluate"]


@flow(
    description="Runs the simulations of one batch. Studies whose compute is this work pool start it themselves.",
    validate_parameters=False,
    persist_result=False,
)
def evaluate(study: str, batch: str, block: str | None = None) -> Any:
    """Run the simulations of one batch where this flow run is: in a pod of a work pool. Studies start it themselves.

    Args:
        study: Address of the study.
        batch: Which of its batches: the name of an object in the study's store.
        block: Name of the StudyStore block with the credentials; left out, those of the place itself.

    Returns:
        Nothing but its state: outcomes and fields are in the store.
    """
    return run_batch(study, batch, block)
