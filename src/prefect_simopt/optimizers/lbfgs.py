"""Limited-memory BFGS in a box, for many searches at once: directions only, without a line search.

J. Nocedal, S. J. Wright, "Numerical Optimization", 2nd edition (2006), section 7.2; coordinates that a bound holds are
left out of the recursion, as in D. P. Bertsekas, SIAM Journal on Control and Optimization 20 (1982) 221-246.
"""

import numpy as np
import numpy.typing as npt

__all__ = ["first_step", "free", "newton_step"]

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_CURVATURE = 1e-12  # of a pair, relative to its length, below which it says nothing


def free(x: Array, g: Array) -> Mask:
    """Which coordinates a step down the gradient can move, shape (n, d): not those that a bound of [0, 1] holds."""
    held: Mask = ((x <= 0.0) & (g > 0.0)) | ((x >= 1.0) & (g < 0.0))
    return ~held


def first_step(g: Array, able: Mask, step: float) -> Array:
    """Steepest descent whose longest coordinate is `step`, shape (n, d); 0 where the gradient is."""
    p = np.where(able, -g, 0.0)
    longest = np.abs(p).max(axis=1, keepdims=True, initial=0.0)
    return np.asarray(step * p / np.where(longest > 0.0, longest, 1.0))


def newton_step(g: Array, s: Array, y: Array, able: Mask) -> Array:
    """The two-loop recursion, algorithm 7.4.

    Args:
        g: gradients of the n searches, shape (n, d).
        s: steps of the last m moves, oldest first, shape (n, m, d); 0 where there was none.
        y: changes of the gradient, likewise.
        able: coordinates that may move, shape (n, d).

    Returns:
        p = -H g, shape (n, d), 0 in coordinates that may not move; -0 where no pair is of use.
    """
    q, s, y = np.where(able, g, 0.0), np.where(able[:, None], s, 0.0), np.where(able[:, None], y, 0.0)
    sy, yy = (s * y).sum(axis=2), (y * y).sum(axis=2)
    sound = sy > _CURVATURE * np.sqrt((s * s).sum(axis=2) * yy)
    rho = np.where(sound, 1.0 / np.where(sound, sy, 1.0), 0.0)  # (7.17)
    alpha = np.zeros_like(rho)
    for i in range(s.shape[1] - 1, -1, -1):
        alpha[:, i] = rho[:, i] * (s[:, i] * q).sum(axis=1)
        q = q - alpha[:, i, None] * y[:, i]
    # H0 = gamma I with gamma of the newest pair that is sound, (7.20).
    newest = s.shape[1] - 1 - np.argmax(sound[:, ::-1], axis=1)
    rows = np.arange(len(g))
    gamma = np.where(sound.any(axis=1), sy[rows, newest] / np.where(yy[rows, newest] > 0, yy[rows, newest], 1.0), 0.0)
    r = gamma[:, None] * q
    for i in range(s.shape[1]):
        beta = rho[:, i] * (y[:, i] * r).sum(axis=1)
        r = r + s[:, i] * (alpha[:, i] - beta)[:, None]
    return np.where(able, -r, 0.0)
