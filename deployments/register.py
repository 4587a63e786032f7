"""Registers our flows as deployments on a work pool, from any folder: what `prefect.yaml` says, without the file.

    python -m prefect_simopt.deployments.register simopt optimize simulate evaluate

The first word is the work pool.
"""

import argparse
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from prefect import Flow
from prefect.deployments.runner import RunnerDeployment
from prefect.runner.storage import LocalStorage
from prefect.types.entrypoint import EntrypointType

__all__ = ["main", "register"]


def register(pool: str, flows: Sequence[str], folder: Path) -> None:
    """Create deployments named after their flows, or bring them up to date.

    Args:
        pool: work pool whose workers have this package.
        flows: names of the flows.
        folder: which relative paths in a study start from.

    Raises:
        DeploymentApplyError: there is no such pool.
    """
    for name in flows:
        flow: Flow[..., object] = getattr(import_module(f"prefect_simopt.flows.{name}"), name)
        deployment = RunnerDeployment.from_flow(
            flow, name, tags=["simopt"], work_pool_name=pool, entrypoint_type=EntrypointType.MODULE_PATH
        )
        deployment.storage = LocalStorage(str(folder))
        deployment.apply()


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m prefect_simopt.deployments.register", description=__doc__.split("\n")[0]
    )
    parser.add_argument("pool", help="name of the work pool")
    parser.add_argument("flows", nargs="+", metavar="FLOW", choices=["optimize", "simulate", "evaluate"])
    parser.add_argument("--folder", type=Path, default=Path(), help="which relative paths in a study start from")
    given = parser.parse_args(arguments)
    register(given.pool, given.flows, given.folder.resolve())


if __name__ == "__main__":
    main()
