"""How a simulator gets from the flow's process to its own: as a description, or a function by value."""

import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from prefect_simopt.errors import SimulatorError
from prefect_simopt.simulators.config import SimulatorConfig
from prefect_simopt.simulators.identity import digest_of_code

__all__ = ["SimulatorInfo", "describe", "portable"]


@dataclass(frozen=True)
class SimulatorInfo:
    """What is known of a simulator once it has started.

    Attributes:
        identity: SHA-256 over everything of it that determines results.
        batch: rows in each call, 0 for one trial at a time.
        differentiable: whether gradients may be asked for.
        revision: commit that its program was built from; empty without `source`.
    """

    identity: str
    batch: int = 0
    differentiable: bool = False
    revision: str = ""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """Out of what a host says when it has loaded the simulator."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in document.items() if name in known})


def describe(simulator: SimulatorConfig, function: Callable[..., Any] | None) -> tuple[dict[str, Any], bytes]:
    """What the simulators' processes are told of a simulator, and the pickled function that goes with it.

    Raises:
        SimulatorError: its directory is missing, or the function cannot be sent.
    """
    document = simulator.model_dump(mode="json")
    directory = Path(document.get("directory") or ".").expanduser().absolute()
    if not directory.is_dir():
        raise SimulatorError(f"simulator: its directory {directory} does not exist; correct `directory`")
    document["directory"] = str(directory.resolve())
    blob, code = b"", ""
    if function is not None:
        document["entrypoint"], blob, code = portable(function)
    path = [entry or str(Path.cwd()) for entry in sys.path]
    return {"simulator": document, "code": code, "path": path}, blob


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
