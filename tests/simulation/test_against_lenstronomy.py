"""Each component of an image, and complete images, against lenstronomy."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from halometry.simulation import Scene, draw_scenes, load_preset, render
from halometry.simulation.lenses import deflection
from halometry.simulation.light import lens_light, source_light
from halometry.simulation.render import pixel_grid

pytest.importorskip("lenstronomy", reason="needs lenstronomy, which is in the extra `test`")
from lenstronomy.Data.imaging_data import ImageData
from lenstronomy.Data.psf import PSF
from lenstronomy.ImSim.image_model import ImageModel
from lenstronomy.LensModel.lens_model import LensModel
from lenstronomy.LightModel.light_model import LightModel
from lenstronomy.Util.param_util import phi_q2_ellipticity

SOFTENING_TOLERANCE = 2e-7  # arcsec; the effect of 1e-5 in quadrature, 0.02 from a center


def single_lens(**changes: float) -> Scene:
    """One round lens of 1.2 arcsec with nothing else, in double precision."""
    lens = draw_scenes(load_preset("common_test_1"), seed=0, start=0, count=1)
    values = {"shear": 0.0, "einstein_radius": 1.2, "halo_mass": 1e12} | changes
    values |= {"subhalo_z": float(lens.z_lens[0])}
    for name in list(values):
        if name.startswith("subhalo_"):
            first = torch.zeros_like(getattr(lens, name))
            first[0, 0] = values.pop(name)
            lens = replace(lens, **{name: first})
    return replace(lens, **{k: torch.tensor([v], dtype=torch.float64) for k, v in values.items()})


def positions(center: bool = False) -> tuple[Tensor, Tensor]:
    """Grid of positions (30, 30), arcsec; optionally with the center of the lens."""
    axis = torch.linspace(-2.5, 2.47, 30, dtype=torch.float64)
    if center:
        axis[15] = 0
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return x, y


def assert_same_deflection(
    lens: Scene, names: list[str], values: list[dict[str, Any]], atol: float, center: bool = False
) -> None:
    x, y = positions(center)
    computed = deflection(lens, x, y)
    expected = LensModel(names).alpha(x.numpy().ravel(), y.numpy().ravel(), values)
    away = (x**2 + y**2 > 0).numpy()  # the deflection at a singular center is undefined
    for a, b in zip(computed, expected, strict=True):
        np.testing.assert_allclose(a[0].numpy()[away], b.reshape(30, 30)[away], rtol=0, atol=atol)
        assert a.isfinite().all()
        assert np.abs(a[0].numpy()[~away]).max(initial=0) < 1e-9


def ellipticity(q: float, phi: float) -> dict[str, float]:
    e1, e2 = phi_q2_ellipticity(phi, q)
    return {"e1": e1, "e2": e2}


@pytest.mark.parametrize("radius", [0.0, 0.3, 1.6])
def test_isothermal_sphere(radius: float) -> None:
    lens = single_lens(einstein_radius=radius)
    assert_same_deflection(lens, ["SIS"], [{"theta_E": radius}], SOFTENING_TOLERANCE, center=True)


@pytest.mark.parametrize("q", [0.15, 0.5, 0.8, 0.99, 0.9998])
@pytest.mark.parametrize("phi", [0.0, 0.7, -1.3, math.pi / 2])
def test_isothermal_ellipsoid(q: float, phi: float) -> None:
    lens = single_lens(lens_axis_ratio=q, lens_position_angle=phi)
    values = [{"theta_E": 1.2} | ellipticity(q, phi)]
    assert_same_deflection(lens, ["SIE"], values, 1e-6, center=True)


def test_nearly_round_ellipsoid() -> None:
    """Above an axis ratio of 0.9999 it is computed as round."""
    for q in (0.99991, 1 - 1e-9, 1.0):
        lens = single_lens(lens_axis_ratio=q, lens_position_angle=0.3)
        values = [{"theta_E": 1.2} | ellipticity(min(q, 1 - 1e-9), 0.3)]
        assert_same_deflection(lens, ["SIE"], values, 6e-5)


@pytest.mark.parametrize("shear", [0.0, 1e-6, 0.05, 0.4])
@pytest.mark.parametrize("angle", [0.0, 0.4, 2.8])
def test_external_shear(shear: float, angle: float) -> None:
    lens = single_lens(einstein_radius=0.0, shear=shear, shear_angle=angle)
    values = {"gamma1": shear * math.cos(2 * angle), "gamma2": shear * math.sin(2 * angle)}
    assert_same_deflection(lens, ["SHEAR"], [values], 1e-12)


@pytest.mark.parametrize("slope", [1.7, 1.999, 2.0, 2.2])
@pytest.mark.parametrize("q", [0.4, 0.8, 0.999])
def test_power_law(slope: float, q: float) -> None:
    lens = single_lens(lens_slope=slope, lens_axis_ratio=q, lens_position_angle=0.5)
    values = [{"theta_E": 1.2, "gamma": slope} | ellipticity(q, 0.5)]
    assert_same_deflection(lens, ["EPL"], values, 1e-6)


@pytest.mark.parametrize("order", [3, 4])
@pytest.mark.parametrize(("amplitude", "angle"), [(0.03, 0.0), (0.01, 0.6), (-0.02, 1.1)])
def test_multipole(order: int, amplitude: float, angle: float) -> None:
    multipole = {f"multipole_{order}": amplitude, f"multipole_{order}_angle": angle}
    lens = single_lens(**multipole)
    values = {"m": order, "a_m": amplitude * 1.2, "phi_m": angle}
    assert_same_deflection(lens, ["SIS", "MULTIPOLE"], [{"theta_E": 1.2}, values], 1e-6)


@pytest.mark.parametrize(("x0", "y0"), [(0.7, -0.4), (0.0, 0.0), (-9.0, 3.0)])
@pytest.mark.parametrize("mass", [1e4, 1e8, 1e11])
def test_point_mass(mass: float, x0: float, y0: float) -> None:
    main = single_lens()
    lens = single_lens(subhalo_mass=mass, subhalo_x=x0, subhalo_y=y0)
    x, y = positions()
    computed = [a - b for a, b in zip(deflection(lens, x, y), deflection(main, x, y), strict=True)]
    radius = 1.2 * math.sqrt(mass / 1e12)
    values = [{"theta_E": radius, "center_x": x0, "center_y": y0}]
    expected = LensModel(["POINT_MASS"]).alpha(x.numpy(), y.numpy(), values)
    for a, b in zip(computed, expected, strict=True):
        np.testing.assert_allclose(a[0].numpy(), b, rtol=1e-6, atol=1e-12)


def test_point_mass_does_not_deflect_at_its_own_position() -> None:
    lens = single_lens(einstein_radius=1.2, subhalo_mass=1e9, subhalo_x=0.5, subhalo_y=0.25)
    at = torch.full((1, 1), 0.5).double(), torch.full((1, 1), 0.25).double()
    for a, b in zip(deflection(lens, *at), deflection(single_lens(), *at), strict=True):
        assert float(a) == float(b)


@pytest.mark.parametrize("scale", [0.02, 0.3])
@pytest.mark.parametrize("tau", [0.7, 1.0001, 6.0, 40.0])
def test_truncated_halo(scale: float, tau: float) -> None:
    x0, y0, mass = 0.613, -0.421, 3e10
    lens = single_lens(
        subhalo_mass=mass,
        subhalo_x=x0,
        subhalo_y=y0,
        subhalo_scale_radius=scale,
        subhalo_truncation_radius=tau * scale,
    )
    x, y = positions()
    computed = [
        a - b for a, b in zip(deflection(lens, x, y), deflection(single_lens(), x, y), strict=True)
    ]
    # The total mass pi R^2 (Baltz, Marshall & Oguri 2009, eq. A.4) fixes rho_0.
    t2 = tau**2
    shape = t2 / (t2 + 1) ** 2 * ((t2 - 1) * math.log(tau) + tau * math.pi - (t2 + 1))
    rho_0 = 1.2**2 * mass / 1e12 / (4 * scale**3 * shape)
    strength = 4 * rho_0 * scale**2 * (1 + math.log(0.5))
    values = {"Rs": scale, "alpha_Rs": strength, "r_trunc": tau * scale}
    expected = LensModel(["TNFW"]).alpha(
        x.numpy().ravel(), y.numpy().ravel(), [values | {"center_x": x0, "center_y": y0}]
    )
    for a, b in zip(computed, expected, strict=True):
        np.testing.assert_allclose(a[0].numpy().ravel(), b, rtol=1e-4, atol=2e-6)


def lenstronomy_sersic(
    n: float, radius: float, brightness: float, q: float, phi: float, x0: float, y0: float
) -> dict[str, float]:
    """Arguments of lenstronomy for a Sersic profile; its b_n is linear in n."""
    k = 2 * n - 1 / 3 + 4 / 405 / n + 46 / 25515 / n**2 + 131 / 1148175 / n**3
    k -= 2194697 / 30690717750 / n**4
    b = 1.9992 * n - 0.3271
    return {
        "amp": brightness * math.exp(k - b),
        "R_sersic": radius * (b / k) ** n,
        "n_sersic": n,
        "center_x": x0,
        "center_y": y0,
    } | ellipticity(q, phi)


@pytest.mark.parametrize("n", [0.5, 1.0, 1.5, 4.0])
@pytest.mark.parametrize("radius", [0.01, 0.5])
@pytest.mark.parametrize(("q", "phi"), [(1.0, 0.0), (0.4, 0.9), (0.7, -1.2), (0.999, 0.2)])
def test_sersic(n: float, radius: float, q: float, phi: float) -> None:
    values = {"index": n, "radius": radius, "brightness": 80.0}
    values |= {"axis_ratio": q, "position_angle": phi}
    lens = single_lens(**{f"source_{k}": v for k, v in values.items()}, source_x=0.0, source_y=-0.3)
    x, y = positions(center=True)
    computed = source_light(lens, x[None], y[None], None)[0].numpy()
    q = min(q, 1 - 1e-9)
    expected = LightModel(["SERSIC_ELLIPSE"]).surface_brightness(
        x.numpy().ravel(),
        y.numpy().ravel(),
        [lenstronomy_sersic(n, radius, 80.0, q, phi, 0.0, -0.3)],
    )
    np.testing.assert_allclose(computed.ravel(), expected, rtol=1e-6, atol=1e-9)


def test_sersic_light_at_the_center() -> None:
    """lenstronomy is flat within 1e-5 arcsec, halometry is softened by 1e-6."""
    light = {"index": 1.5, "radius": 0.5, "brightness": 80.0}
    light |= {"axis_ratio": 0.6, "position_angle": 0.3}
    lens = single_lens(**{f"lens_light_{k}": v for k, v in light.items()})
    at = torch.zeros(1, 1).double()
    model = LightModel(["SERSIC_ELLIPSE"])
    expected = model.surface_brightness(
        np.zeros(1), np.zeros(1), [lenstronomy_sersic(1.5, 0.5, 80.0, 0.6, 0.3, 0, 0)]
    )
    assert float(lens_light(lens, at, at)) == pytest.approx(float(expected[0]), rel=0.02)


@pytest.mark.parametrize("supersampling", [1, 2])
@pytest.mark.parametrize("precision", [torch.float64, torch.float32])
def test_complete_image(supersampling: int, precision: torch.dtype) -> None:
    """With subhalos; one is at the center of a pixel, where rounding errors matter."""
    preset = load_preset("common_test_1")
    preset = preset.model_copy(
        update={"image": preset.image.model_copy(update={"supersampling": supersampling})}
    )
    spec = preset.image
    scenes = draw_scenes(preset, seed=4, start=1, count=1)
    x_at, y_at = pixel_grid(spec, scenes.einstein_radius)
    scenes.subhalo_x[0, 0], scenes.subhalo_y[0, 0] = x_at[90, 110], y_at[90, 110]
    scenes = replace(scenes, lens_axis_ratio=torch.tensor([0.75], dtype=torch.float64))
    v = {k: t[0] for k, t in scenes.parameters().items()}
    lens: list[dict[str, Any]] = [
        {"theta_E": v["einstein_radius"]} | ellipticity(0.75, 0.0),
        {
            "gamma1": v["shear"] * np.cos(2 * v["shear_angle"]),
            "gamma2": v["shear"] * np.sin(2 * v["shear_angle"]),
        },
    ]
    present = np.flatnonzero(v["subhalo_mass"] > 0)
    for i in present:
        radius = float(scenes.subhalo_radius[0, i])
        lens.append(
            {"theta_E": radius, "center_x": v["subhalo_x"][i], "center_y": v["subhalo_y"][i]}
        )
    light = ("index", "radius", "brightness", "axis_ratio", "position_angle", "x", "y")
    source = lenstronomy_sersic(*(float(v[f"source_{key}"]) for key in light))
    source["amp"] /= spec.pixel_scale**2
    corner = -(spec.pixels - 1) / 2 * spec.pixel_scale
    data = ImageData(
        image_data=np.zeros((spec.pixels, spec.pixels)),
        ra_at_xy_0=corner,
        dec_at_xy_0=corner,
        transform_pix2angle=np.eye(2) * spec.pixel_scale,
    )
    psf = PSF(
        psf_type="GAUSSIAN",
        fwhm=spec.psf_sigma * math.sqrt(8 * math.log(2)),
        pixel_size=spec.pixel_scale,
        truncation=4,
    )
    model = ImageModel(
        data,
        psf,
        lens_model_class=LensModel(["SIE", "SHEAR"] + ["POINT_MASS"] * len(present)),
        source_model_class=LightModel(["SERSIC_ELLIPSE"]),
        kwargs_numerics={"supersampling_factor": supersampling},
    )
    expected = model.image(lens, [source])
    computed = (render(scenes.to("cpu", precision), preset) - spec.sky)[0, 0].double().numpy()
    near = slice(90 // supersampling - 4, 90 // supersampling + 5)
    computed[near, slice(110 // supersampling - 4, 110 // supersampling + 5)] = 0
    expected[near, slice(110 // supersampling - 4, 110 // supersampling + 5)] = 0
    assert np.abs(computed - expected).max() < 1e-4 * expected.max()
    assert np.linalg.norm(computed - expected) < 5e-5 * np.linalg.norm(expected)
