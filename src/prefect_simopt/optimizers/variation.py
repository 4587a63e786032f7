"""The two operators of real-coded genetic algorithms, with uniform random numbers given."""

import numpy as np
import numpy.typing as npt

__all__ = ["crossed", "polynomial"]

Array = npt.NDArray[np.float64]


def crossed(a: Array, b: Array, u: Array, eta: float) -> Array:
    """Simulated binary crossover: the child near `a`, all of shape (n, d), with distribution index eta.

    K. Deb, R. B. Agrawal, "Simulated binary crossover for continuous search space", Complex Systems 9 (1995) 115-148:

        (1)  beta = (2u)^(1/(eta + 1)) if u <= 1/2, else (1 / (2 (1 - u)))^(1/(eta + 1))
        (2)  child = ((1 + beta) a + (1 - beta) b) / 2
    """
    beta = np.where(u <= 0.5, 2.0 * u, 0.5 / (1.0 - u)) ** (1.0 / (eta + 1.0))  # (1)
    return 0.5 * ((1.0 + beta) * a + (1.0 - beta) * b)  # (2)


def polynomial(u: Array, eta: float) -> Array:
    """Polynomial mutation: steps of the shape of `u`, as shares of a parameter's range, with distribution index eta.

    K. Deb, M. Goyal, "A combined genetic adaptive search (GeneAS) for engineering design", Computer Science and
    Informatics 26 (1996) 30-45:

        (3)  delta = (2u)^(1/(eta + 1)) - 1 if u < 1/2, else 1 - (2 (1 - u))^(1/(eta + 1))
    """
    power = 1.0 / (eta + 1.0)
    return np.where(u < 0.5, (2.0 * u) ** power - 1.0, 1.0 - (2.0 * (1.0 - u)) ** power)  # (3)
