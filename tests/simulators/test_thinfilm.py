"""The transfer matrices against other people's numbers, closed forms, conservation laws and limits."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_simopt.simulators.thinfilm import field_intensity, stack_response

REFERENCE = json.loads((Path(__file__).parents[1] / "data" / "reference.json").read_text(encoding="utf-8"))
GLASS = 1.52

# name, indices (incident, layers, substrate), thicknesses, in nanometres
ABSORBING_STACKS = [
    ("silver on glass", [1.0, 0.13 + 3.2j, GLASS], [25.0]),
    ("lossy dielectrics", [1.0, 2.4 + 0.05j, 1.46 + 0.01j, 2.1 + 0.2j, GLASS], [80.0, 120.0, 40.0]),
    ("metal between dielectrics", [1.0, 2.3, 0.14 + 3.4j, 2.3, GLASS], [40.0, 12.0, 40.0]),
    ("absorbing substrate", [1.0, 2.0 + 0.1j, 3.9 + 0.3j], [70.0]),
    ("from glass, beyond the critical angle at 60 degrees", [GLASS, 0.14 + 3.4j, 1.0], [45.0]),
]


@pytest.mark.parametrize(
    "case", REFERENCE["slab"]["cases"], ids=lambda c: "{n}-{wavelength}-{angle_deg}{pol}".format(**c)
)
def test_reference_slab(case):
    found = stack_response([1, case["n"], 1], [case["d"]], case["wavelength"], case["angle_deg"], case["pol"])
    assert found.R[0] == pytest.approx(case["R"], abs=1e-12)
    assert found.T[0] == pytest.approx(case["T"], abs=1e-12)
    assert found.r[0] == pytest.approx(complex(*case["r"]), abs=1e-12)
    assert found.t[0] == pytest.approx(complex(*case["t"]), abs=1e-12)


@pytest.mark.parametrize("case", REFERENCE["interface"], ids=lambda c: str(c["n2"]))
@pytest.mark.parametrize("polarization", ["s", "p"])
def test_reference_interface(case, polarization):
    found = stack_response([case["n1"], case["n2"]], [], 0.5, 0, polarization)
    assert found.R[0] == pytest.approx(case["R"], abs=1e-12)
    assert found.T[0] == pytest.approx(1 - case["R"], abs=1e-12)
    assert found.A.shape == (0, 1)


def test_reference_fabry_perot():
    case = REFERENCE["fabry_perot_si"]
    found = stack_response([1, case["n"], 1], [case["d"]], case["wavelength"])
    np.testing.assert_allclose(found.T, case["T"], atol=1e-12)
    np.testing.assert_allclose(found.R, 1 - np.array(case["T"]), atol=1e-12)


@pytest.mark.parametrize("angle", [0.0, 35.0, 60.0])
@pytest.mark.parametrize("polarization", ["s", "p"])
@pytest.mark.parametrize(("name", "indices", "thicknesses"), ABSORBING_STACKS)
def test_energy_is_conserved_with_absorption_from_the_field(name, indices, thicknesses, angle, polarization):
    wavelengths = np.array([450.0, 600.0])
    found = stack_response(indices, thicknesses, wavelengths, angle, polarization)
    # Joule heat, k0 Im(eps) |E|^2 integrated over each layer, per incident power n0 cos(angle); it knows no R or T.
    heat = []
    for layer, thickness in enumerate(thicknesses):
        nodes, weights = np.polynomial.legendre.leggauss(60)
        depths = sum(thicknesses[:layer]) + thickness * (nodes + 1) / 2
        energy = field_intensity(indices, thicknesses, wavelengths, depths, angle=angle, polarization=polarization)
        integral = weights @ energy * thickness / 2
        strength = 2 * np.pi / wavelengths * (complex(indices[layer + 1]) ** 2).imag
        heat.append(strength * integral / (np.real(indices[0]) * np.cos(np.deg2rad(angle))))
    np.testing.assert_allclose(found.A, heat, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.R + found.T + np.sum(heat, axis=0), 1.0, atol=1e-10)


def test_known_surface_plasmon_takes_nearly_all_light():
    """Kretschmann's configuration: 50 nm of silver on a prism, p light beyond the critical angle."""
    angles = np.linspace(42, 50, 801)
    silver = 0.135 + 3.99j
    reflected = {
        way: np.array([stack_response([1.515, silver, 1.0], [50.0], 632.8, a, way).R[0] for a in angles[::20]])
        for way in "sp"
    }
    assert reflected["p"].min() < 0.1
    assert reflected["s"].min() > 0.95


@pytest.mark.parametrize("polarization", ["s", "p"])
@pytest.mark.parametrize("angle", [0.0, 50.0])
def test_layer_of_no_thickness_is_absent(polarization, angle):
    bare = stack_response([1, GLASS], [], 550, angle, polarization)
    coated = stack_response([1, 2.4, 0.1 + 3j, GLASS], [0.0, 0.0], 550, angle, polarization)
    assert coated.r[0] == pytest.approx(bare.r[0], abs=1e-14)
    assert coated.t[0] == pytest.approx(bare.t[0], abs=1e-14)


