"""Simulation-based optimization as a first-class Prefect workload.

Names are imported when they are first used, so that a simulator's process or a pod that needs only the core starts at
once: importing this package imports neither Prefect nor JAX, nor even NumPy.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect_simopt.api import load_study as load_study
    from prefect_simopt.api import optimize as optimize
    from prefect_simopt.simulators.contract import Context as Context
    from prefect_simopt.simulators.contract import Field as Field
    from prefect_simopt.simulators.contract import Result as Result
    from prefect_simopt.simulators.contract import simulator as simulator
    from prefect_simopt.space import Categorical as Categorical
    from prefect_simopt.space import Float as Float
    from prefect_simopt.space import Int as Int
    from prefect_simopt.space import Space as Space
    from prefect_simopt.spec import Constraint as Constraint
    from prefect_simopt.spec import Objective as Objective
    from prefect_simopt.spec import StudySpec as StudySpec
    from prefect_simopt.study import Study as Study

_HOMES = {
    "Categorical": "prefect_simopt.space",
    "Constraint": "prefect_simopt.spec",
    "Context": "prefect_simopt.simulators.contract",
    "Field": "prefect_simopt.simulators.contract",
    "Float": "prefect_simopt.space",
    "Int": "prefect_simopt.space",
    "Objective": "prefect_simopt.spec",
    "Result": "prefect_simopt.simulators.contract",
    "Space": "prefect_simopt.space",
    "Study": "prefect_simopt.study",
    "StudySpec": "prefect_simopt.spec",
    "load_study": "prefect_simopt.api",
    "optimize": "prefect_simopt.api",
    "simulator": "prefect_simopt.simulators.contract",
}

# `prefect block register -m prefect_simopt` looks for blocks among what `dir` names; they are no part of `import *`,
# which must work without Prefect.
_BLOCKS = ("CommandSimulatorBlock", "ContainerSimulatorBlock", "PythonSimulatorBlock", "StudyStore")

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    elif name in _BLOCKS:
        value = getattr(importlib.import_module("prefect_simopt.blocks"), name)
    elif name == "__version__":
        from importlib.metadata import version

        value = version("prefect-simopt")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_BLOCKS})
