"""Reflection, transmission, absorption and fields of a stack of plane layers, in JAX.

The stack is solved by Parratt's recursion (Phys. Rev. 95, 359, 1954), the form of the transfer-matrix method that
stays finite: a product of transfer matrices holds exp(+Im(kz) d), which overflows in a thick absorbing layer, while
here every exponential is exp(i kz d) with Im(kz) >= 0, which only decays. It costs one complex division a layer.

Conventions: time dependence exp(-i w t), index n + ik with k >= 0, light comes from the first medium. u is the
electric field for s and the magnetic field for p; r and t are ratios of u. With kz the component of the wave vector
along the normal over that of vacuum, and Y = kz (s) or kz / n^2 (p), u and Y u' are continuous at an interface.

Precision: one part in 1e6 of a 0.2 % reflectance is lost in float32, so values are computed in float64, which JAX
allows only in its 64-bit mode. That mode is entered for the call alone and is not left switched on in the caller's
process. Under the caller's own transformation (`jax.grad`, `jax.jit`) the caller's mode rules, because JAX cannot
change it in the middle of one: write `with jax.enable_x64(True):` around it for gradients in float64.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
    "Response",
    "Waves",
    "field_intensity",
    "in_double_precision",
    "intensity",
    "propagate",
    "respond",
    "stack_response",
]

Out = TypeVar("Out")


class Response(NamedTuple):
    """What a stack does to a plane wave; every array has the shape of the wavelengths, W, unless it says otherwise.

    Attributes:
        r: reflection coefficient at the first interface, complex; a ratio of electric (s) or magnetic (p) fields.
        t: transmission coefficient from the first to the last interface, likewise.
        R: reflectance, the fraction of the incident power.
        T: transmittance, the fraction of the incident power that passes the last interface.
        A: absorptance of each layer, shape (L, W), from the power flux at the layer's two faces.
    """

    r: jax.Array
    t: jax.Array
    R: jax.Array
    T: jax.Array
    A: jax.Array


class Waves(NamedTuple):
    """The plane waves in the M = L + 2 media, each of amplitude 1 where the light comes in.

    Attributes:
        permittivity: n^2 of each medium, shape (M, W).
        tangential: kx, the same in all media, shape (W,).
        kz: component of the wave vector along the normal, shape (M, W).
        admittance: Y, shape (M, W).
        forward: u of the forward wave at the top of each medium, shape (M, W).
        backward: u of the backward wave at the bottom of each medium, shape (M, W).
        phase: exp(i kz d) of each medium, 1 for the two outer ones, shape (M, W).
    """

    permittivity: jax.Array
    tangential: jax.Array
    kz: jax.Array
    admittance: jax.Array
    forward: jax.Array
    backward: jax.Array
    phase: jax.Array


def in_double_precision(function: Callable[..., Out], *values: Any) -> Out:
    """`function(*values)` in float64, as NumPy arrays; as JAX sees fit while the caller transforms one of `values`.

    NumPy, because a 64-bit JAX array turns into a 32-bit one at the first touch outside the 64-bit mode.
    """
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values)):
        return function(*values)
    with jax.enable_x64(True):
        return cast("Out", jax.tree.map(np.asarray, function(*values)))


def _normal_component(permittivity: jax.Array, tangential: jax.Array) -> jax.Array:
    """The normal component kz = sqrt(n^2 - kx^2) of the wave that carries power, or decays, away from the source.

    That is the root with Im(kz) >= 0: the principal root, but for a negative zero as imaginary part, which would put
    an evanescent wave on the growing branch.
    """
    root = jnp.sqrt(permittivity - tangential**2 + 0j)
    return jnp.where(root.imag < 0, -root, root)


def propagate(
    indices: jax.Array, thicknesses: jax.Array, wavelengths: jax.Array, angle: jax.Array, polarization: str
) -> Waves:
    """Solve the stack. Plain JAX, to be used inside `jax.jit` and `jax.vmap`; `stack_response` is the easy way.

    Args:
        indices: of the incident medium, the layers and the substrate, shape (L + 2, W).
        thicknesses: of the layers, shape (L,).
        wavelengths: in vacuum, shape (W,).
        angle: of incidence in degrees, shape ().
        polarization: `s` or `p`.
    """
    permittivity = indices**2
    tangential = indices[0].real * jnp.sin(jnp.deg2rad(angle))
    kz = _normal_component(permittivity, tangential)
    admittance = kz if polarization == "s" else kz / permittivity
    above, below = admittance[:-1], admittance[1:]
    r = (above - below) / (above + below)
    t = 2 * above / (above + below)
    inner = jnp.exp(2j * jnp.pi * kz[1:-1] * thicknesses[:, None] / wavelengths)
    outer = jnp.ones_like(kz[:1])
    phase = jnp.concatenate([outer, inner, outer])

    # Upwards: what each interface reflects together with all that lies below it (Parratt 1954, equation 8).
    def reflect(below: jax.Array, interface: tuple[jax.Array, ...]) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        r, t, phase = interface
        echo = below * phase**2
        resonance = 1 + r * echo
        total = (r + echo) / resonance
        return total, (total, t / resonance)

    _, (total, passed) = jax.lax.scan(reflect, jnp.zeros_like(kz[0]), (r, t, phase[1:]), reverse=True)

    # Downwards: the forward wave at the top of each medium.
    def advance(forward: jax.Array, interface: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        phase, passed = interface
        forward = forward * phase * passed
        return forward, forward

    incident = jnp.ones_like(kz[0])
    _, transmitted = jax.lax.scan(advance, incident, (phase[:-1], passed))
    forward = jnp.concatenate([incident[None], transmitted])
    backward = jnp.concatenate([total * forward[:-1] * phase[:-1], jnp.zeros_like(kz[:1])])
    return Waves(permittivity, tangential, kz, admittance, forward, backward, phase)


def _squared(amplitude: jax.Array) -> jax.Array:
    """|z|^2, with a gradient of zero at zero, where that of `abs` is undefined."""
    return amplitude.real**2 + amplitude.imag**2


def respond(waves: Waves) -> Response:
    """Power that `waves` reflect, transmit and leave in each layer."""

    def flux(forward: jax.Array, backward: jax.Array) -> jax.Array:
        layers = waves.admittance[1:-1]
        return jnp.real(layers * (forward - backward) * jnp.conj(forward + backward))

    incident = waves.admittance[0].real
    forward, backward, phase = waves.forward[1:-1], waves.backward[1:-1], waves.phase[1:-1]
    absorbed = flux(forward, backward * phase) - flux(forward * phase, backward)
    r, t = waves.backward[0], waves.forward[-1]
    return Response(
        r=r,
        t=t,
        R=_squared(r),
        T=waves.admittance[-1].real / incident * _squared(t),
        A=absorbed / incident,
    )


def intensity(
    waves: Waves, thicknesses: jax.Array, wavelengths: jax.Array, depths: jax.Array, polarization: str
) -> jax.Array:
    """|E|^2 of `waves`, which `propagate` made of the same arguments, at `depths` (Z,): shape (Z, W)."""
    ends = jnp.cumsum(thicknesses)
    # A depth on an interface belongs to the layer above it; below the stack there is no layer left to choose.
    layer = jnp.minimum(jnp.sum(depths[:, None] > ends, axis=1), len(thicknesses) - 1)
    below_top = (depths - (ends - thicknesses)[layer])[:, None]
    above_bottom = (ends[layer] - depths)[:, None]
    medium = layer + 1
    kz = waves.kz[medium]
    forward = waves.forward[medium] * jnp.exp(2j * jnp.pi * kz * below_top / wavelengths)
    backward = waves.backward[medium] * jnp.exp(2j * jnp.pi * kz * above_bottom / wavelengths)
    if polarization == "s":
        return _squared(forward + backward)
    # Ampere's law for a magnetic field along y: Ex = Y (forward - backward), Ez = -kx / n^2 (forward + backward).
    along = waves.admittance[medium] * (forward - backward)
    across = waves.tangential / waves.permittivity[medium] * (forward + backward)
    return (_squared(along) + _squared(across)) * waves.permittivity[0].real


@partial(jax.jit, static_argnames="polarization")
def _compiled_response(
    indices: jax.Array, thicknesses: jax.Array, wavelengths: jax.Array, angle: jax.Array, *, polarization: str
) -> Response:
    return respond(propagate(indices, thicknesses, wavelengths, angle, polarization))


@partial(jax.jit, static_argnames="polarization")
def _compiled_intensity(
    indices: jax.Array,
    thicknesses: jax.Array,
    wavelengths: jax.Array,
    depths: jax.Array,
    angle: jax.Array,
    *,
    polarization: str,
) -> jax.Array:
    waves = propagate(indices, thicknesses, wavelengths, angle, polarization)
    return intensity(waves, thicknesses, wavelengths, depths, polarization)


def _stack(indices: Any, thicknesses: Any, wavelengths: Any, angle: Any, polarization: str) -> tuple[jax.Array, ...]:
    """The stack as arrays of the precision in force: indices (M, W), thicknesses (L,), wavelengths (W,), angle ()."""
    if polarization not in ("s", "p"):
        raise ValueError(f"polarization must be 's' or 'p', not {polarization!r}; unpolarized light is their mean")
    lengths = jnp.atleast_1d(jnp.asarray(wavelengths, float))
    layers = jnp.asarray(thicknesses, float).reshape(-1)
    media = jnp.asarray(indices, complex)
    if media.ndim == 1:
        media = jnp.broadcast_to(media[:, None], (len(media), len(lengths)))
    if media.shape != (len(layers) + 2, len(lengths)):
        raise ValueError(
            f"{len(layers)} thicknesses and {len(lengths)} wavelengths need indices of shape ({len(layers) + 2},) or "
            f"{(len(layers) + 2, len(lengths))} (incident medium, layers, substrate), not {media.shape}"
        )
    return media, layers, lengths, jnp.asarray(angle, float)


def stack_response(
    indices: Any, thicknesses: Any, wavelengths: Any, angle: Any = 0.0, polarization: str = "s"
) -> Response:
    """Reflection, transmission and absorption of a stack of plane layers.

    Args:
        indices: complex indices n + ik (k >= 0) of the incident medium, which must not absorb, of the L layers in
            the order in which light meets them, and of the substrate: shape (L + 2,) or (L + 2, W).
        thicknesses: of the layers, shape (L,), in the unit of the wavelengths; L may be 0.
        wavelengths: vacuum wavelengths, shape (W,) or a number.
        angle: of incidence, in degrees, 0 to below 90.
        polarization: `s` or `p`.

    Returns:
        A `Response` with arrays of shape (W,), and (L, W) for the absorptance of the layers.

    Raises:
        ValueError: shapes that do not fit together, or another polarization.

    Example:
        ```python
        stack_response([1, 1.38, 1.52], [550 / 4 / 1.38], 550).R  # 0.0126: a quarter wave of MgF2 on glass
        ```
    """

    def respond(indices: Any, thicknesses: Any, wavelengths: Any, angle: Any) -> Response:
        stack = _stack(indices, thicknesses, wavelengths, angle, polarization)
        return cast("Response", _compiled_response(*stack, polarization=polarization))

    return in_double_precision(respond, indices, thicknesses, wavelengths, angle)


def field_intensity(
    indices: Any, thicknesses: Any, wavelengths: Any, depths: Any, *, angle: Any = 0.0, polarization: str = "s"
) -> jax.Array:
    """|E|^2 within the layers, over that of the incident wave.

    Args:
        indices: as in `stack_response`, with at least one layer.
        thicknesses: as in `stack_response`.
        wavelengths: as in `stack_response`.
        depths: below the first interface, in the unit of the wavelengths, 0 to the sum of the thicknesses; shape (Z,).
            On an interface the field of the layer above it is meant.
        angle: of incidence, in degrees.
        polarization: `s` or `p`.

    Returns:
        Intensities of shape (Z, W).

    Raises:
        ValueError: shapes that do not fit together, no layer, or another polarization.
    """

    def evaluate(indices: Any, thicknesses: Any, wavelengths: Any, angle: Any, depths: Any) -> jax.Array:
        media, layers, lengths, tilt = _stack(indices, thicknesses, wavelengths, angle, polarization)
        if len(layers) == 0:
            raise ValueError(
                "a field needs a layer to be in; give one of the incident medium's index for the field above"
            )
        places = jnp.atleast_1d(jnp.asarray(depths, float))
        return cast("jax.Array", _compiled_intensity(media, layers, lengths, places, tilt, polarization=polarization))

    return in_double_precision(evaluate, indices, thicknesses, wavelengths, angle, depths)