def test_half_wave_layer_is_absent():
    for n in (1.38, 2.0, 2.4):
        found = stack_response([1, n, GLASS], [550 / (2 * n)], 550)
        assert found.R[0] == pytest.approx(((1 - GLASS) / (1 + GLASS)) ** 2, abs=1e-14)


@pytest.mark.parametrize("pairs", [1, 3, 8])
def test_quarter_wave_stack(pairs):
    """R = ((n0 Y - ns) / (n0 Y + ns))^2 with Y = (nL / nH)^2p; Macleod, Thin-Film Optical Filters."""
    low, high = 1.46, 2.4
    indices = [1.0, *[high, low] * pairs, GLASS]
    thicknesses = [550 / (4 * n) for n in indices[1:-1]]
    admittance = GLASS * (high / low) ** (2 * pairs)
    found = stack_response(indices, thicknesses, 550)
    assert found.R[0] == pytest.approx(((1 - admittance) / (1 + admittance)) ** 2, abs=1e-13)


def test_quarter_wave_of_the_root_of_the_indices_reflects_nothing():
    n = np.sqrt(GLASS)
    assert stack_response([1, n, GLASS], [550 / (4 * n)], 550).R[0] < 1e-30


def test_fresnel_and_brewster():
    brewster = np.rad2deg(np.arctan(GLASS))
    assert stack_response([1, GLASS], [], 550, brewster, "p").R[0] < 1e-30
    assert stack_response([1, GLASS], [], 550, brewster, "s").R[0] == pytest.approx(
        ((1 - GLASS**2) / (1 + GLASS**2)) ** 2, abs=1e-14
    )


@pytest.mark.parametrize("polarization", ["s", "p"])
@pytest.mark.parametrize("angle", [42.0, 60.0, 89.0])
def test_total_internal_reflection(polarization, angle):
    found = stack_response([GLASS, 1.0], [], 550, angle, polarization)
    assert found.R[0] == pytest.approx(1.0, abs=1e-13)
    assert found.T[0] == pytest.approx(0.0, abs=1e-15)


def test_phase_of_total_internal_reflection():
    """tan(phase / 2) = -sqrt(sin^2 - n^2) / cos for s; Born and Wolf, section 1.5.4, for exp(-i w t)."""
    angle = np.deg2rad(60.0)
    expected = -2 * np.arctan(np.sqrt(np.sin(angle) ** 2 - 1 / GLASS**2) / np.cos(angle))
    assert np.angle(stack_response([GLASS, 1.0], [], 550, 60.0, "s").r[0]) == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize("gap", [0.0, 100.0, 400.0])
def test_light_tunnels_through_a_gap(gap):
    """Frustrated total reflection: T = 1 / (1 + sinh^2(q d) (c^2 + q^2)^2 / (2 c q)^2) for s."""
    angle, wavelength = np.deg2rad(60.0), 550.0
    q = np.sqrt((GLASS * np.sin(angle)) ** 2 - 1)
    c = GLASS * np.cos(angle)
    barrier = np.sinh(2 * np.pi / wavelength * q * gap) * (c**2 + q**2) / (2 * c * q)
    found = stack_response([GLASS, 1.0, GLASS], [gap], wavelength, 60.0, "s")
    assert found.T[0] == pytest.approx(1 / (1 + barrier**2), rel=1e-11)
    assert found.R[0] + found.T[0] == pytest.approx(1.0, abs=1e-13)


@pytest.mark.parametrize("polarization", ["s", "p"])
def test_transmission_is_reciprocal(polarization):
    """The same power passes both ways, also through absorbing layers, at the refracted angle."""
    layers, thicknesses = [2.4, 0.2 + 3j, 1.46 + 0.1j], [60.0, 15.0, 90.0]
    there = stack_response([1.0, *layers, GLASS], thicknesses, 600, 40.0, polarization)
    refracted = np.rad2deg(np.arcsin(np.sin(np.deg2rad(40.0)) / GLASS))
    back = stack_response([GLASS, *layers[::-1], 1.0], thicknesses[::-1], 600, refracted, polarization)
    assert there.T[0] == pytest.approx(back.T[0], rel=1e-12)
    assert abs(there.R[0] - back.R[0]) > 0.01, "reflection is not reciprocal when layers absorb"


@pytest.mark.parametrize("polarization", ["s", "p"])
def test_polarizations_agree_at_normal_incidence(polarization):
    found = stack_response([1, 2.4, 0.2 + 3j, GLASS], [60.0, 15.0], 600, 0.0, polarization)
    other = stack_response([1, 2.4, 0.2 + 3j, GLASS], [60.0, 15.0], 600, 0.0, "s")
    np.testing.assert_allclose([found.R, found.T], [other.R, other.T], atol=1e-14)


