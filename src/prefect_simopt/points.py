"""A study that simulates given points instead of searching."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from prefect_simopt.errors import SpecError
from prefect_simopt.optimizers import make_optimizer
from prefect_simopt.spec import StudySpec
from prefect_simopt.specfile import make_spec

__all__ = ["at_points"]


def at_points(study: StudySpec, points: Sequence[Mapping[str, Any]]) -> StudySpec:
    """The study that simulates these points once, as many trials, in their order.

    Its name is that of `study` and a digest of the points: other points are another study.

    Args:
        study: says with which simulator, in which space, and where to.
        points: each a value for every parameter.

    Raises:
        SpecError: a point lacks a parameter, has an unknown one, or is outside the space or its relations.
    """
    digest = hashlib.sha256(orjson.dumps(list(points), option=orjson.OPT_SORT_KEYS)).hexdigest()[:8]
    document = study.document()
    document |= {
        "name": f"{study.name[:80]}-points-{digest}",
        "optimizer": {"type": "points", "points": [dict(point) for point in points]},
        "budget": {"trials": max(len(points), 1), "failures": 1.0},
    }
    try:
        spec = make_spec(document)
        make_optimizer(spec.optimizer, spec.make_space(), objectives=len(spec.objectives))
    except SpecError as error:
        raise SpecError([replace(each, path=each.path.removeprefix("optimizer.")) for each in error.problems]) from None
    return spec
