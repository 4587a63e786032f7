"""The bundled coating simulator: its contract as a batch, its choices, its errors and its physics."""

import subprocess
import sys

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_simopt.simulators.coating import coating, simulate
from prefect_simopt.simulators.contract import Field, Traits, traits
from prefect_simopt.simulators.materials import refractive_index
from prefect_simopt.simulators.thinfilm import stack_response

ROWS = 16
WAVELENGTHS = np.linspace(420, 680, 131)


def draw(layers, seed=0):
    generator = np.random.default_rng(seed)
    return {f"t{layer}": generator.uniform(5, 200, ROWS) for layer in range(1, layers + 1)}


def reflectance_of(materials, thicknesses, angle=0.0, way="s"):
    """Over the band, straight from the transfer matrices; materials and thicknesses from air to substrate."""
    indices = np.array([refractive_index(material, WAVELENGTHS) for material in materials])
    return stack_response(indices, thicknesses, WAVELENGTHS, angle, way).R


def test_declares_itself():
    assert traits(simulate) == Traits(batch=16, differentiable=True)
    assert traits(coating(batch_size=32)).batch == 32


def test_result_has_the_shapes_of_the_contract():
    result = simulate(**draw(2))
    assert {name: value.shape for name, value in result.metrics.items()} == {
        "reflectance": (ROWS,),
        "worst_reflectance": (ROWS,),
        "thickness": (ROWS,),
    }
    assert set(result.fields) == {"spectrum", "transmittance", "intensity"}
    for field in result.fields.values():
        assert isinstance(field, Field)
        shape = np.shape(field.values)
        assert shape == (ROWS, *(len(field.coords[dim]) for dim in field.dims))
        assert np.all(np.isfinite(field.values))
        assert set(field.coord_units) == set(field.dims)
    assert result.fields["intensity"].dims == ("depth", "wavelength")
    np.testing.assert_allclose(result.fields["spectrum"].coords["wavelength"], WAVELENGTHS)


def test_metrics_are_those_of_the_spectrum():
    thicknesses = draw(3)
    result = simulate(**thicknesses)
    spectrum = result.fields["spectrum"].values
    np.testing.assert_allclose(result.metrics["reflectance"], spectrum.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(result.metrics["worst_reflectance"], spectrum.max(axis=1), rtol=1e-12)
    np.testing.assert_allclose(result.metrics["thickness"], sum(thicknesses.values()), rtol=1e-12)


def test_layers_are_numbered_from_the_substrate():
    found = simulate(t1=20.0, t2=90.0).fields["spectrum"].values[0]
    np.testing.assert_allclose(found, reflectance_of(["air", "SiO2", "TiO2", "BK7"], [90.0, 20.0]), atol=1e-14)


def test_row_of_a_batch_is_the_single_evaluation():
    thicknesses = draw(4)
    together = simulate(**thicknesses)
    for row in (0, 7, 15):
        alone = simulate(**{name: np.full(ROWS, value[row]) for name, value in thicknesses.items()})
        for metric, values in together.metrics.items():
            assert alone.metrics[metric][0] == values[row]
        for name, field in together.fields.items():
            np.testing.assert_array_equal(alone.fields[name].values[0], field.values[row])


def test_materials_may_differ_from_row_to_row():
    choice = np.array(["TiO2", "Ta2O5", "Si3N4", "MgF2"] * 4, dtype=object)
    result = simulate(t1=np.full(ROWS, 60.0), t2=np.full(ROWS, 90.0), m1=choice, substrate=choice[::-1])
    for row in range(4):
        materials = ["air", "SiO2", choice[row], choice[::-1][row]]
        spectrum = result.fields["spectrum"].values[row]
        np.testing.assert_allclose(spectrum, reflectance_of(materials, [90.0, 60.0]), atol=1e-13)


def test_material_is_that_of_the_odd_layers_without_their_own():
    result = simulate(t1=60.0, t2=90.0, t3=40.0, material="Ta2O5", m3="Ag")
    expected = reflectance_of(["air", "Ag", "SiO2", "Ta2O5", "BK7"], [40.0, 90.0, 60.0])
    np.testing.assert_allclose(result.fields["spectrum"].values[0], expected, atol=1e-13)


def test_number_of_layers_may_differ_from_row_to_row():
    layers = np.array([1, 2, 3, 5])
    found = simulate(t1=np.full(4, 60.0), t2=np.full(4, 90.0), layers=layers)
    np.testing.assert_allclose(found.metrics["thickness"], [60.0, 150.0, 210.0, 360.0])
    for row, count in enumerate(layers):
        materials = ["air", *[("TiO2", "SiO2")[layer % 2] for layer in reversed(range(count))], "BK7"]
        thicknesses = [(60.0, 90.0)[layer % 2] for layer in reversed(range(count))]
        np.testing.assert_allclose(
            found.fields["spectrum"].values[row], reflectance_of(materials, thicknesses), atol=1e-13
        )


def test_angle_and_polarization():
    ways = np.array(["s", "p", "unpolarized"], dtype=object)
    found = simulate(t1=np.full(3, 20.0), t2=np.full(3, 90.0), angle=np.full(3, 40.0), polarization=ways)
    s, p = (reflectance_of(["air", "SiO2", "TiO2", "BK7"], [90.0, 20.0], 40.0, way) for way in "sp")
    np.testing.assert_allclose(found.fields["spectrum"].values, [s, p, (s + p) / 2], atol=1e-14)


def test_known_single_layer_of_magnesium_fluoride():
    """The textbook coating: about 1.3 % where it is a quarter wave thick, instead of 4.2 % for bare glass."""
    found = simulate(t1=550 / (4 * 1.3785), m1="MgF2").fields["spectrum"].values[0]
    assert found.min() == pytest.approx(0.0124, abs=5e-4)
    assert WAVELENGTHS[found.argmin()] == pytest.approx(550, abs=6)
    assert simulate(t1=0.0).metrics["reflectance"][0] == pytest.approx(0.0422, abs=3e-4)


def test_known_mirror_of_equal_pairs():
    found = simulate(t1=550 / (4 * 2.4358), t2=550 / (4 * 1.4599), layers=17)
    assert found.fields["spectrum"].values[0][65] > 0.999
    assert found.fields["transmittance"].values[0][65] < 1e-3


def test_trial_that_is_no_physics_fails_alone():
    result = simulate(t1=np.array([50.0, -1.0, 50.0, 50.0]), angle=np.array([0.0, 0.0, 90.0, -5.0]))
    for values in result.metrics.values():
        np.testing.assert_array_equal(np.isnan(values), [False, True, True, True])


def test_another_band():
    infrared = coating(band=(1400, 1600), points=21, depths=3)
    spectrum = infrared(t1=200.0).fields["spectrum"]
    assert spectrum.values.shape == (1, 21)
    assert spectrum.coords["wavelength"][-1] == 1600
    with pytest.raises(ValueError, match="Ta2O5 is known from 333 to 1504 nm"):
        infrared(t1=200.0, m1="Ta2O5")


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({}, ValueError, "at least one layer"),
        ({"t1": 1.0, "t3": 1.0}, ValueError, "t3 stands alone"),
        ({"t1": 1.0, "m2": "SiO2"}, ValueError, "m2 stands alone"),
        ({"t1": 1.0, "q": 1.0}, TypeError, "no parameter 'q'; it has t1"),
        ({"t1": 1.0, "t01": 1.0}, TypeError, "no parameter 't01'"),
        ({"t1": 1.0, "m1": "Unobtainium"}, ValueError, "no material 'Unobtainium'; known are"),
        ({"t1": 1.0, "layers": 0}, ValueError, "at least one layer"),
        ({"t1": 1.0, "incident": "Ag"}, ValueError, "incident medium 'Ag' absorbs"),
        ({"t1": 1.0, "polarization": "circular"}, ValueError, "one of s, p, unpolarized, not 'circular'"),
    ],
)
def test_wrong_parameters_are_refused(parameters, error, message):
    with pytest.raises(error, match=message):
        simulate(**parameters)