def test_field_is_continuous_and_meets_the_transmitted_wave():
    indices, thicknesses = [1.0, 2.4, 1.46, 0.2 + 3j, GLASS], [60.0, 90.0, 20.0]
    response = stack_response(indices, thicknesses, 600, 30.0)
    interfaces = np.cumsum(thicknesses)
    above = field_intensity(indices, thicknesses, 600, interfaces, angle=30.0)
    below = field_intensity(indices, thicknesses, 600, interfaces[:-1] + 1e-9, angle=30.0)
    np.testing.assert_allclose(above[:-1], below, rtol=1e-8)
    assert above[-1, 0] == pytest.approx(abs(response.t[0]) ** 2, rel=1e-12)
    top = field_intensity(indices, thicknesses, 600, [0.0], angle=30.0)
    assert top[0, 0] == pytest.approx(abs(1 + response.r[0]) ** 2, rel=1e-12)


@pytest.mark.parametrize("polarization", ["s", "p"])
@pytest.mark.parametrize("thickness", [1e3, 1e6, 1e9])
def test_thick_absorbing_layers_neither_overflow_nor_lose_their_gradient(polarization, thickness):
    bulk = stack_response([1, 0.13 + 3.2j], [], 550, 40.0, polarization)

    def reflectance(d):
        return stack_response([1, 0.13 + 3.2j, 2.0, GLASS], [d, 100.0], 550, 40.0, polarization).R[0]

    found = stack_response([1, 0.13 + 3.2j, 2.0, GLASS], [thickness, 100.0], 550, 40.0, polarization)
    assert found.R[0] == pytest.approx(bulk.R[0], abs=1e-12)
    assert found.T[0] == pytest.approx(0.0, abs=1e-12)
    assert found.R[0] + found.T[0] + found.A.sum() == pytest.approx(1.0, abs=1e-12)
    field = field_intensity([1, 0.13 + 3.2j, GLASS], [thickness], 550, [0.0, thickness], polarization=polarization)
    assert np.all(np.isfinite(field))
    with jax.enable_x64(True):
        assert np.isfinite(jax.grad(reflectance)(thickness))


@pytest.mark.parametrize("polarization", ["s", "p"])
@pytest.mark.parametrize("angle", [0.0, 45.0])
def test_gradient_matches_finite_differences(polarization, angle):
    indices = [1.0, 2.4 + 0.01j, 1.46, 0.2 + 3j, GLASS]
    thicknesses, wavelengths = np.array([60.0, 90.0, 15.0]), np.linspace(450, 650, 7)

    def mean(d):
        return stack_response(indices, d, wavelengths, angle, polarization).R.mean()

    with jax.enable_x64(True):
        gradient = jax.grad(mean)(thicknesses)
    differences = [(mean(thicknesses + h) - mean(thicknesses - h)) / 2e-4 for h in 1e-4 * np.eye(3)]
    np.testing.assert_allclose(gradient, differences, rtol=1e-6, atol=1e-10)


def test_leaves_the_precision_of_the_process_alone():
    found = stack_response([1, GLASS], [], 550)
    assert not jax.config.jax_enable_x64
    assert isinstance(found.R, np.ndarray)
    assert found.R.dtype == np.float64
    single = jax.jit(jax.grad(lambda d: stack_response([1, 2.0, GLASS], [d], 550).R[0]))(60.0)
    assert single.dtype == np.float32, "the caller's own transformation keeps the caller's precision"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2, GLASS], [50], 550, 0, "x"), "polarization must be"),
        (([1, GLASS], [50], 550), r"shape \(3,\) or \(3, 1\)"),
        ((np.ones((3, 4)), [50], [500, 600]), r"shape \(3,\) or \(3, 2\)"),
    ],
)
def test_wrong_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        stack_response(*arguments)


def test_field_needs_a_layer():
    with pytest.raises(ValueError, match="needs a layer"):
        field_intensity([1, GLASS], [], 550, [0.0])


passive = st.complex_numbers(max_magnitude=6, allow_nan=False).map(lambda z: complex(abs(z.real) + 0.05, abs(z.imag)))


# Three layers always, so that one compilation serves every example.
@settings(max_examples=300, deadline=None)
@given(
    layers=st.lists(passive, min_size=3, max_size=3),
    thicknesses=st.lists(st.floats(0, 5000), min_size=3, max_size=3),
    incident=st.floats(1, 2.5),
    substrate=passive,
    wavelength=st.floats(200, 2000),
    angle=st.floats(0, 89.9),
    polarization=st.sampled_from(["s", "p"]),
)
def test_passive_stacks_conserve_energy(*, layers, thicknesses, incident, substrate, wavelength, angle, polarization):
    found = stack_response([incident, *layers, substrate], thicknesses, wavelength, angle, polarization)
    slack = 1e-7
    assert -slack <= found.R[0] <= 1 + slack
    assert -slack <= found.T[0] <= 1 + slack
    assert found.A.min() >= -slack
    assert found.R[0] + found.T[0] + found.A.sum() == pytest.approx(1.0, abs=slack)
