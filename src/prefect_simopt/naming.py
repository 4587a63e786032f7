"""Names for studies that ask anew."""

import re
from collections.abc import Mapping
from typing import Any

from prefect_simopt.errors import NoStudyError
from prefect_simopt.session import study_location
from prefect_simopt.spec import StudySpec
from prefect_simopt.study import open_study

__all__ = ["under_free_name"]


def under_free_name(spec: StudySpec, options: Mapping[str, Any] | None = None) -> StudySpec:
    """The spec under its own name or, where its store has a study of it, under the next free one: bowl-2, bowl-3.

    Args:
        spec: the question.
        options: how to reach the store.
    """
    stem, number = re.sub(r"-\d+$", "", spec.name), 1
    while True:
        location = study_location(spec, options)
        try:
            open_study(location.url, location.options)
        except NoStudyError:
            return spec
        number += 1
        spec = spec.model_copy(update={"name": f"{stem}-{number}"})
