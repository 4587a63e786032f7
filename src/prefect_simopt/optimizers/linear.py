"""Linear algebra on one thread."""

import sys
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

__all__ = ["one_thread"]


def one_thread() -> AbstractContextManager[Any]:
    """A context in which BLAS and LAPACK use one thread.

    How sums are rounded depends on the number of threads, and so would the points of a search on the number of cores.
    The matrices are small besides: more threads take three times as long, and their cores from the simulators.
    """
    limited: AbstractContextManager[Any] = _libraries("scipy.linalg" in sys.modules).limit(limits=1, user_api="blas")
    return limited


@cache
def _libraries(scipy: bool) -> Any:  # noqa: ARG001 - scipy brings a BLAS of its own, which is found once it is loaded
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
