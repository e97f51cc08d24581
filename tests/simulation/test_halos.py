"""Convergence maps of substructure, and halos in front of and behind the lens."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from halometry.errors import ConfigError, UnavailableError
from halometry.simulation import Scene, draw_scenes, einstein_radius, load_preset
from halometry.simulation.cosmology import mass_within
from halometry.simulation.lenses import deflection
from halometry.simulation.preset import Preset
from halometry.simulation.subhalos import truncated_mass
from halometry.simulation.substructure_maps import substructure_convergence
from helpers.presets import changed_preset, position_grid


def smoothed(scene: Scene, x: Tensor, y: Tensor) -> tuple[Tensor, float]:
    kappa = substructure_convergence(scene, x, y, 0.08)[0]
    step = float(x[0, 1] - x[0, 0])
    return kappa, step**2


@pytest.mark.parametrize(("kind", "at"), [(1, "subhalo"), (2, "vortex")])
def test_convergence_map_has_the_mass_of_the_substructure(kind: int, at: str) -> None:
    scene = draw_scenes(load_preset("common_test_1"), 3, kind, 1)
    x, y = position_grid(6, 600)
    kappa, area = smoothed(scene, x, y)
    radius = scene.subhalo_radius[0] if at == "subhalo" else scene.vortex_radius
    total = math.pi * float((radius**2).sum())
    assert float(kappa.sum()) * area == pytest.approx(total, rel=1e-3)


def test_convergence_of_truncated_halo_is_half_the_divergence_of_its_deflection() -> None:
    scene = draw_scenes(load_preset("euclid"), 0, 1, 1)
    first = scene.subhalo_mass.argmax()
    mass = torch.zeros_like(scene.subhalo_mass)
    mass[0, first] = scene.subhalo_mass[0, first]
    nothing = torch.zeros(1, dtype=torch.float64)
    scene = replace(scene, subhalo_mass=mass, einstein_radius=scene.einstein_radius)
    x0, y0 = float(scene.subhalo_x[0, first]), float(scene.subhalo_y[0, first])
    at = torch.tensor([x0 + 0.3, y0 - 0.2], dtype=torch.float64)
    bare = replace(scene, shear=nothing, multipole_3=nothing, multipole_4=nothing)

    def subhalo_deflection(p: Tensor) -> Tensor:
        with_ = torch.stack(deflection(bare, p[0][None, None], p[1][None, None]))
        empty = replace(bare, subhalo_mass=torch.zeros_like(mass))
        return (
            with_ - torch.stack(deflection(empty, p[0][None, None], p[1][None, None]))
        ).flatten()

    jacobian = torch.func.jacrev(subhalo_deflection)(at)
    kappa = substructure_convergence(scene, at[0][None, None], at[1][None, None], 1e-6)
    assert float(jacobian.trace() / 2) == pytest.approx(float(kappa), rel=1e-3)


def test_multi_plane_deflection_approaches_single_plane() -> None:
    """Halos in a plane close to the lens plane deflect as if they were in it."""
    scene = draw_scenes(load_preset("euclid"), 0, 1, 1)
    x, y = position_grid(2, 21)
    beside = replace(scene, subhalo_z=scene.subhalo_z + 1e-4)
    cosmology = load_preset("euclid").cosmology
    single = torch.stack(deflection(scene, x, y, cosmology))
    multi = torch.stack(deflection(beside, x, y, cosmology))
    torch.testing.assert_close(single, multi, rtol=0, atol=2e-3)
    assert not torch.equal(single, multi)


HALOS = {
    "sigma_sub": {"value": 0.05, "unit": "1/kpc^2", "source": "test"},
    "line_of_sight": {"value": 1.0, "source": "test"},
    "host_mass": {"value": 1e13, "unit": "Msun", "source": "test"},
    "lowest_mass": 3e7,
    "cone_diameter": 4.0,
    "max_halos": 400,
}


def halos_preset(tmp_path: Path, **changes: object) -> Preset:
    return changed_preset(tmp_path, subhalos=None, halos=HALOS | changes)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_pyhalo_halos_are_reproducible_and_deflect_as_in_lenstronomy(tmp_path: Path) -> None:
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
    computed, expected = _deflection_of_both_codes(scene, preset, lens_model.LensModel)
    torch.testing.assert_close(computed, expected, rtol=0, atol=5e-5)


def _deflection_of_both_codes(scene: Scene, preset: Preset, model: type) -> tuple[Tensor, Tensor]:
    """Multi-plane deflection by halometry and by lenstronomy; the main lens is a SIS."""
    from halometry.simulation.cosmology import astropy_cosmology

    z_lens, z_source = float(scene.z_lens[0]), float(scene.z_source[0])
    kind, redshifts, arguments = ["SIS"], [z_lens], [{"theta_E": 1.1, "center_x": 0, "center_y": 0}]
    zero = torch.zeros(1, dtype=torch.float64)
    scene = replace(
        scene,
        einstein_radius=zero + 1.1,
        halo_mass=zero + mass_within(1.1, z_lens, z_source, cosmology=preset.cosmology),
        lens_axis_ratio=zero + 1,
        lens_slope=zero + 2,
        shear=zero,
        multipole_3=zero,
        multipole_4=zero,
    )
    for i in torch.nonzero(scene.subhalo_mass[0] > 0)[:, 0].tolist():
        z, scale = float(scene.subhalo_z[0, i]), float(scene.subhalo_scale_radius[0, i])
        truncation = float(scene.subhalo_truncation_radius[0, i])
        radius = float(
            einstein_radius(
                float(scene.subhalo_mass[0, i]), z, z_source, cosmology=preset.cosmology
            )
        )
        # truncated_mass of a halo with M200 / (log(1 + c) - c / (1 + c)) = 1
        fraction = truncated_mass(math.log(2) - 0.5, 1.0, truncation / scale)
        arguments.append(
            {
                "alpha_Rs": radius**2 / fraction * (1 - math.log(2)) / scale,
                "Rs": scale,
                "r_trunc": truncation,
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
        cosmo=astropy_cosmology(preset.cosmology),
    )
    x, y = position_grid(1.9, 6)
    expected = np.stack(oracle.alpha(x.numpy().ravel(), y.numpy().ravel(), arguments))
    computed = torch.cat(deflection(scene, x, y, preset.cosmology))
    return computed, torch.from_numpy(expected).reshape(2, 6, 6)


def test_warm_dark_matter_has_fewer_halos(tmp_path: Path) -> None:
    pytest.importorskip("pyHalo", reason="needs the extra 'halos'")
    half_mode = {"value": 1e9, "unit": "Msun", "source": "test"}
    cold, warm = halos_preset(tmp_path), None
    warm = halos_preset(tmp_path, dark_matter="wdm", half_mode_mass=half_mode)
    number = [int((draw_scenes(p, 0, 1, 1).subhalo_mass > 0).sum()) for p in (cold, warm)]
    assert number[1] < number[0] / 2


def test_inconsistent_halos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'mass_scale' must be 1 with 'halos'"):
        changed_preset(tmp_path, subhalos=None, mass_scale=2.0, halos=HALOS)
    with pytest.raises(ConfigError, match="'half_mode_mass' belongs to 'wdm'"):
        halos_preset(tmp_path, dark_matter="wdm")
    with pytest.raises(ConfigError, match="need 'distances: angular_diameter'"):
        changed_preset(tmp_path, subhalos=None, distances="luminosity_as_published", halos=HALOS)


def test_missing_pyhalo_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyHalo.PresetModels.cdm", None)
    with pytest.raises(UnavailableError, match=r"pip install 'halometry\[halos\]'"):
        draw_scenes(halos_preset(tmp_path), 0, 1, 1)
