"""Refractive indices of coating materials: dispersion formulas with their sources and the ranges they hold in.

Convention exp(-i w t): the index is n + ik, and k > 0 absorbs. Wavelengths are vacuum wavelengths in nanometres.
Nothing is extrapolated: outside a formula's range the answer is an error, because a Sellmeier formula goes wrong
without looking wrong. Plain NumPy: an index depends on no parameter of a study, so it needs no gradient.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

__all__ = ["MATERIALS", "Material", "refractive_index"]

Real = npt.NDArray[np.float64]
Index = npt.NDArray[np.complex128]

EV_UM = 1.239841984
"""Photon energy in eV times vacuum wavelength in micrometres (h c / e, CODATA 2018)."""


@dataclass(frozen=True)
class Material:
    """A medium whose index follows a dispersion formula.

    Attributes:
        name: what a study calls it.
        formula: the kind of formula.
        source: author, year and place of the formula or of the data behind it.
        low: shortest wavelength that the source covers, in nm.
        high: longest wavelength that the source covers, in nm.
        model: the formula: wavelengths in micrometres to the complex index.
    """

    name: str
    formula: str
    source: str
    low: float
    high: float
    model: Callable[[Real], npt.NDArray[np.generic]] = field(repr=False)

    def index(self, wavelengths: npt.ArrayLike) -> Index:
        """Complex index n + ik at `wavelengths` (nm), of the same shape.

        Raises:
            ValueError: a wavelength lies outside the range of the source.
        """
        nm = np.asarray(wavelengths, dtype=np.float64)
        # NaN must not pass, hence the comparison that is false for it; 1e-6 nm forgive the rounding of a grid.
        if not np.all((nm >= self.low - 1e-6) & (nm <= self.high + 1e-6)):
            raise ValueError(
                f"the index of {self.name} is known from {self.low:g} to {self.high:g} nm ({self.source}), not at "
                f"{np.min(nm):g} to {np.max(nm):g} nm; choose a band within that range or another material"
            )
        return np.asarray(self.model(nm / 1000.0), dtype=np.complex128)


def _sellmeier(um: Real, *terms: tuple[float, float], infrared: float = 0.0) -> Real:
    """n^2 - 1 = sum B um^2 / (um^2 - C^2) - infrared um^2, with terms (B, C)."""
    return np.sqrt(1 + sum(b * um**2 / (um**2 - c**2) for b, c in terms) - infrared * um**2)


def _titania(um: Real) -> Index:
    """Two Sellmeier terms, and the Urbach tail of the band edge, k = exp(5.3035 E/eV - 21.1598)."""
    n = _sellmeier(um, (2.9986969, 0.1555116), (1.1680941, 0.3023423))
    return n + 1j * np.exp(5.3035 * EV_UM / um - 21.1598)


def _air(um: Real) -> Real:
    return 1 + 0.05792105 / (238.0185 - um**-2) + 0.00167917 / (57.362 - um**-2)


def _silver(um: Real) -> Index:
    """Lorentz-Drude model, Rakic 1998, equations 1 to 3 and table 1; energies in eV."""
    energy = EV_UM / um
    plasma = 9.01
    permittivity = 1 - 0.845 * plasma**2 / (energy * (energy + 0.048j))
    oscillators = [
        (0.065, 3.886, 0.816),
        (0.124, 0.452, 4.481),
        (0.011, 0.065, 8.185),
        (0.840, 0.916, 9.083),
        (5.646, 2.419, 20.29),
    ]
    for strength, width, centre in oscillators:
        permittivity = permittivity + strength * plasma**2 / (centre**2 - energy**2 - 1j * energy * width)
    return np.asarray(np.sqrt(permittivity), dtype=np.complex128)


MATERIALS: dict[str, Material] = {
    material.name: material
    for material in (
        Material("vacuum", "constant", "by definition", 0.0, np.inf, np.ones_like),
        Material(
            "air", "Ciddor", "Ciddor 1996, Appl. Opt. 35, 1566; dry, 15 C, 101325 Pa, 450 ppm CO2", 230, 1690, _air
        ),
        Material(
            "BK7",
            "Sellmeier",
            "SCHOTT 2017, data sheet of N-BK7",
            300,
            2500,
            # The data sheet gives the squares of the resonance wavelengths.
            lambda um: _sellmeier(
                um, (1.03961212, 0.00600069867**0.5), (0.231792344, 0.0200179144**0.5), (1.01046945, 103.560653**0.5)
            ),
        ),
        Material(
            "SiO2",
            "Sellmeier",
            "Malitson 1965, J. Opt. Soc. Am. 55, 1205; fused silica, 20 C",
            210,
            3710,
            lambda um: _sellmeier(um, (0.6961663, 0.0684043), (0.4079426, 0.1162414), (0.8974794, 9.896161)),
        ),
        Material(
            "MgF2",
            "Sellmeier",
            "Dodge 1984, Appl. Opt. 23, 1980; crystal, ordinary ray, 19 C",
            200,
            7000,
            lambda um: _sellmeier(um, (0.48755108, 0.04338408), (0.39875031, 0.09461442), (2.3120353, 23.793604)),
        ),
        Material(
            "Si3N4",
            "Sellmeier",
            "Luke 2015, Opt. Lett. 40, 4823; LPCVD film",
            310,
            5504,
            lambda um: _sellmeier(um, (3.0249, 0.1353406), (40314.0, 1239.842)),
        ),
        # The usual TiO2 formula (Devore 1951) is for rutile, which no coating is, and starts at 430 nm; the usual one
        # for Ta2O5 (Bright 2013) starts at 500 nm. So two published tables of real films were fitted instead, by
        # least squares over 30 rows each: the largest deviation in n is 7e-5 for TiO2 and 5e-5 for Ta2O5.
        Material(
            "TiO2",
            "Sellmeier, Urbach tail",
            "fit to Zhukovsky 2015, Phys. Rev. Lett. 115, 177402; ALD film",
            400,
            1690,
            _titania,
        ),
        Material(
            "Ta2O5",
            "Sellmeier",
            "fit to Franta 2015, Proc. SPIE 9628, 96281U; evaporated film, k below 1e-4",
            333,
            1504,
            lambda um: _sellmeier(um, (2.4368291, 0.1310241), (0.7487228, 0.2406967), infrared=0.0187722),
        ),
        Material("Ag", "Lorentz-Drude", "Rakic 1998, Appl. Opt. 37, 5271", 248, 12398, _silver),
    )
}
"""Every material by name."""


def refractive_index(material: str, wavelengths: npt.ArrayLike) -> Index:
    """Complex index of a material named in `MATERIALS`.

    Args:
        material: its name, such as `TiO2`.
        wavelengths: vacuum wavelengths in nm, any shape.

    Returns:
        n + ik, of the shape of `wavelengths`.

    Raises:
        ValueError: there is no such material, or a wavelength lies outside its range.

    Example:
        ```python
        refractive_index("SiO2", 587.6)  # 1.4585+0j
        ```
    """
    if material not in MATERIALS:
        raise ValueError(f"there is no material {material!r}; known are {', '.join(MATERIALS)}")
    return MATERIALS[material].index(wavelengths)