@pytest.mark.parametrize("grid", [{"band": (600, 500)}, {"points": 1}, {"depths": 1}])
def test_wrong_grid_is_refused(grid):
    with pytest.raises(ValueError, match="a coating needs a band"):
        coating(**grid)


@pytest.mark.slow  # that of the spectra it is made of is looked at in test_thinfilm.py
def test_gradient_matches_finite_differences():
    def total(t1, t2):
        return simulate(t1=t1, t2=t2, angle=20.0).metrics["reflectance"].sum()

    t1, t2 = np.array([15.0, 40.0]), np.array([100.0, 70.0])
    with jax.enable_x64(True):
        gradient = jax.grad(total, argnums=(0, 1))(t1, t2)
    for axis in (0, 1):
        for row in (0, 1):
            step = np.zeros((2, 2))
            step[axis, row] = 1e-4
            difference = (total(t1 + step[0], t2 + step[1]) - total(t1 - step[0], t2 - step[1])) / 2e-4
            assert gradient[axis][row] == pytest.approx(difference, rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    materials=st.lists(st.sampled_from(["TiO2", "SiO2", "Ta2O5", "MgF2", "Si3N4", "Ag"]), min_size=3, max_size=3),
    angle=st.floats(0, 89),
)
def test_passive_coatings_keep_their_light(seed, materials, angle):
    chosen = {f"m{layer}": material for layer, material in enumerate(materials, start=1)}
    result = simulate(**draw(3, seed), **chosen, angle=angle)
    reflected, transmitted = result.fields["spectrum"].values, result.fields["transmittance"].values
    assert reflected.min() >= 0
    assert transmitted.min() >= 0
    assert (reflected + transmitted).max() <= 1 + 1e-12
    assert result.fields["intensity"].values.min() >= 0


def test_importing_the_contract_and_the_materials_leaves_jax_alone():
    code = (
        "import sys, prefect_simopt.simulators.contract, prefect_simopt.simulators.materials;"
        "assert not {'jax', 'prefect'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
