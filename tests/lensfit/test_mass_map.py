"""Maps of the mass that a smooth lens leaves out: the algebra, and what they show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.io import fits
from torch import Tensor
from torch.nn.functional import avg_pool2d

from halometry.errors import ReadError, UsageError
from halometry.lensfit.command import fit_lens
from halometry.lensfit.mass_map import MassMapSolver, compute_mean_square_mass, conjugate_gradients
from halometry.lensfit.parametrization import build_parametrization, with_point_masses
from halometry.massmaps.mapper import MassMapper
from halometry.simulation import Preset, Scene, draw_scenes, load_preset, observe, render, sample

SMALL, LARGE = "demo_classification", "common_test_1"
SEED = 11


def imager_of(preset: Preset, scene: Scene) -> tuple[MassMapSolver, Tensor]:
    """An imager, and the coordinates of scenes without their substructure."""
    layout = build_parametrization(preset, scene.rows(slice(0, 1)))
    return MassMapSolver(preset, layout), layout.coordinates(lambda name: getattr(scene, name))


def smooth_scenes(count: int) -> Scene:
    """Lenses of the small preset without substructure."""
    scene = draw_scenes(load_preset(SMALL), SEED, 0, count)
    nothing = torch.zeros_like(scene.vortex_mass)
    return replace(scene, subhalo_mass=0 * scene.subhalo_mass, vortex_mass=nothing)


def test_conjugate_gradients_solve_each_of_a_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(3, 8, 8, generator=generator, dtype=torch.float64)
    matrix = root @ root.mT + torch.eye(8)
    right = torch.randn(3, 8, generator=generator, dtype=torch.float64)
    found = conjugate_gradients(lambda x: (matrix @ x[..., None])[..., 0], right, 20)
    torch.testing.assert_close(found, torch.linalg.solve(matrix, right))


def test_the_gathering_of_mass_is_the_transpose_of_its_effect() -> None:
    imager, _ = imager_of(load_preset(SMALL), smooth_scenes(1))
    generator = torch.Generator().manual_seed(0)
    side, kernel = imager.side, imager.kernel
    mass, image = torch.randn(2, 2, side, side, generator=generator).unbind(0)
    slope = torch.randn(2, 2, side, side, generator=generator)
    forward = (imager._image_change(mass, slope, kernel) * image).sum()
    back = (imager._adjoint(image, slope, kernel) * mass).sum()
    assert float(forward) == pytest.approx(float(back), rel=1e-4)


def test_the_effect_of_mass_is_that_of_rendering_it() -> None:
    preset, scene = load_preset(LARGE), draw_scenes(load_preset(LARGE), SEED, 0, 1)
    imager, theta = imager_of(preset, scene)
    row, column = imager.side // 2 + 12, imager.side // 2 + 5
    x, y = (
        torch.full((1, 1), (k - (imager.side - 1) / 2) * imager.cell_size, dtype=torch.float64)
        for k in (column, row)
    )
    share = torch.full_like(x, 1e-4)
    with_it, without = (
        render(with_point_masses(scene, s, x, y), preset) for s in (share, 0 * share)
    )
    change = 4 * avg_pool2d(with_it - without, 2)[0, 0]
    mass = torch.zeros(1, imager.side, imager.side, dtype=torch.float64)
    mass[0, row, column] = share
    at = imager.coarse_model.parametrization.index("source_position")
    slope = imager._derivatives(theta)[:, at : at + 2].view(1, 2, imager.side, imager.side)
    linear = imager._image_change(mass, slope * scene.einstein_radius**2, imager.kernel)[0]
    # Rays beside a point mass, and the blurring after its effect, are what is left out.
    likeness = (linear * change).sum() / (linear.norm() * change.norm())
    assert float(likeness) > 0.97
    assert float(linear.norm() / change.norm()) == pytest.approx(1, abs=0.1)


def test_a_heavy_subhalo_is_seen_where_it_is() -> None:
    preset, scene = load_preset(SMALL), smooth_scenes(1)
    x, y, share = (torch.tensor([[v]], dtype=torch.float64) for v in (0.9, 0.5, 0.01))
    lumpy = with_point_masses(scene, share, x, y)
    imager, theta = imager_of(preset, scene)
    mass = imager.solve_counts(theta, render(lumpy, preset)[:, 0]).mass[0]
    row, column = np.unravel_index(int(mass.argmax()), mass.shape)
    middle = (imager.side - 1) / 2
    found = np.array([column - middle, row - middle]) * imager.cell_size
    assert np.hypot(*(found - [0.9, 0.5])) < 1.5 * imager.cell_size
    around = mass[row - 2 : row + 3, column - 2 : column + 3].sum()
    assert 0.5 * 0.01 < float(around) < 1.2 * 0.01


def test_an_image_without_substructure_leaves_noise_alone() -> None:
    preset, scene = load_preset(SMALL), smooth_scenes(4)
    counts = observe(render(scene, preset), preset, SEED, 0, scene.background_rms)[:, 0]
    imager, theta = imager_of(preset, scene)
    imaged = imager.solve_counts(theta, counts)
    chi_square = imaged.residual.square().mean(dim=(1, 2))
    torch.testing.assert_close(chi_square, torch.ones_like(chi_square), atol=0.1, rtol=0)
    torch.testing.assert_close(imaged.counts, counts.double())


def test_mass_is_expected_where_a_preset_has_it() -> None:
    allowed = compute_mean_square_mass(load_preset(LARGE))
    scene = draw_scenes(load_preset(LARGE), SEED, 0, 3000)
    shares = (scene.subhalo_mass / scene.halo_mass[:, None])[scene.class_index == 1]
    assert allowed.min() > 0
    assert allowed[37, 37] > allowed[37, 45] > allowed[37, 55] > allowed[37, 74]
    # Images of both kinds are as many, and a line's mass is spread over tens of cells.
    of_points = float((shares**2).sum(dim=1).mean()) / 2
    assert of_points < allowed.sum() < 2 * of_points


def test_a_preset_without_substructure_has_no_maps() -> None:
    preset = load_preset(SMALL).model_copy(
        update={"classes": {"no": "no"}, "subhalos": None, "vortex": None}
    )
    with pytest.raises(UsageError, match="no substructure"):
        MassMapper(preset)


def test_a_fit_maps_the_mass_it_leaves_into_a_fits_file(tmp_path: Path) -> None:
    counts, _ = sample(load_preset(SMALL), SEED, 1, 1)
    (one,) = fit_lens(counts[0].numpy(), SMALL, tmp_path, figures=False, mass_map=True)
    assert not isinstance(one, ReadError)
    assert one.convergence is not None
    (file,) = tmp_path.glob("*.fits")
    with fits.open(file) as opened:
        np.testing.assert_allclose(opened[0].data, one.convergence, rtol=1e-6)
        assert opened[0].header["CDELT1"] == pytest.approx(0.125)
    assert (fit_lens(counts[0].numpy(), SMALL)[0]).convergence is None  # type: ignore[union-attr]


@pytest.mark.parametrize("pixel_scale", [0.125, 0.4])
def test_coarse_cells_have_mass_too(pixel_scale: float) -> None:
    preset = load_preset(SMALL)
    image = preset.image.model_copy(update={"pixel_scale": pixel_scale})
    allowed = compute_mean_square_mass(preset.model_copy(update={"image": image}))
    assert allowed.isfinite().all()
    assert allowed.min() > 0
