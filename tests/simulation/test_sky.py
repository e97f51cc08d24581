"""What a preset can have beyond the published sets: each against something known."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from astropy.io import fits
from torch import Tensor

from halometry.errors import ConfigError, UnavailableError
from halometry.simulation import Scene, draw_scenes, einstein_radius, load_preset, render, sample
from halometry.simulation.convergence import substructure_convergence
from halometry.simulation.cosmology import Cosmology, distances, mass_within
from halometry.simulation.instrument import (
    ImageSpec,
    instrument_text,
    instruments,
    load_instrument,
)
from halometry.simulation.lenses import deflection
from halometry.simulation.preset import Preset
from halometry.simulation.profiles import (
    mass_share_tnfw,
    potential_line,
    reduced_deflection_angle_epl,
    reduced_deflection_angle_line,
    reduced_deflection_angle_multipole,
)
from halometry.simulation.render import pixel_grid, spread
from halometry.simulation.subhalos import mean_concentration, truncated_mass


def own_preset(tmp_path: Path, name: str = "euclid", **changes: object) -> Preset:
    """A preset with some of its keys, written `a__b`, changed; None removes one."""
    content = yaml.safe_load(load_preset(name).to_yaml())
    for place, value in changes.items():
        inner = content
        *path, last = place.split("__")
        for key in path:
            inner = inner[key]
        inner[last] = value
        if value is None:
            del inner[last]
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(content))
    return load_preset(file)


def double(*values: float) -> list[Tensor]:
    return [torch.tensor(v, dtype=torch.float64) for v in values]


def grid(half: float, count: int) -> tuple[Tensor, Tensor]:
    axis = torch.linspace(-half, half, count, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return x, y


def test_a_lines_deflection_is_the_gradient_of_its_potential() -> None:
    values = double(0.2, -0.1, 0.7, 1.3, 0.4)
    at = torch.randn(200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    at.requires_grad_()
    potential_line(*values, at[:, 0], at[:, 1]).sum().backward()
    expected = torch.stack(reduced_deflection_angle_line(*values, at[:, 0], at[:, 1]), dim=1)
    torch.testing.assert_close(at.grad, expected.detach(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("order", [3, 4])
def test_a_multipoles_deflection_is_the_gradient_of_its_potential(order: int) -> None:
    x0, y0, a_m, phi_m = double(0.1, -0.2, 0.05, 0.4)
    at = torch.randn(200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    at.requires_grad_()
    dx, dy = at[:, 0] - x0, at[:, 1] - y0
    angle = order * (torch.atan2(dy, dx) - phi_m)
    (torch.hypot(dx, dy) * a_m / (1 - order**2) * torch.cos(angle)).sum().backward()
    got = reduced_deflection_angle_multipole(x0, y0, order, a_m, phi_m, at[:, 0], at[:, 1])
    torch.testing.assert_close(at.grad, torch.stack(got, dim=1).detach(), rtol=1e-9, atol=1e-12)


def test_a_truncated_halo_has_all_its_mass_far_away_and_none_at_its_centre() -> None:
    scale, tau = double(0.1, 5.0)
    near, far = double(1e-6, 1e4)
    assert float(mass_share_tnfw(near, scale, tau)) == pytest.approx(0, abs=1e-6)
    assert float(mass_share_tnfw(far, scale, tau)) == pytest.approx(1, abs=1e-3)
    r = torch.logspace(-3, 2, 4000, dtype=torch.float64)
    share = mass_share_tnfw(r * scale, scale, tau)
    assert (share.diff() > 0).all()  # through r = r_s too, where the formula changes
    assert float((share.diff() / share[1:]).diff().abs().max()) < 2e-4


def test_a_halo_cut_at_its_virial_radius_keeps_about_its_mass() -> None:
    assert truncated_mass(1e9, 12.0, 12.0) == pytest.approx(1e9, rel=0.05)
    assert truncated_mass(1e9, 12.0, 1.0) < 0.3e9


def test_the_mean_concentration_is_that_of_colossus() -> None:
    concentration = pytest.importorskip("colossus.halo.concentration", reason="needs colossus")
    from colossus.cosmology import cosmology

    cosmology.setCosmology("planck13")  # in which the relation was found
    h = cosmology.getCurrent().h
    for mass, z in ((1e10, 0.0), (1e12, 0.5), (1e9, 1.0)):
        expected = concentration.modelDutton14(mass * h, z, "200c")[0]
        assert mean_concentration(mass, z, Cosmology(H0=100 * h)) == pytest.approx(expected, 1e-3)


def test_flattened_power_laws_have_terms_enough() -> None:
    x, y = grid(2, 40)
    slope = torch.full((1,), 2.1, dtype=torch.float64)
    one = replace(draw_scenes(load_preset("euclid"), 0, 0, 1), lens_slope=slope)
    bare = dict.fromkeys(("shear", "multipole_3", "multipole_4"), 0 * slope)
    for q in (0.05, 0.1, 0.5):
        flat = replace(one, lens_axis_ratio=0 * slope + q, **bare)
        arguments = double(0.0, 0.0, q, float(one.lens_position_angle), 1.0, 1.1)
        arguments[4] = one.einstein_radius[0]
        many = torch.stack(reduced_deflection_angle_epl(*arguments, x, y, 2000, 1e-5))
        torch.testing.assert_close(torch.cat(deflection(flat, x, y)), many, rtol=0, atol=1e-6)


def test_cosmologies_are_astropys() -> None:
    from astropy.cosmology import Planck18

    planck = einstein_radius(1e12, 0.5, 1.0, which=Cosmology(name="Planck18"))
    same = Cosmology(H0=float(Planck18.H0.value), Om0=float(Planck18.Om0))
    assert planck == pytest.approx(einstein_radius(1e12, 0.5, 1.0, which=same), rel=2e-3)
    assert planck != pytest.approx(einstein_radius(1e12, 0.5, 1.0), rel=1e-3)
    assert mass_within(planck, 0.5, 1.0, which=Cosmology(name="Planck18")) == pytest.approx(1e12)


def test_magnitudes_give_the_counts_of_the_zero_point(tmp_path: Path) -> None:
    small = {"value": 0.15, "unit": "arcsec"}
    fixed = {"value": 23.0, "unit": "mag"}
    preset = own_preset(tmp_path, source__radius=small, source__magnitude=fixed, lens_light=None)
    scene = draw_scenes(preset, 0, 0, 1)
    bare = ("einstein_radius", "shear", "multipole_3", "multipole_4")
    scene = replace(scene, **dict.fromkeys(bare, torch.zeros(1, dtype=torch.float64)))
    flux = float((render(scene, preset) - preset.image.sky).sum())
    assert preset.image.zero_point is not None
    assert preset.image.zero_point - 2.5 * math.log10(flux) == pytest.approx(23.0, abs=0.02)


@pytest.mark.parametrize("name", instruments())
def test_every_instrument_has_figures_with_sources(name: str) -> None:
    instrument = load_instrument(name)
    spec = ImageSpec(pixels=32, instrument=name)
    assert spec.sky > 1
    assert spec.psf_sigma * 2.3548 == pytest.approx(instrument.psf_fwhm.value, rel=1e-3)  # type: ignore[union-attr]
    for key in ("pixel_scale", "zero_point", "exposure_time", "sky_brightness", "read_noise"):
        assert getattr(instrument, key).source, key


def test_a_point_spread_function_from_a_file_is_that_of_the_gaussian(tmp_path: Path) -> None:
    axis = np.arange(-8, 9)
    bell = np.exp(-0.5 * (axis / 1.7) ** 2)
    fits.PrimaryHDU((bell[:, None] * bell * 3.0).astype(">f4")).writeto(tmp_path / "psf.fits")
    image = {"psf": {"file": "psf.fits"}, "psf_sigma": 0.0}
    preset = own_preset(tmp_path, "demo_mass", image__psf=image["psf"], image__psf_sigma=0.0)
    impulse = torch.zeros(1, 1, 48, 48, dtype=torch.float64)
    impulse[0, 0, 20, 25] = 1
    got = spread(impulse, preset.image)
    gauss = ImageSpec(pixels=48, pixel_scale=1.0, psf_sigma=1.7)
    torch.testing.assert_close(got, spread(impulse, gauss), rtol=0, atol=3e-4)
    assert float(got.sum()) == pytest.approx(1, rel=1e-6)


def test_a_lopsided_point_spread_function_is_not_turned_round(tmp_path: Path) -> None:
    kernel = np.zeros((3, 3))
    kernel[1, 2] = 1  # all light one pixel to the right
    np.save(tmp_path / "psf.npy", kernel)
    preset = own_preset(tmp_path, "demo_mass", image__psf={"file": "psf.npy"}, image__psf_sigma=0.0)
    impulse = torch.zeros(1, 1, 48, 48)
    impulse[0, 0, 20, 25] = 1
    assert float(spread(impulse, preset.image)[0, 0, 20, 26]) == 1


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (np.ones((4, 4)), "two odd sides"),
        (np.zeros((3, 3)), "sum above 0"),
        (np.full((3, 3), np.nan), "finite"),
        (np.array([[0, 1, 0], [1, 5, -1], [0, 1, 0]]), "not be negative"),
    ],
)
def test_a_bad_point_spread_function_is_named(
    tmp_path: Path, kernel: np.ndarray, message: str
) -> None:
    np.save(tmp_path / "psf.npy", kernel)
    with pytest.raises(ConfigError, match=rf"psf\.npy: must .*{message}"):
        own_preset(tmp_path, "demo_mass", image__psf={"file": "psf.npy"}, image__psf_sigma=0.0)


def pictured(tmp_path: Path, pictures: np.ndarray) -> Preset:
    np.savez(tmp_path / "galaxies.npz", images=pictures)
    return own_preset(
        tmp_path,
        "demo_mass",
        source__picture={"file": "galaxies.npz"},
        source__sersic_index=None,
        source__axis_ratio=None,
    )


def test_figures_of_an_instrument_can_be_changed_one_by_one(tmp_path: Path) -> None:
    np.save(tmp_path / "psf.npy", np.ones((3, 3)))
    finer = ImageSpec(pixels=32, instrument="euclid_vis", pixel_scale=0.05)
    assert finer.sky == pytest.approx(ImageSpec(pixels=32, instrument="euclid_vis").sky / 4)
    content = {"pixels": 32, "instrument": "euclid_vis"}
    own = ImageSpec.model_validate(content | {"psf": {"file": str(tmp_path / "psf.npy")}})
    assert own.psf_sigma == 0
    law = {"uniform": [1, 2], "unit": "counts/pixel"}
    assert ImageSpec.model_validate(content | {"background": law}).background_rms == 0
    with pytest.raises(ValueError, match="an instrument has its own exposure"):
        ImageSpec.model_validate(content | {"exposure": {"value": 10, "unit": "s"}})


def test_an_instrument_of_ones_own_may_have_a_kernel_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "psf.npy", np.ones((3, 3)))
    content = yaml.safe_load(instrument_text("euclid_vis"))
    del content["psf_fwhm"]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content | {"psf": {"file": "psf.npy"}}))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    preset = load_preset("euclid")
    whole = yaml.safe_load(preset.to_yaml())
    whole["image"] = {"pixels": 48, "instrument": "../mine.yaml"}
    Path("preset.yaml").write_text(yaml.safe_dump(whole))
    monkeypatch.chdir(tmp_path)
    image = load_preset("elsewhere/preset.yaml").image
    assert image.kernel is not None
    assert image.kernel.shape == (3, 3)


def test_deeplensesims_convention_weakens_all_deflections_alike() -> None:
    near, far = (distances(0.5, z) for z in (1.0, 2.5))  # sources, and those it counts for
    weaker = float(near.between / near.source * far.source / far.between)
    published = einstein_radius(1e12, 0.5, 1.0, "published")
    assert published * weaker == pytest.approx(0.81, abs=0.005)
    for name in ("model_2_as_run", "model_3_as_run"):
        scene = draw_scenes(load_preset(name), 0, 0, 3)
        heaviest = scene.subhalo_radius[1, 0] ** 2 / (scene.subhalo_mass[1, 0] / 0.634)
        assert float(heaviest) == pytest.approx(published**2 * weaker / 1e12, rel=0.01)
        assert float(scene.line_radius[2] ** 2) == pytest.approx(
            published**2 * weaker * 0.03, rel=0.01
        )


@pytest.mark.parametrize("shape", [(8, 8), (20, 30), (64, 32)])
def test_pictures_have_the_flux_of_their_magnitude_and_their_shape(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    y, x = np.mgrid[: shape[0], : shape[1]]
    y, x = y - (shape[0] - 1) / 2, x - (shape[1] - 1) / 2
    np.savez(tmp_path / "galaxies.npz", images=np.exp(-(x**2 + y**2) / (0.1 * min(shape)) ** 2))
    zero = torch.zeros(1, dtype=torch.float64)
    preset = own_preset(
        tmp_path,
        lens_light=None,
        source__picture={"file": "galaxies.npz"},
        source__sersic_index=None,
        source__axis_ratio=None,
        source__magnitude={"value": 21.0, "unit": "mag"},
        source__radius={"value": 2.0, "unit": "arcsec"},
    )
    bare = ("einstein_radius", "shear", "multipole_3", "multipole_4", "source_x", "source_y")
    scene = replace(draw_scenes(preset, 0, 0, 1), **dict.fromkeys(bare, zero))
    light = (render(scene, preset) - preset.image.sky)[0, 0]
    assert preset.image.zero_point is not None
    magnitude = preset.image.zero_point - 2.5 * math.log10(float(light.sum()))
    assert magnitude == pytest.approx(21.0, abs=0.03)
    x_at, y_at = pixel_grid(preset.image.model_copy(update={"supersampling": 1}), light)
    second = [float((light * v**2).sum() / light.sum()) for v in (x_at, y_at)]
    assert second[0] == pytest.approx(second[1], rel=0.12)


def test_a_picture_of_a_galaxy_is_seen_through_no_lens_as_it_is(tmp_path: Path) -> None:
    y, x = np.mgrid[-1:1:65j, -1:1:65j]
    blob = np.exp(-0.5 * ((x - 0.2) ** 2 + (y + 0.1) ** 2) / 0.1**2)
    preset = pictured(tmp_path, np.stack([blob + 0.3, 2 * blob + 0.1]))
    scene = draw_scenes(preset, 0, 0, 1)
    zero = torch.zeros(1, dtype=torch.float64)
    bare = dict.fromkeys(("shear", "einstein_radius", "source_position_angle"), zero)
    at = {"source_x": zero + 0.5, "source_y": zero - 0.5, "source_radius": zero + 2.0}
    image = (render(replace(scene, **bare, **at), preset) - preset.image.sky)[0, 0]
    x_at, y_at = pixel_grid(preset.image, image)
    assert float((image * x_at).sum() / image.sum()) == pytest.approx(0.5 + 0.2 * 2, abs=0.02)
    assert float((image * y_at).sum() / image.sum()) == pytest.approx(-0.5 - 0.1 * 2, abs=0.02)
    assert float(image.max()) == pytest.approx(float(scene.source_brightness), rel=0.25)


def test_pictures_are_drawn_and_changed_ones_are_noticed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    preset = pictured(tmp_path, rng.uniform(0, 1, (3, 20, 30)))
    assert set(draw_scenes(preset, 0, 0, 40).source_picture.tolist()) == {0, 1, 2}
    images, _ = sample(preset, 0, 0, 2)
    assert images.std() > 0
    written = tmp_path / "again.yaml"
    written.write_text(preset.to_yaml())
    np.savez(tmp_path / "galaxies.npz", images=rng.uniform(0, 1, (3, 20, 30)))
    with pytest.raises(ConfigError, match=r"galaxies\.npz: has changed"):
        load_preset(written)


def test_the_galaxies_of_hubble_make_sources(tmp_path: Path, shared_data: Path) -> None:
    file = shared_data / "galaxies" / "cosmos_43.npz"
    preset = own_preset(
        tmp_path,
        "demo_mass",
        source__picture={"file": str(file)},
        source__sersic_index=None,
        source__axis_ratio=None,
    )
    images, scene = sample(preset, 0, 0, 8)
    assert images.isfinite().all()
    assert len(set(scene.source_picture.tolist())) > 3


def smoothed(scene: Scene, x: Tensor, y: Tensor) -> tuple[Tensor, float]:
    kappa = substructure_convergence(scene, x, y, 0.08)[0]
    step = float(x[0, 1] - x[0, 0])
    return kappa, step**2


@pytest.mark.parametrize(("kind", "at"), [(1, "subhalo"), (2, "line")])
def test_the_convergence_map_holds_the_mass(kind: int, at: str) -> None:
    scene = draw_scenes(load_preset("common_test_1"), 3, kind, 1)
    x, y = grid(6, 600)
    kappa, area = smoothed(scene, x, y)
    radius = scene.subhalo_radius[0] if at == "subhalo" else scene.line_radius
    total = math.pi * float((radius**2).sum())
    assert float(kappa.sum()) * area == pytest.approx(total, rel=1e-3)


def test_the_convergence_of_a_truncated_halo_is_half_its_deflections_divergence() -> None:
    scene = draw_scenes(load_preset("euclid"), 0, 1, 1)
    first = scene.subhalo_mass.argmax()
    mass = torch.zeros_like(scene.subhalo_mass)
    mass[0, first] = scene.subhalo_mass[0, first]
    nothing = torch.zeros(1, dtype=torch.float64)
    scene = replace(scene, subhalo_mass=mass, einstein_radius=scene.einstein_radius)
    x0, y0 = float(scene.subhalo_x[0, first]), float(scene.subhalo_y[0, first])
    at = torch.tensor([x0 + 0.3, y0 - 0.2], dtype=torch.float64)
    bare = replace(scene, shear=nothing, multipole_3=nothing, multipole_4=nothing)

    def without_main(p: Tensor) -> Tensor:
        with_ = torch.stack(deflection(bare, p[0][None, None], p[1][None, None]))
        empty = replace(bare, subhalo_mass=torch.zeros_like(mass))
        return (
            with_ - torch.stack(deflection(empty, p[0][None, None], p[1][None, None]))
        ).flatten()

    jacobian = torch.func.jacrev(without_main)(at)
    kappa = substructure_convergence(scene, at[0][None, None], at[1][None, None], 1e-6)
    assert float(jacobian.trace() / 2) == pytest.approx(float(kappa), rel=1e-3)


def test_halos_before_and_behind_the_lens_reduce_to_one_plane() -> None:
    """Halos moved to a plane just beside the lens deflect as if they were in it."""
    scene = draw_scenes(load_preset("euclid"), 0, 1, 1)
    x, y = grid(2, 21)
    beside = replace(scene, subhalo_z=scene.subhalo_z + 1e-4)
    cosmology = load_preset("euclid").cosmology
    one = torch.stack(deflection(scene, x, y, cosmology))
    two = torch.stack(deflection(beside, x, y, cosmology))
    torch.testing.assert_close(one, two, rtol=0, atol=2e-3)
    assert not torch.equal(one, two)


HALOS = {
    "sigma_sub": {"value": 0.05, "unit": "1/kpc^2", "source": "test"},
    "line_of_sight": {"value": 1.0, "source": "test"},
    "host_mass": {"value": 1e13, "unit": "Msun", "source": "test"},
    "lowest_mass": 3e7,
    "field": 4.0,
    "places": 400,
}


def halos_preset(tmp_path: Path, **changes: object) -> Preset:
    return own_preset(tmp_path, subhalos=None, halos=HALOS | changes)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_halos_of_pyhalo_are_drawn_by_seed_and_bent_as_lenstronomy_does(tmp_path: Path) -> None:
    pytest.importorskip("pyHalo", reason="needs the extra 'halos'")
    lens_model = pytest.importorskip("lenstronomy.LensModel.lens_model")
    preset = halos_preset(tmp_path)
    state = np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    scene, again = (draw_scenes(preset, 7, 1, 1) for _ in range(2))
    assert (np.random.get_state()[1] == state).all()  # type: ignore[index]  # noqa: NPY002
    assert torch.equal(scene.subhalo_mass, again.subhalo_mass)
    present = scene.subhalo_mass[0] > 0
    assert 20 < int(present.sum()) < 400
    assert len(set(scene.subhalo_z[0, present].tolist())) > 10
    assert 0 < float(scene.f_sub) < float(scene.subhalo_mass.sum() / scene.halo_mass)
    ours, theirs = _by_both(scene, preset, lens_model.LensModel)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=5e-5)


def _by_both(scene: Scene, preset: Preset, model: type) -> tuple[Tensor, Tensor]:
    """The deflection by this package and by lenstronomy's multi-plane lensing, without the main
    lens, whose profile is not in question."""
    from halometry.simulation.cosmology import universe

    z_lens, z_source = float(scene.z_lens[0]), float(scene.z_source[0])
    kind, redshifts, arguments = ["SIS"], [z_lens], [{"theta_E": 1.1, "center_x": 0, "center_y": 0}]
    zero = torch.zeros(1, dtype=torch.float64)
    scene = replace(
        scene,
        einstein_radius=zero + 1.1,
        halo_mass=zero + mass_within(1.1, z_lens, z_source, which=preset.cosmology),
        lens_axis_ratio=zero + 1,
        lens_slope=zero + 2,
        shear=zero,
        multipole_3=zero,
        multipole_4=zero,
    )
    for i in torch.nonzero(scene.subhalo_mass[0] > 0)[:, 0].tolist():
        z, scale = float(scene.subhalo_z[0, i]), float(scene.subhalo_scale_radius[0, i])
        cut = float(scene.subhalo_truncation_radius[0, i])
        radius = float(
            einstein_radius(float(scene.subhalo_mass[0, i]), z, z_source, which=preset.cosmology)
        )
        # truncated_mass of a halo with M200 / (log(1 + c) - c / (1 + c)) = 1
        share = truncated_mass(math.log(2) - 0.5, 1.0, cut / scale)
        arguments.append(
            {
                "alpha_Rs": radius**2 / share * (1 - math.log(2)) / scale,
                "Rs": scale,
                "r_trunc": cut,
                "center_x": float(scene.subhalo_x[0, i]),
                "center_y": float(scene.subhalo_y[0, i]),
            }
        )
        kind.append("TNFW")
        redshifts.append(z)
    oracle = model(
        kind,
        z_source=z_source,
        lens_redshift_list=redshifts,
        multi_plane=True,
        cosmo=universe(preset.cosmology),
    )
    x, y = grid(1.9, 6)
    theirs = np.stack(oracle.alpha(x.numpy().ravel(), y.numpy().ravel(), arguments))
    ours = torch.cat(deflection(scene, x, y, preset.cosmology))
    return ours, torch.from_numpy(theirs).reshape(2, 6, 6)


def test_warm_dark_matter_has_fewer_halos(tmp_path: Path) -> None:
    pytest.importorskip("pyHalo", reason="needs the extra 'halos'")
    half_mode = {"value": 1e9, "unit": "Msun", "source": "test"}
    cold, warm = halos_preset(tmp_path), None
    warm = halos_preset(tmp_path, dark_matter="wdm", half_mode_mass=half_mode)
    number = [int((draw_scenes(p, 0, 1, 1).subhalo_mass > 0).sum()) for p in (cold, warm)]
    assert number[1] < number[0] / 2


def test_halos_have_their_own_numbers(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'mass_scale' must be 1 with 'halos'"):
        own_preset(tmp_path, subhalos=None, mass_scale=2.0, halos=HALOS)
    with pytest.raises(ConfigError, match="'half_mode_mass' belongs to 'wdm'"):
        halos_preset(tmp_path, dark_matter="wdm")
    with pytest.raises(ConfigError, match="need 'distances: angular_diameter'"):
        own_preset(tmp_path, subhalos=None, distances="published", halos=HALOS)


def test_without_pyhalo_its_halos_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyHalo.PresetModels.cdm", None)
    with pytest.raises(UnavailableError, match=r"pip install 'halometry\[halos\]'"):
        draw_scenes(halos_preset(tmp_path), 0, 1, 1)
