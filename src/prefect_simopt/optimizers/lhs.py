"""Latin hypercube sampling: every slice along every parameter holds one point."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from prefect_simopt.optimizers.config import LHSConfig
from prefect_simopt.optimizers.lattice import latin_hypercube
from prefect_simopt.optimizers.sampler import Sampler

__all__ = ["LHS"]


class LHS(Sampler):
    """Hypercubes of `points` points, or of one generation each, one after the other.

    M. D. McKay, R. J. Beckman, W. J. Conover, "A comparison of three methods for selecting values of input variables
    in the analysis of output from a computer code", Technometrics 21 (1979) 239-245.
    Relations and used points leave gaps in a hypercube; the next one goes on.
    """

    config_type: ClassVar[type[LHSConfig]] = LHSConfig

    @property
    def _length(self) -> int:
        return int(self.config.points or self.batch)

    def _block(self, number: int) -> npt.NDArray[np.float64]:
        return latin_hypercube(self._length, self.space.dimensions, self._block_rng(number))
