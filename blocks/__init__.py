"""What people configure once and pick in Prefect's UI.

`StudyStore` is imported when it is first used: it needs prefect-aws, which takes a second to import. Prefect itself
asks for it through an entry point of its own, where it looks for block types and imports prefect-aws anyway.
"""

from typing import TYPE_CHECKING, Any

from prefect_simopt.blocks.simulators import CommandSimulatorBlock, ContainerSimulatorBlock, PythonSimulatorBlock

if TYPE_CHECKING:
    from prefect_simopt.blocks.store import StudyStore as StudyStore

__all__ = ["CommandSimulatorBlock", "ContainerSimulatorBlock", "PythonSimulatorBlock", "StudyStore"]


def __getattr__(name: str) -> Any:
    if name != "StudyStore":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from prefect_simopt.blocks.store import StudyStore

    return StudyStore


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
