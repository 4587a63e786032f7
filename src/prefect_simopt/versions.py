"""Versions of the code and packages that a study was made with."""

import platform
from importlib.metadata import PackageNotFoundError, version

__all__ = ["provenance"]

_PACKAGES = ("prefect-simopt", "numpy", "zarr", "jax", "scipy", "prefect")


def provenance() -> dict[str, str]:
    """What ran: Python's, the machine's and the packages' versions, without importing any of them."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
