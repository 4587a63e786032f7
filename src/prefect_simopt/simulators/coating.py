"""An optical coating as a simulator: layer thicknesses and materials in, reflectance and fields out.

`simulate` is a coating on glass seen in 420 to 680 nm. Another band or grid is one line of a user's own module:
`simulate = coating(band=(900, 1100))`.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from prefect_simopt.simulators.contract import BATCH_SIZE, Field, Result, simulator
from prefect_simopt.simulators.materials import MATERIALS, refractive_index
from prefect_simopt.simulators.thinfilm import in_double_precision, intensity, propagate, respond

__all__ = ["coating", "simulate"]

NAMES = tuple(MATERIALS)
SHARE_OF_S = {"s": 1.0, "p": 0.0, "unpolarized": 0.5}

Codes = npt.NDArray[np.int64]


def coating(
    *, band: tuple[float, float] = (420.0, 680.0), points: int = 131, depths: int = 41, batch_size: int = BATCH_SIZE
) -> Callable[..., Result]:
    """A simulator of coatings on a fixed grid of wavelengths.

    Args:
        band: shortest and longest wavelength, in nm.
        points: wavelengths, equally spaced over the band, both ends included.
        depths: depths at which the field `intensity` is kept.
        batch_size: rows of a call, see `simulator`.

    Returns:
        A function like `simulate`, marked as a differentiable batch simulator.

    Raises:
        ValueError: the band is empty or the grid has less than two points.
    """
    if not (0 < band[0] < band[1] and points >= 2 and depths >= 2):
        raise ValueError(
            f"a coating needs a band of 0 < low < high, two points and two depths, not {band=}, {points=}, {depths=}"
        )
    wavelengths = np.linspace(*band, points)
    relative_depths = np.linspace(0.0, 1.0, depths)
    # A material that is not known all over the band keeps NaN; `_codes` lets nobody choose it.
    table = np.full((len(NAMES), points), np.nan, dtype=np.complex128)
    for code, material in enumerate(MATERIALS.values()):
        if material.low <= band[0] and band[1] <= material.high:
            table[code] = material.index(wavelengths)

    def one(thicknesses: jax.Array, media: jax.Array, angle: jax.Array, share: jax.Array) -> tuple[Any, Any]:
        indices, lengths = jnp.asarray(table)[media], jnp.asarray(wavelengths)
        places = jnp.asarray(relative_depths) * jnp.sum(thicknesses)
        s_waves, p_waves = (propagate(indices, thicknesses, lengths, angle, way) for way in "sp")
        s, p = respond(s_waves), respond(p_waves)
        s_field = intensity(s_waves, thicknesses, lengths, places, "s")
        p_field = intensity(p_waves, thicknesses, lengths, places, "p")
        reflectance = share * s.R + (1 - share) * p.R
        metrics = {
            "reflectance": jnp.mean(reflectance),
            "worst_reflectance": jnp.max(reflectance),
            "thickness": jnp.sum(thicknesses),
        }
        # Outside these ranges the formulas still give numbers, but no physics: such a trial has failed.
        physical = jnp.all(thicknesses >= 0) & (angle >= 0) & (angle < 90)
        metrics = {name: jnp.where(physical, value, jnp.nan) for name, value in metrics.items()}
        fields = {
            "spectrum": reflectance,
            "transmittance": share * s.T + (1 - share) * p.T,
            "intensity": share * s_field + (1 - share) * p_field,
        }
        return metrics, fields

    compiled = jax.jit(jax.vmap(one))

    @simulator(batch=True, batch_size=batch_size, differentiable=True)
    def simulate(
        *,
        layers: Any = None,
        material: Any = "TiO2",
        substrate: Any = "BK7",
        incident: Any = "air",
        angle: Any = 0.0,
        polarization: Any = "unpolarized",
        **stack: Any,
    ) -> Result:
        """Reflectance, thickness and fields of a coating. Each argument is one value, or one a row of the batch.

        Args:
            layers: how many layers there are, at least 1; left out: as many as thicknesses. More layers than
                thicknesses repeat them from `t1` on, as in a mirror of equal pairs.
            material: of the odd layers that no `mN` names; of the even ones it is SiO2.
            substrate: the material that is coated.
            incident: the material that the light comes from, which must not absorb.
            angle: of incidence, in degrees, 0 to below 90.
            polarization: `s`, `p` or `unpolarized`.
            stack: `t1`, `t2`, ...: thicknesses in nm, from the substrate outwards, in the order of deposition; and
                `m1`, `m2`, ...: materials of these layers, see `MATERIALS`.

        Returns:
            Metrics of shape (n,): `reflectance` (mean over the band), `worst_reflectance` and `thickness` (nm); NaN
            where a thickness is negative or the angle out of range. Fields: `spectrum` and `transmittance` over
            wavelength; `intensity`, |E|^2 over that of the incident wave, over the depth relative to the whole
            coating (0 at the surface, 1 at the substrate) and wavelength. NumPy arrays, or JAX arrays while JAX
            transforms the call.

        Raises:
            TypeError: an argument that is none of these.
            ValueError: no layer, a gap in their numbers, or a material that is not known, or not in this band.
        """
        given = _number_of_layers(stack)
        rows = np.broadcast_shapes(
            *(np.shape(v) for v in (layers, material, substrate, incident, angle, polarization, *stack.values()))
        )
        n = rows[0] if rows else 1
        used = np.broadcast_to(np.asarray(given if layers is None else layers, dtype=np.int64), n)
        if np.any(used < 1):
            raise ValueError(f"a coating has at least one layer, not layers={np.min(used)}")
        # Light meets the last layer first. Rows with fewer layers than others have layers of no thickness on top.
        outside_in = [(layer, (layer - 1) % given + 1) for layer in range(max(given, int(np.max(used))), 0, -1)]
        names = [stack.get(f"m{source}", material if layer % 2 else "SiO2") for layer, source in outside_in]
        media = np.stack([_codes(name, n, band) for name in (incident, *names, substrate)], axis=1)
        if np.any(table[media[:, 0]].imag > 0):
            raise ValueError(
                f"the incident medium {incident!r} absorbs, so that no reflectance is defined; use another"
            )
        share = np.array([_share(way) for way in np.broadcast_to(np.asarray(polarization, dtype=object), n)])

        def evaluate(thicknesses: Mapping[str, Any], angle: Any) -> Any:
            columns = [
                jnp.where(layer <= used, jnp.asarray(thicknesses[f"t{source}"], float), 0.0)
                for layer, source in outside_in
            ]
            tilt = jnp.broadcast_to(jnp.asarray(angle, float), n)
            return compiled(jnp.stack(columns, axis=1), media, tilt, jnp.asarray(share, float))

        thicknesses = {name: value for name, value in stack.items() if name.startswith("t")}
        metrics, fields = in_double_precision(evaluate, thicknesses, angle)
        spectral, nm = {"wavelength": wavelengths}, {"wavelength": "nm"}
        return Result(
            metrics,
            {
                "spectrum": Field(fields["spectrum"], ("wavelength",), "1", spectral, nm),
                "transmittance": Field(fields["transmittance"], ("wavelength",), "1", spectral, nm),
                # Half the size, and more digits than a picture shows.
                "intensity": Field(
                    fields["intensity"].astype(np.float32),
                    ("depth", "wavelength"),
                    "1",
                    {"depth": relative_depths, **spectral},
                    {"depth": "1", **nm},
                ),
            },
        )

    return simulate


def _number_of_layers(stack: Mapping[str, Any]) -> int:
    """N of the thicknesses t1 to tN, of which none is missing and all materials are materials of."""
    strange = [name for name in stack if not re.fullmatch(r"[tm][1-9]\d*", name)]
    if strange:
        raise TypeError(
            f"a coating has no parameter {strange[0]!r}; it has t1, t2, ... (nm), m1, m2, ..., layers, material, "
            "substrate, incident, angle and polarization"
        )
    numbers = {name: int(name[1:]) for name in stack}
    count = sum(name.startswith("t") for name in stack)
    if count == 0:
        raise ValueError("a coating needs at least one layer: give its thickness in nm as t1")
    outside = [name for name, number in numbers.items() if number > count]
    if outside:
        raise ValueError(f"{outside[0]} stands alone: with {count} thicknesses the layers are numbered 1 to {count}")
    return count


def _codes(name: Any, n: int, band: tuple[float, float]) -> Codes:
    """Rows of the index table for a material's name, or for one name a row."""
    names = np.broadcast_to(np.asarray(name, dtype=object), n)
    for distinct in set(names):
        refractive_index(distinct, band)
    return np.array([NAMES.index(each) for each in names])


def _share(polarization: str) -> float:
    if polarization not in SHARE_OF_S:
        raise ValueError(f"polarization must be one of {', '.join(SHARE_OF_S)}, not {polarization!r}")
    return SHARE_OF_S[polarization]


simulate = coating()
