"""Mass maps of the residual of a smooth lens: linear algebra, prior, detection of a subhalo."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.io import fits
from torch import Tensor
from torch.nn.functional import avg_pool2d

from halometry import __version__
from halometry.errors import ReadError, UsageError
from halometry.lensfit.command import fit_lens
from halometry.lensfit.mass_map import MassMapSolver, compute_mean_square_mass, conjugate_gradients
from halometry.lensfit.parametrization import build_parametrization, with_point_masses
from halometry.massmaps.mapper import MassMapper
from halometry.simulation import Preset, Scene, draw_scenes, load_preset, observe, render, sample

SMALL, LARGE = "demo_classification", "common_test_1"
SEED = 11


def solver_and_theta(preset: Preset, scene: Scene) -> tuple[MassMapSolver, Tensor]:
    """Return a solver, and the coordinates of the smooth lenses of scenes."""
    parametrization = build_parametrization(preset, scene.rows(slice(0, 1)))
    return MassMapSolver(preset, parametrization), parametrization.coordinates(
        lambda name: getattr(scene, name)
    )


def smooth_scenes(count: int) -> Scene:
    """Draw lenses of the small preset without substructure."""
    scene = draw_scenes(load_preset(SMALL), SEED, 0, count)
    nothing = torch.zeros_like(scene.vortex_mass)
    return replace(scene, subhalo_mass=0 * scene.subhalo_mass, vortex_mass=nothing)


def test_conjugate_gradients_solve_each_system_of_a_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(3, 8, 8, generator=generator, dtype=torch.float64)
    matrix = root @ root.mT + torch.eye(8)
    right = torch.randn(3, 8, generator=generator, dtype=torch.float64)
    found = conjugate_gradients(lambda x: (matrix @ x[..., None])[..., 0], right, 20)
    torch.testing.assert_close(found, torch.linalg.solve(matrix, right))


def test_adjoint_is_transpose_of_image_change() -> None:
    solver, _ = solver_and_theta(load_preset(SMALL), smooth_scenes(1))
    generator = torch.Generator().manual_seed(0)
    side, kernel = solver.side, solver.kernel
    mass, image = torch.randn(2, 2, side, side, generator=generator).unbind(0)
    slope = torch.randn(2, 2, side, side, generator=generator)
    forward = (solver._image_change(mass, slope, kernel) * image).sum()
    back = (solver._adjoint(image, slope, kernel) * mass).sum()
    assert float(forward) == pytest.approx(float(back), rel=1e-4)


def test_image_change_agrees_with_rendering() -> None:
    preset, scene = load_preset(LARGE), draw_scenes(load_preset(LARGE), SEED, 0, 1)
    solver, theta = solver_and_theta(preset, scene)
    row, column = solver.side // 2 + 12, solver.side // 2 + 5
    x, y = (
        torch.full((1, 1), (k - (solver.side - 1) / 2) * solver.cell_size, dtype=torch.float64)
        for k in (column, row)
    )
    fraction = torch.full_like(x, 1e-4)
    with_it, without = (
        render(with_point_masses(scene, s, x, y), preset) for s in (fraction, 0 * fraction)
    )
    change = 4 * avg_pool2d(with_it - without, 2)[0, 0]
    mass = torch.zeros(1, solver.side, solver.side, dtype=torch.float64)
    mass[0, row, column] = fraction
    at = solver.coarse_model.parametrization.index("source_position")
    slope = solver._derivatives(theta)[:, at : at + 2].view(1, 2, solver.side, solver.side)
    linear = solver._image_change(mass, slope * scene.einstein_radius**2, solver.kernel)[0]
    # The difference: rays close to a point mass, and the PSF, which is applied before.
    likeness = (linear * change).sum() / (linear.norm() * change.norm())
    assert float(likeness) > 0.97
    assert float(linear.norm() / change.norm()) == pytest.approx(1, abs=0.1)


def test_mass_map_peaks_at_true_subhalo() -> None:
    preset, scene = load_preset(SMALL), smooth_scenes(1)
    x, y, fraction = (torch.tensor([[v]], dtype=torch.float64) for v in (0.9, 0.5, 0.01))
    lumpy = with_point_masses(scene, fraction, x, y)
    solver, theta = solver_and_theta(preset, scene)
    mass = solver.solve_counts(theta, render(lumpy, preset)[:, 0]).mass[0]
    row, column = np.unravel_index(int(mass.argmax()), mass.shape)
    middle = (solver.side - 1) / 2
    found = np.array([column - middle, row - middle]) * solver.cell_size
    assert np.hypot(*(found - [0.9, 0.5])) < 1.5 * solver.cell_size
    around = mass[row - 2 : row + 3, column - 2 : column + 3].sum()
    assert 0.5 * 0.01 < float(around) < 1.2 * 0.01


def test_residual_of_smooth_lens_is_noise() -> None:
    preset, scene = load_preset(SMALL), smooth_scenes(4)
    counts = observe(render(scene, preset), preset, SEED, 0, scene.background_rms)[:, 0]
    solver, theta = solver_and_theta(preset, scene)
    result = solver.solve_counts(theta, counts)
    chi_square = result.residual.square().mean(dim=(1, 2))
    torch.testing.assert_close(chi_square, torch.ones_like(chi_square), atol=0.1, rtol=0)
    torch.testing.assert_close(result.counts, counts.double())


def test_mean_square_mass_follows_preset() -> None:
    mean_square = compute_mean_square_mass(load_preset(LARGE))
    scene = draw_scenes(load_preset(LARGE), SEED, 0, 3000)
    shares = (scene.subhalo_mass / scene.halo_mass[:, None])[scene.class_index == 1]
    assert mean_square.min() > 0
    assert mean_square[37, 37] > mean_square[37, 45] > mean_square[37, 55] > mean_square[37, 74]
    # Half of the images have subhalos; the mass of a vortex is spread over tens of cells.
    of_points = float((shares**2).sum(dim=1).mean()) / 2
    assert of_points < mean_square.sum() < 2 * of_points


def test_mapper_refuses_preset_without_substructure() -> None:
    preset = load_preset(SMALL).model_copy(
        update={"classes": {"no": "no"}, "subhalos": None, "vortex": None}
    )
    with pytest.raises(UsageError, match="no substructure"):
        MassMapper(preset)


def test_fit_lens_writes_mass_map_as_fits_file(tmp_path: Path) -> None:
    counts, _ = sample(load_preset(SMALL), SEED, 1, 1)
    (one,) = fit_lens(counts[0].numpy(), SMALL, out=tmp_path, figures=False, mass_map=True)
    assert not isinstance(one, ReadError)
    assert one.convergence is not None
    (file,) = tmp_path.glob("*.fits")
    with fits.open(file) as opened:
        np.testing.assert_allclose(opened[0].data, one.convergence, rtol=1e-6)
        assert opened[0].header["CDELT1"] == pytest.approx(0.125)
        assert opened[0].header["HALOVERS"] == __version__
    assert (fit_lens(counts[0].numpy(), SMALL)[0]).convergence is None  # type: ignore[union-attr]


@pytest.mark.parametrize("pixel_scale", [0.125, 0.4])
def test_mean_square_mass_is_positive_for_coarse_pixels(pixel_scale: float) -> None:
    preset = load_preset(SMALL)
    image = preset.image.model_copy(update={"pixel_scale": pixel_scale})
    mean_square = compute_mean_square_mass(preset.model_copy(update={"image": image}))
    assert mean_square.isfinite().all()
    assert mean_square.min() > 0
