"""Uniform random sampling: the measure of every other optimizer."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from prefect_simopt.optimizers.config import RandomConfig
from prefect_simopt.optimizers.sampler import Sampler

__all__ = ["Random"]


class Random(Sampler):
    """Independent points, uniform over the space; over a finite one, without replacement.

    J. Bergstra, Y. Bengio, "Random search for hyper-parameter optimization", Journal of Machine Learning Research 13
    (2012) 281-305.
    """

    config_type: ClassVar[type[RandomConfig]] = RandomConfig

    def _block(self, number: int) -> npt.NDArray[np.float64]:
        return self._block_rng(number).random((self._length, self.space.dimensions))
