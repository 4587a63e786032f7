"""The memory that pods get: more for later ones, once one has run out of it."""

import math

from prefect_simopt.compute_config import WorkPoolComputeConfig, quantity
from prefect_simopt.tasks.pace import Logger

__all__ = ["PodMemory"]


class PodMemory:
    """Grows by the spec's factor, up to its limit.

    Args:
        config: of the spec.
        logger: of the study's flow run.

    Attributes:
        size: what the next pod gets, such as `16Gi`; None for the pool's own default, which stays.
    """

    def __init__(self, config: WorkPoolComputeConfig, logger: Logger) -> None:
        self.size = config.memory
        self._config, self._logger = config, logger

    def grow(self, had: str | None) -> None:
        """A pod has run out of the memory that it had. It has grown already where that one was started before."""
        size, most = self.size, self._config.memory_max
        if size is None or had != size:
            return
        if most is None or quantity(size) >= quantity(most):
            self._logger.warning("a pod ran out of memory with %s; raise compute.memory or compute.memory_max", size)
            return
        self.size = f"{math.ceil(min(quantity(size) * self._config.memory_factor, quantity(most)) / 2**20)}Mi"
        self._logger.warning("a pod ran out of memory with %s: later ones get %s", size, self.size)
