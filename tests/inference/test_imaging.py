"""Maps of the mass that a smooth lens leaves out: the algebra, what they show, and sets of them."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.io import fits
from torch import Tensor
from torch.nn.functional import avg_pool2d

from halometry.data.dataset import open_dataset
from halometry.data.images import Image
from halometry.data.labelled import LabelledImages
from halometry.data.store import open_store
from halometry.errors import DataError, ReadError, RunError, UsageError
from halometry.evaluation.evaluate import evaluate
from halometry.evaluation.robustness import robustness
from halometry.evaluation.show import show
from halometry.inference.fit import fit
from halometry.inference.fitting.imaging import Imager, conjugate_gradients, mean_square_mass
from halometry.inference.fitting.parameters import layout_of, with_points
from halometry.inference.mapping import Mapper, map_set
from halometry.inference.predict import predict
from halometry.simulation import Preset, Scene, draw_scenes, load_preset, observe, render, sample
from halometry.training.run import Run
from halometry.training.train import train

SMALL, LARGE = "demo_classification", "common_test_1"
SEED = 11


@pytest.fixture(scope="module")
def mapper() -> Mapper:
    return Mapper(LARGE)


@pytest.fixture(scope="module")
def small() -> Mapper:
    return Mapper(SMALL)


def imager_of(preset: Preset, scene: Scene) -> tuple[Imager, Tensor]:
    """An imager, and the coordinates of scenes without their substructure."""
    layout = layout_of(preset, scene.rows(slice(0, 1)))
    return Imager(preset, layout), layout.coordinates(lambda name: getattr(scene, name))


def smooth_scenes(count: int) -> Scene:
    """Lenses of the small preset without substructure."""
    scene = draw_scenes(load_preset(SMALL), SEED, 0, count)
    nothing = torch.zeros_like(scene.line_mass)
    return replace(scene, subhalo_mass=0 * scene.subhalo_mass, line_mass=nothing)


def test_conjugate_gradients_solve_each_of_a_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(3, 8, 8, generator=generator, dtype=torch.float64)
    matrix = root @ root.mT + torch.eye(8)
    right = torch.randn(3, 8, generator=generator, dtype=torch.float64)
    found = conjugate_gradients(lambda x: (matrix @ x[..., None])[..., 0], right, 20)
    torch.testing.assert_close(found, torch.linalg.solve(matrix, right))


def test_the_gathering_of_mass_is_the_transpose_of_its_effect(small: Mapper) -> None:
    imager, generator = small.imager, torch.Generator().manual_seed(0)
    side, kernel = imager.side, imager.kernel
    mass, image = torch.randn(2, 2, side, side, generator=generator).unbind(0)
    slope = torch.randn(2, 2, side, side, generator=generator)
    forward = (imager._effect(mass, slope, kernel) * image).sum()
    back = (imager._adjoint(image, slope, kernel) * mass).sum()
    assert float(forward) == pytest.approx(float(back), rel=1e-4)


def test_the_effect_of_mass_is_that_of_rendering_it() -> None:
    preset, scene = load_preset(LARGE), draw_scenes(load_preset(LARGE), SEED, 0, 1)
    imager, theta = imager_of(preset, scene)
    row, column = imager.side // 2 + 12, imager.side // 2 + 5
    x, y = (
        torch.full((1, 1), (k - (imager.side - 1) / 2) * imager.cell, dtype=torch.float64)
        for k in (column, row)
    )
    share = torch.full_like(x, 1e-4)
    with_it, without = (render(with_points(scene, s, x, y), preset) for s in (share, 0 * share))
    change = 4 * avg_pool2d(with_it - without, 2)[0, 0]
    mass = torch.zeros(1, imager.side, imager.side, dtype=torch.float64)
    mass[0, row, column] = share
    at = imager.rough.layout.index("source_position")
    slope = imager._derivatives(theta)[:, at : at + 2].view(1, 2, imager.side, imager.side)
    linear = imager._effect(mass, slope * scene.einstein_radius**2, imager.kernel)[0]
    # Rays beside a point mass, and the blurring after its effect, are what is left out.
    likeness = (linear * change).sum() / (linear.norm() * change.norm())
    assert float(likeness) > 0.97
    assert float(linear.norm() / change.norm()) == pytest.approx(1, abs=0.1)


def test_a_heavy_subhalo_is_seen_where_it_is() -> None:
    preset, scene = load_preset(SMALL), smooth_scenes(1)
    x, y, share = (torch.tensor([[v]], dtype=torch.float64) for v in (0.9, 0.5, 0.01))
    lumpy = with_points(scene, share, x, y)
    imager, theta = imager_of(preset, scene)
    mass = imager.image(theta, render(lumpy, preset)[:, 0]).mass[0]
    row, column = np.unravel_index(int(mass.argmax()), mass.shape)
    middle = (imager.side - 1) / 2
    found = np.array([column - middle, row - middle]) * imager.cell
    assert np.hypot(*(found - [0.9, 0.5])) < 1.5 * imager.cell
    around = mass[row - 2 : row + 3, column - 2 : column + 3].sum()
    assert 0.5 * 0.01 < float(around) < 1.2 * 0.01


def test_an_image_without_substructure_leaves_noise_alone() -> None:
    preset, scene = load_preset(SMALL), smooth_scenes(4)
    counts = observe(render(scene, preset), preset, SEED, 0, scene.background_rms)[:, 0]
    imager, theta = imager_of(preset, scene)
    imaged = imager.image(theta, counts)
    chi_square = imaged.residual.square().mean(dim=(1, 2))
    torch.testing.assert_close(chi_square, torch.ones_like(chi_square), atol=0.1, rtol=0)
    torch.testing.assert_close(imaged.counts, counts.double())


def test_mass_is_expected_where_a_preset_has_it() -> None:
    allowed = mean_square_mass(load_preset(LARGE))
    scene = draw_scenes(load_preset(LARGE), SEED, 0, 3000)
    shares = (scene.subhalo_mass / scene.halo_mass[:, None])[scene.class_index == 1]
    assert allowed.min() > 0
    assert allowed[37, 37] > allowed[37, 45] > allowed[37, 55] > allowed[37, 74]
    # Images of both kinds are as many, and a line's mass is spread over tens of cells.
    of_points = float((shares**2).sum(dim=1).mean()) / 2
    assert of_points < allowed.sum() < 2 * of_points


def test_a_preset_without_substructure_has_no_maps() -> None:
    preset = load_preset(SMALL).model_copy(
        update={"classes": {"no": "no"}, "subhalos": None, "line": None}
    )
    with pytest.raises(UsageError, match="no substructure"):
        Mapper(preset)


def test_channels_do_not_depend_on_where_the_search_for_the_lens_begins(mapper: Mapper) -> None:
    counts, scene = sample(mapper.preset, SEED, 0, 3)
    known = mapper.of_scenes(counts[:, 0], scene)
    images = [Image(one.numpy(), None, "image.npy") for one in counts]
    found = np.stack([mapper.of_image(image) for image in images])
    assert found.shape == known.shape == (3, 3, 75, 75)
    np.testing.assert_allclose(found[:, 0], known[:, 0], rtol=1e-5)
    assert np.abs(found[:, 1] - known[:, 1]).max() < 0.1  # of the noise
    assert np.abs(found[:, 2] - known[:, 2]).max() < 0.1 * np.abs(known[:, 2]).max()


def test_scaled_counts_are_mapped_as_counts_and_others_refused(mapper: Mapper) -> None:
    counts, _ = sample(mapper.preset, SEED, 1, 1)
    pixels = counts[0].numpy()
    scaled = (pixels - pixels.min()) / np.ptp(pixels)
    plain, again = (
        mapper.of_image(Image(p.astype(np.float32), None, "image.npy")) for p in (pixels, scaled)
    )
    np.testing.assert_allclose(again, plain, atol=1e-3)
    blurred = np.random.default_rng(0).normal(pixels).astype(np.float32)
    with pytest.raises(ReadError, match="no counts"):
        mapper.of_image(Image(blurred, None, "image.npy"))


def test_a_fit_maps_the_mass_it_leaves_into_a_fits_file(tmp_path: Path) -> None:
    counts, _ = sample(load_preset(SMALL), SEED, 1, 1)
    (one,) = fit(counts[0].numpy(), SMALL, tmp_path, figures=False, mass_map=True)
    assert not isinstance(one, ReadError)
    assert one.convergence is not None
    (file,) = tmp_path.glob("*.fits")
    with fits.open(file) as opened:
        np.testing.assert_allclose(opened[0].data, one.convergence, rtol=1e-6)
        assert opened[0].header["CDELT1"] == pytest.approx(0.125)
    assert (fit(counts[0].numpy(), SMALL)[0]).convergence is None  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def mapped(lenses: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return map_set(lenses, tmp_path_factory.mktemp("mapped") / "mapped.h5", workers=1)


def test_a_mapped_set_keeps_all_but_the_images(lenses: Path, mapped: Path) -> None:
    before, after = open_dataset(lenses), open_dataset(mapped)
    assert after.images.shape == (len(before), 3, 48, 48)
    np.testing.assert_array_equal(before.labels, after.labels)
    np.testing.assert_array_equal(before.roles, after.roles)
    with open_store(lenses) as there, open_store(mapped) as here:
        assert set(there["parameters"]) == set(here["parameters"])
        np.testing.assert_array_equal(
            there["parameters"]["source_x"], here["parameters"]["source_x"]
        )
        np.testing.assert_allclose(
            here["images"][:5, 0], np.sqrt(there["images"][:5, 0]), rtol=1e-3
        )


def test_a_mapped_set_is_looked_at_with_its_maps(mapped: Path, tmp_path: Path) -> None:
    data = open_dataset(mapped)
    np.testing.assert_array_equal(data.picture(3), data.images[3, 0])
    drawn = show(mapped, tmp_path / "mapped.png", count=3)
    assert drawn is not None
    assert drawn.stat().st_size > 10_000


def test_a_set_of_another_preset_is_mapped_blindly(lenses: Path, tmp_path: Path) -> None:
    other = load_preset(SMALL).model_copy(update={"name": "other"})
    few = first_images(open_dataset(lenses), 3)
    made = open_dataset(map_set(few, tmp_path / "mapped.h5", other))
    assert made.attributes["blind"] == 1
    assert open_dataset(map_set(few, tmp_path / "own.h5")).attributes["blind"] == 0


def first_images(data: LabelledImages, count: int) -> LabelledImages:
    """The first images of a set, as a set."""
    assert data.roles is not None
    return replace(
        data,
        images=data.images[:count],
        labels=data.labels[:count],
        names=data.names[:count],
        roles=data.roles[:count],
    )


def test_an_image_without_counts_is_named_before_the_work(lenses: Path, tmp_path: Path) -> None:
    few = first_images(open_dataset(lenses), 3)
    images = few.images[:].astype(np.float32)
    images[2] = np.random.default_rng(0).normal(images[2])
    with pytest.raises(ReadError, match=r"images\[2\].*no counts"):
        map_set(replace(few, images=images), tmp_path / "mapped.h5", blind=True)
    assert not list(tmp_path.iterdir())


def test_an_error_of_a_worker_is_told_as_it_is() -> None:
    error = pickle.loads(pickle.dumps(ReadError("image.npy", "is truncated")))
    assert str(error) == "image.npy: is truncated"


@pytest.mark.parametrize("pixel_scale", [0.125, 0.4])
def test_coarse_cells_have_mass_too(pixel_scale: float) -> None:
    preset = load_preset(SMALL)
    image = preset.image.model_copy(update={"pixel_scale": pixel_scale})
    allowed = mean_square_mass(preset.model_copy(update={"image": image}))
    assert allowed.isfinite().all()
    assert allowed.min() > 0


def test_processes_map_what_one_maps(lenses: Path, mapped: Path, tmp_path: Path) -> None:
    again = map_set(lenses, tmp_path / "again.h5", workers=2)
    with open_store(mapped) as one, open_store(again) as other:
        np.testing.assert_array_equal(one["images"], other["images"])


def test_test_images_of_folders_come_last(tmp_path: Path) -> None:
    counts, scene = sample(load_preset(SMALL), SEED, 0, 6)
    folders = LabelledImages(
        images=counts.numpy(),
        labels=scene.labels.numpy(),
        task="classification",
        class_names=("no", "sphere", "vort"),
        names=[f"{k}.npy" for k in range(6)],
        source="a folder",
        description="",
        roles=np.array(["test", "train"] * 3),
    )
    made = open_dataset(map_set(folders, tmp_path / "mapped.h5", SMALL, workers=1))
    assert made.roles is not None
    assert made.roles.tolist() == ["train"] * 3 + ["test"] * 3
    order = [1, 3, 5, 0, 2, 4]
    assert made.labels.tolist() == [folders.labels[k] for k in order]
    np.testing.assert_allclose(made.images[:, 0], counts[order, 0].sqrt(), rtol=1e-3)


def test_sets_that_cannot_be_mapped_are_refused(lenses: Path, mapped: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="mapped already"):
        map_set(mapped, tmp_path / "out.h5")
    with pytest.raises(UsageError, match="150 x 150"):
        map_set(lenses, tmp_path / "out.h5", LARGE)
    with pytest.raises(UsageError, match="is there already"):
        map_set(lenses, mapped)
    with pytest.raises(UsageError, match="workers 0"):
        map_set(lenses, tmp_path / "out.h5", workers=0)
    strange = replace(open_dataset(lenses), attributes={})
    with pytest.raises(UsageError, match="--preset"):
        map_set(strange, tmp_path / "out.h5")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def run(mapped: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "mapped"
    return train("classification", mapped, "d4net", out, overrides={"epochs": 1})


def test_a_network_learns_from_maps_in_their_units(run: Run) -> None:
    seen = run.config.preprocessing
    assert (seen.scale, seen.stretch, seen.channels) == ("none", "none", 3)
    assert isinstance(seen.mean, tuple)
    assert isinstance(seen.std, tuple)
    assert seen.mean[0] > 2 > abs(seen.mean[1])
    assert run.record()["fresh_images"] == 0


def test_images_are_mapped_before_they_are_judged(run: Run, small: Mapper) -> None:
    counts, _ = sample(small.preset, SEED, 0, 4)
    channels = np.stack([small.of_image(Image(one, None, "image")) for one in counts.numpy()])
    wanted = run.answerer("cpu")(channels)
    found = [[*answer.values.values()] for answer in predict(run, counts[:, 0].numpy())]
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert np.ptp(wanted, axis=0).max() > 1e-3  # it does not say the same of all


def test_the_weights_that_came_with_maps_know_the_classes(mapper: Mapper) -> None:
    counts, scene = sample(mapper.preset, SEED, 0, 6)
    answers = predict("common_test_1/d4net_mapped", counts[:, 0].numpy())
    classes = mapper.preset.class_names
    assert classes is not None
    assert [answer.best for answer in answers] == [classes[int(k)] for k in scene.labels]


def test_an_image_that_cannot_be_mapped_says_so(run: Run) -> None:
    noise = np.random.default_rng(0).normal(size=(2, 48, 48))
    colours = np.random.default_rng(0).poisson(40, (3, 48, 48)).astype(np.float32)
    answers = predict(run, [*noise, colours])
    assert all("no counts" in str(answer.error) for answer in answers[:2])
    assert "3 x 48 x 48" in str(answers[2].error)


def test_sets_that_do_not_fit_are_refused_in_words_that_help(
    run: Run, lenses: Path, mapped: Path
) -> None:
    with pytest.raises(DataError, match="halometry map"):
        evaluate(run, lenses)
    data = open_dataset(mapped)
    other = replace(data, attributes=data.attributes | {"mapped": "name: another"})
    with pytest.raises(DataError, match="another preset"):
        evaluate(run, other)
    with pytest.raises(RunError, match="takes images in which mass was mapped"):
        robustness(run)
