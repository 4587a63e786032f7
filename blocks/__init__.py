"""What people configure once and pick in Prefect's UI.

Names are imported when they are first used: `StudyStore` needs prefect-aws, which takes a second to import. Prefect
itself asks for it through an entry point of its own, at the start of a server or a worker, which import prefect-aws
anyway.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect_simopt.blocks.simulators import CommandSimulatorBlock as CommandSimulatorBlock
    from prefect_simopt.blocks.simulators import PythonSimulatorBlock as PythonSimulatorBlock
    from prefect_simopt.blocks.store import StudyStore as StudyStore

_HOMES = {"CommandSimulatorBlock": "simulators", "PythonSimulatorBlock": "simulators", "StudyStore": "store"}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
