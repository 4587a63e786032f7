"""Simulators as blocks: described once, and run by many studies."""

from copy import copy
from typing import Any

from pydantic import BaseModel, JsonValue

from prefect_simopt.blocks.base import DOCUMENTATION, LOGO, Block
from prefect_simopt.simulators.config import (
    CommandSimulator,
    ContainerSimulator,
    FieldSource,
    MetricSource,
    PythonSimulator,
    SourceRevision,
)

__all__ = ["CommandSimulatorBlock", "ContainerSimulatorBlock", "PythonSimulatorBlock"]


def _as_in(model: type[BaseModel], name: str) -> Any:
    """The default and the description that the field has in a study spec."""
    return copy(model.model_fields[name])


class PythonSimulatorBlock(Block):
    """A Python function to be called with one keyword argument for each parameter.

    Example:
        Use a stored simulator in a study:
        ```python
        from prefect_simopt import Float, optimize
        from prefect_simopt.blocks import PythonSimulatorBlock

        wing = PythonSimulatorBlock.load("BLOCK_NAME")
        study = optimize(wing.simulator(), space=[Float("angle", 0, 15)], name="wing")
        ```
    """

    _block_type_name = "Python Simulator"
    _logo_url = LOGO
    _documentation_url = DOCUMENTATION
    _description = "A Python function that studies of prefect-simopt call as their simulator."

    entrypoint: str = _as_in(PythonSimulator, "entrypoint")
    arguments: dict[str, JsonValue] = _as_in(PythonSimulator, "arguments")
    environment: dict[str, str] = _as_in(PythonSimulator, "environment")
    directory: str | None = _as_in(PythonSimulator, "directory")

    def simulator(self) -> dict[str, Any]:
        """The `simulator` of a study spec.

        Raises:
            pydantic.ValidationError: the entrypoint is not `module:function` or `path/to/file.py:function`.
        """
        return _document(PythonSimulator, self)


class CommandSimulatorBlock(Block):
    """Any program, run in a directory of each trial's own and never through a shell.

    Example:
        Use a stored simulator in a study:
        ```python
        from prefect_simopt import Float, optimize
        from prefect_simopt.blocks import CommandSimulatorBlock

        solver = CommandSimulatorBlock.load("BLOCK_NAME")
        study = optimize(solver.simulator(), space=[Float("angle", 0, 15)], name="wing")
        ```
    """

    _block_type_name = "Command Simulator"
    _logo_url = LOGO
    _documentation_url = DOCUMENTATION
    _description = "A program that studies of prefect-simopt run as their simulator."

    command: list[str] = _as_in(CommandSimulator, "command")
    files: list[str] = _as_in(CommandSimulator, "files")
    templates: dict[str, str] = _as_in(CommandSimulator, "templates")
    environment: dict[str, str] = _as_in(CommandSimulator, "environment")
    metrics: list[MetricSource] = _as_in(CommandSimulator, "metrics")
    fields: list[FieldSource] = _as_in(CommandSimulator, "fields")
    source: SourceRevision | None = _as_in(CommandSimulator, "source")
    directory: str | None = _as_in(CommandSimulator, "directory")

    def simulator(self) -> dict[str, Any]:
        """The `simulator` of a study spec.

        Raises:
            pydantic.ValidationError: a path leaves the trial's directory, or two metrics have the same name.
        """
        return _document(CommandSimulator, self)


class ContainerSimulatorBlock(Block):
    """Any program in an image that knows neither Prefect nor this project, run on a Kubernetes work pool.

    Example:
        Use a stored simulator in a study:
        ```python
        from prefect_simopt import Float, optimize
        from prefect_simopt.blocks import ContainerSimulatorBlock

        foam = ContainerSimulatorBlock.load("BLOCK_NAME")
        study = optimize(foam.simulator(), space=[Float("angle", 0, 15)], compute={"pool": "kubernetes"}, name="wing")
        ```
    """

    _block_type_name = "Container Simulator"
    _logo_url = LOGO
    _documentation_url = DOCUMENTATION
    _description = "A program in an image that studies of prefect-simopt run as their simulator, in pods."

    image: str = _as_in(ContainerSimulator, "image")
    command: list[str] = _as_in(ContainerSimulator, "command")
    user: int | None = _as_in(ContainerSimulator, "user")
    files: list[str] = _as_in(ContainerSimulator, "files")
    templates: dict[str, str] = _as_in(ContainerSimulator, "templates")
    environment: dict[str, str] = _as_in(ContainerSimulator, "environment")
    metrics: list[MetricSource] = _as_in(ContainerSimulator, "metrics")
    fields: list[FieldSource] = _as_in(ContainerSimulator, "fields")
    directory: str | None = _as_in(ContainerSimulator, "directory")

    def simulator(self) -> dict[str, Any]:
        """The `simulator` of a study spec.

        Raises:
            pydantic.ValidationError: a path leaves the trial's directory, or two metrics have the same name.
        """
        return _document(ContainerSimulator, self)


def _document(model: type[BaseModel], block: Block) -> dict[str, Any]:
    given = {name: getattr(block, name) for name in model.model_fields if name != "type"}
    return model.model_validate(given).model_dump(mode="json", exclude_none=True)
