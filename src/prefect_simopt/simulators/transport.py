"""How a function of the flow's process gets to the simulators' processes: by its name, or by value."""

import importlib.util
import sys
from collections.abc import Callable
from typing import Any

from prefect_simopt.errors import SimulatorError
from prefect_simopt.simulators.identity import digest_of_code

__all__ = ["portable"]


def portable(function: Callable[..., Any]) -> tuple[str, bytes, str]:
    """How to send a function: an entrypoint, or else its pickled form with a digest of its code.

    Raises:
        SimulatorError: it refers to something that cannot be sent, such as an open file or a lock.
    """
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if module and name and module != "__main__" and _find(module, name) is function:
        return f"{module}:{name}", b"", ""
    import cloudpickle

    try:
        return f"function:{name or 'object'}", cloudpickle.dumps(function), digest_of_code(function)
    except Exception as error:  # noqa: BLE001 - any object may be captured, and fail in its own way
        raise SimulatorError(
            f"the function {name or function!r} cannot be sent to the simulator's process: {error}; "
            "make what it refers to inside the function, or put the function into a module"
        ) from None


def _find(module: str, name: str) -> Any:
    """What the name stands for in a module that another process can import; None where it cannot."""
    found: Any = sys.modules.get(module)
    if getattr(found, "__spec__", None) is None or importlib.util.find_spec(module) is None:
        return None
    for part in name.split("."):
        found = getattr(found, part, None)
    return found
