"""Sobol sequence: fills the space more evenly than random points, for any number of points."""

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from prefect_simopt.optimizers.config import SobolConfig
from prefect_simopt.optimizers.sampler import Sampler
from prefect_simopt.space import Space

__all__ = ["Sobol"]

_MAX_DIMENSIONS = 21_201  # of the direction numbers


class Sobol(Sampler):
    """The sequence of I. M. Sobol (1967) with the direction numbers of Joe and Kuo and a random scramble.

    S. Joe, F. Y. Kuo, "Constructing Sobol sequences with better two-dimensional projections", SIAM Journal on
    Scientific Computing 30 (2008) 2635-2654; J. Matousek, "On the L2-discrepancy for anchored boxes", Journal of
    Complexity 14 (1998) 527-556 (left matrix scramble and digital shift). Computed by `scipy.stats.qmc.Sobol`.
    """

    config_type: ClassVar[type[SobolConfig]] = SobolConfig

    def __init__(self, config: Any, space: Space, seed: int = 7, objectives: int = 1, batch: int = 16) -> None:
        if space.dimensions > _MAX_DIMENSIONS:
            raise ValueError(
                f"sobol takes up to {_MAX_DIMENSIONS} parameters, not {space.dimensions}; take lhs or random"
            )
        super().__init__(config, space, seed, objectives, batch)
        self._sequence: Any = None

    def _block(self, number: int) -> npt.NDArray[np.float64]:
        from scipy.stats import qmc  # takes longer to import than all the rest

        if self._sequence is None or self._sequence.num_generated != number * self._length:
            rng = np.random.Generator(np.random.PCG64(self.seed))
            self._sequence = qmc.Sobol(self.space.dimensions, scramble=True, rng=rng)
            if number:
                self._sequence.fast_forward(number * self._length)
        return np.asarray(self._sequence.random(self._length))
