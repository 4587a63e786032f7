"""What a machine offers to simulators that run side by side: cores, threads, GPUs."""

import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["LATE", "available_workers", "worker_environment"]

_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
_GPUS = "CUDA_VISIBLE_DEVICES"
_PREALLOCATE = "XLA_PYTHON_CLIENT_PREALLOCATE"

LATE = frozenset({*_THREADS, _GPUS, _PREALLOCATE})
"""Variables that are read when a library is loaded, so that a running process can still set them for its children."""


def available_workers() -> int:
    """Simulators that this machine runs side by side: one per GPU where there are GPUs, else one per core."""
    return len(visible_gpus(os.environ)) or cores()


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def visible_gpus(environment: Mapping[str, str], devices: str = "/dev") -> list[str]:
    """Names, as CUDA takes them, of the GPUs that programs started from here can use."""
    if _GPUS in environment:
        names = [name.strip() for name in environment[_GPUS].split(",")]
        return [name for name in names if name and name != "-1"]
    count = sum(1 for each in Path(devices).glob("nvidia[0-9]*") if each.name[6:].isdigit())
    return [str(number) for number in range(count)]


def worker_environment(place: int, workers: int, own: Mapping[str, str], base: Mapping[str, str]) -> dict[str, str]:
    """Environment of one worker's processes.

    Args:
        place: which of the workers, from 0.
        workers: how many there are.
        own: variables that the spec sets; they win.
        base: variables of this process; they win over ours, save that each worker gets one of several GPUs.
    """
    environment = dict(base)
    for name in _THREADS:  # the same whatever the number of workers: sums over threads differ in their last bits
        environment.setdefault(name, "1")
    gpus = visible_gpus(base)
    if len(gpus) > 1:
        environment[_GPUS] = gpus[place % len(gpus)]
    if gpus and workers > len(gpus):  # JAX would give three quarters of a GPU's memory to the first process
        environment.setdefault(_PREALLOCATE, "false")
    environment.update(own)
    return environment
