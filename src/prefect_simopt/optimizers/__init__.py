"""Optimizers behind one ask/tell interface. Names are imported when they are first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect_simopt.optimizers.base import Optimizer
    from prefect_simopt.optimizers.config import OptimizerConfig
    from prefect_simopt.optimizers.make import make_optimizer, optimizer_from_state
    from prefect_simopt.optimizers.state import dump_state, load_state

__all__ = ["Optimizer", "OptimizerConfig", "dump_state", "load_state", "make_optimizer", "optimizer_from_state"]

_HOMES = {
    "Optimizer": "base",
    "OptimizerConfig": "config",
    "dump_state": "state",
    "load_state": "state",
    "make_optimizer": "make",
    "optimizer_from_state": "make",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
