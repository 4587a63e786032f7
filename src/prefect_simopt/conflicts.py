"""Whether a spec asks what a stored study asks, and what has changed if not."""

from collections.abc import Iterable
from typing import Any

from prefect_simopt.errors import StudyConflictError
from prefect_simopt.hierarchy import study_attributes
from prefect_simopt.spec import StudySpec
from prefect_simopt.storage import Storage

__all__ = ["refuse_conflict"]


def refuse_conflict(storage: Storage, spec: StudySpec) -> dict[str, Any] | None:
    """The attributes of the study that is there, if it asks the same question; None where there is none.

    Raises:
        StudyConflictError: it asks another question.
        StoreError: the store cannot be read.
    """
    attributes = study_attributes(storage)
    if attributes is None:
        return None
    try:
        stored = StudySpec.model_validate(attributes["spec"])
    except ValueError:
        raise StudyConflictError(
            f"{storage.url} was written by a version of simopt whose spec this one does not read; "
            "give the study another name"
        ) from None
    changes = list(_changes(stored.question, spec.question))
    if spec.budget.trials < stored.budget.trials:
        changes.append(f"budget.trials was {stored.budget.trials} and is {spec.budget.trials} (it may only grow)")
    if changes:
        shown = "; ".join(changes[:5]) + (f"; and {len(changes) - 5} more" if len(changes) > 5 else "")
        raise StudyConflictError(
            f"{storage.url} holds a study that asks another question: {shown}. Give this one another "
            "name (`new` finds one), or undo the change to go on with that one."
        )
    return attributes


def _changes(old: Any, new: Any, path: str = "") -> Iterable[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys([*old, *new]):
            yield from _changes(old.get(name), new.get(name), f"{path}.{name}" if path else name)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _changes(before, after, f"{path}[{i}]")
    elif old != new:
        yield f"{path} was {_shown(old)} and is {_shown(new)}"


def _shown(value: Any) -> str:
    text = "left out" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
