"""Indices against published values, and the refusal to extrapolate."""

import numpy as np
import pytest

from prefect_simopt.simulators.materials import MATERIALS, refractive_index

# (material, wavelength in nm, n + ik, tolerance): values printed in the sources, or rows of the tables behind a fit.
PUBLISHED = [
    ("vacuum", 500.0, 1.0, 0),
    ("air", 633.0, 1.0002765, 1e-7),
    ("SiO2", 587.6, 1.45846, 1e-5),
    ("BK7", 587.5618, 1.5168, 1e-5),
    ("BK7", 486.1327, 1.52238, 1e-5),
    ("MgF2", 587.6, 1.3777, 5e-5),
    ("TiO2", 420.916, 2.624154 + 0.003938j, 1e-4),
    ("TiO2", 550.631, 2.435343 + 0.000099j, 1e-4),
    ("TiO2", 1502.347, 2.290969, 1e-4),
    ("Ta2O5", 400.258, 2.21343287, 1e-4),
    ("Ta2O5", 634.366, 2.10057, 1e-4),
    ("Ta2O5", 1295.21, 2.05087698, 1e-4),
    ("Si3N4", 1550.0, 1.9963, 1e-4),
    ("Ag", 503.21, 0.13208 + 2.7927j, 1e-4),
    ("Ag", 1001.3, 0.21994 + 6.4341j, 1e-3),
]


@pytest.mark.parametrize(("material", "wavelength", "expected", "tolerance"), PUBLISHED)
def test_published_value(material, wavelength, expected, tolerance):
    assert abs(refractive_index(material, wavelength) - expected) <= tolerance


@pytest.mark.parametrize("name", MATERIALS)
def test_passive_and_smooth_over_its_whole_range(name):
    material = MATERIALS[name]
    wavelengths = np.linspace(max(material.low, 100.0), min(material.high, 1e5), 2001)
    index = refractive_index(name, wavelengths)
    assert index.shape == wavelengths.shape
    assert np.all(np.isfinite(index))
    assert np.all(index.imag >= 0)
    assert np.all(index.real > 0)
    if name != "Ag":
        assert np.all(np.diff(index.real) <= 0), "a transparent medium has normal dispersion"


@pytest.mark.parametrize("name", [name for name in MATERIALS if name != "vacuum"])
@pytest.mark.parametrize("side", ["low", "high"])
def test_outside_the_range_is_refused(name, side):
    material = MATERIALS[name]
    edge = getattr(material, side)
    assert np.isfinite(material.index(edge))
    with pytest.raises(ValueError, match=rf"{name}.*{material.low:g} to {material.high:g} nm"):
        material.index([500.0, edge - 1 if side == "low" else edge + 1])


def test_nan_is_no_wavelength():
    with pytest.raises(ValueError, match="SiO2"):
        refractive_index("SiO2", np.nan)


def test_unknown_material_is_answered_with_the_known():
    with pytest.raises(ValueError, match=r"no material 'Kryptonite'; known are .*TiO2"):
        refractive_index("Kryptonite", 500)


@pytest.mark.parametrize("material", MATERIALS.values(), ids=list(MATERIALS))
def test_names_its_source(material):
    assert material.formula
    assert material.name == "vacuum" or any(character.isdigit() for character in material.source)
