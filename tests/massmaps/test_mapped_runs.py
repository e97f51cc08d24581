"""Mass maps of single images, and runs that take mass maps."""

from __future__ import annotations

import multiprocessing
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from halometry.attribution.command import explain_predictions
from halometry.datasets.open import open_dataset
from halometry.datasets.readers import Image
from halometry.errors import DataError, ReadError, RunError
from halometry.evaluation.evaluate import evaluate
from halometry.evaluation.predict import predict
from halometry.massmaps.mapper import MassMapper
from halometry.massmaps.pool import MassMapPool
from halometry.robustness.command import measure_robustness
from halometry.robustness.shifts import SHIFTS, shift_preset
from halometry.runs.calibrate import calibrate
from halometry.runs.mapped_inputs import mapping_images
from halometry.runs.ood import fit_ood_detector
from halometry.runs.run import Run
from halometry.seeds import ROBUSTNESS_SEED_OFFSET, SENSITIVITY_SEED_OFFSET
from halometry.sensitivity.command import measure_sensitivity
from halometry.sensitivity.lenses import smooth_scenes
from halometry.simulation import load_preset, observe, render, sample
from halometry.training.train import train

SMALL, LARGE = "demo_classification", "common_test_1"
SEED = 11


@pytest.fixture(scope="module")
def mapper() -> MassMapper:
    return MassMapper(LARGE)


@pytest.fixture(scope="module")
def small() -> MassMapper:
    return MassMapper(SMALL)


def test_channels_do_not_depend_on_start_of_lens_fit(mapper: MassMapper) -> None:
    counts, scene = sample(mapper.preset, SEED, 0, 3)
    known = mapper.map_scenes(counts[:, 0], scene)
    images = [Image(one.numpy(), None, "image.npy") for one in counts]
    found = np.stack([mapper.map_image(image) for image in images])
    assert found.shape == known.shape == (3, 3, 75, 75)
    np.testing.assert_allclose(found[:, 0], known[:, 0], rtol=1e-5)
    assert np.abs(found[:, 1] - known[:, 1]).max() < 0.1  # of the noise
    assert np.abs(found[:, 2] - known[:, 2]).max() < 0.1 * np.abs(known[:, 2]).max()


def test_scaled_counts_are_mapped_and_other_pixels_refused(mapper: MassMapper) -> None:
    counts, _ = sample(mapper.preset, SEED, 1, 1)
    pixels = counts[0].numpy()
    scaled = (pixels - pixels.min()) / np.ptp(pixels)
    plain, again = (
        mapper.map_image(Image(p.astype(np.float32), None, "image.npy")) for p in (pixels, scaled)
    )
    np.testing.assert_allclose(again, plain, atol=1e-3)
    blurred = np.random.default_rng(0).normal(pixels).astype(np.float32)
    with pytest.raises(ReadError, match="no counts"):
        mapper.map_image(Image(blurred, None, "image.npy"))


def test_read_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(ReadError("image.npy", "is truncated")))
    assert str(error) == "image.npy: is truncated"


@pytest.fixture(scope="module")
def run(mapped: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "mapped"
    return train("classification", mapped, "d4net", out, overrides={"epochs": 1})


def test_training_on_maps_standardizes_each_channel(run: Run) -> None:
    seen = run.config.preprocessing
    assert (seen.scale, seen.stretch, seen.channels) == ("none", "none", 3)
    assert isinstance(seen.mean, tuple)
    assert isinstance(seen.std, tuple)
    assert seen.mean[0] > 2 > abs(seen.mean[1])
    assert run.training_metrics()["online_images"] == 0


def test_predict_maps_plain_images(run: Run, small: MassMapper) -> None:
    counts, _ = sample(small.preset, SEED, 0, 4)
    channels = np.stack([small.map_image(Image(one, None, "image")) for one in counts.numpy()])
    wanted = run.predict_fn("cpu")(channels)
    found = [[*answer.probabilities.values()] for answer in predict(run, counts[:, 0].numpy())]
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert np.ptp(wanted, axis=0).max() > 1e-3  # it does not say the same of all


def test_bundled_weights_on_maps_predict_the_classes(mapper: MassMapper) -> None:
    counts, scene = sample(mapper.preset, SEED, 0, 6)
    answers = predict("common_test_1/d4net_mapped", counts[:, 0].numpy())
    classes = mapper.preset.class_names
    assert classes is not None
    assert [answer.predicted_class for answer in answers] == [classes[int(k)] for k in scene.labels]


@pytest.mark.parametrize(
    ("shift", "factor"), [("source_size", 1.5), ("exposure", 0.5), ("pixel_scale", 0.9)]
)
def test_broad_weights_tolerate_shifts_that_they_trained_on(shift: str, factor: float) -> None:
    preset = shift_preset(load_preset(LARGE), shift, factor)
    assert preset is not None
    counts, scene = sample(preset, SEED, 0, 3)
    answers = predict("common_test_1_broad/d4net_mapped", counts[:, 0].numpy())
    classes = preset.class_names
    assert classes is not None
    assert [answer.predicted_class for answer in answers] == [classes[int(k)] for k in scene.labels]


@pytest.mark.parametrize("workers", [1, 2])
def test_mapped_images_and_errors_pass_the_pool_unchanged(mapped: Path, workers: int) -> None:
    done = [Image(one, None, "image", "by a preset") for one in open_dataset(mapped).images[:20]]
    bad = ReadError("image.npy", "is truncated")
    with MassMapPool("image: {psf: {file: gone.fits}}", 21, workers) as pool:
        found = list(pool.map_images([*done, bad]))
        assert "_pool" not in vars(pool)
    assert all(one is other for one, other in zip(found, [*done, bad], strict=True))


def test_worker_processes_map_batch_after_batch_and_end(run: Run, small: MassMapper) -> None:
    counts, _ = sample(small.preset, SEED, 0, 5)
    answerer = run.predict_fn("cpu")
    with mapping_images(run, answerer, 5, workers=1) as plain:
        wanted = plain(counts.numpy())
    with mapping_images(run, answerer, 5, workers=2) as plain:
        np.testing.assert_allclose(plain(counts.numpy()), wanted, rtol=1e-6)
        np.testing.assert_allclose(plain(counts[3:].numpy()), wanted[3:], rtol=1e-5)
        assert len(multiprocessing.active_children()) == 2
        noise = np.random.default_rng(0).normal(size=(2, 1, 48, 48))
        with pytest.raises(ReadError, match="image 7: its pixels are no counts"):
            plain(noise)
    assert not multiprocessing.active_children()


def test_images_that_cannot_be_mapped_are_errors(run: Run) -> None:
    noise = np.random.default_rng(0).normal(size=(2, 48, 48))
    colors = np.random.default_rng(0).poisson(40, (3, 48, 48)).astype(np.float32)
    answers = predict(run, [*noise, colors])
    assert all("no counts" in str(answer.error) for answer in answers[:2])
    assert "3 x 48 x 48" in str(answers[2].error)


def test_evaluation_maps_the_plain_test_images(run: Run, lenses: Path, mapped: Path) -> None:
    on_maps = evaluate(run, mapped, resamples=20)  # mapped from the true lenses
    on_images = evaluate(run, lenses, resamples=20, workers=1)
    np.testing.assert_array_equal(on_images.rows, on_maps.rows)
    np.testing.assert_array_equal(on_images.rows, run.split().test)
    assert np.median(np.abs(on_images.outputs - on_maps.outputs)) < 0.01


def test_calibration_and_detector_take_plain_training_images(
    run: Run, lenses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run.path, tmp_path / "run")
    before = run.conformal()
    assert before is not None
    calibration = calibrate(tmp_path / "run", lenses, workers=1)
    assert calibration.conformal.fingerprint == before.fingerprint
    np.testing.assert_allclose(calibration.temperature, run.config.temperature, rtol=0.1)
    seen: list[tuple[int, ...]] = []
    monkeypatch.setattr(
        "halometry.massmaps.cached.mapped_rows",
        lambda data, rows, *_, **__: (np.zeros((len(data), 3, 48, 48), np.float16), rows),
    )
    monkeypatch.setattr(
        "halometry.runs.ood.fit_and_write_detector",
        lambda _, data, *__: seen.append(data.images.shape),
    )
    fit_ood_detector(tmp_path / "run", lenses)
    assert seen == [(90, 3, 48, 48)]


def test_otherwise_mapped_and_colored_datasets_are_refused(
    run: Run, lenses: Path, mapped: Path
) -> None:
    data, plain = open_dataset(mapped), open_dataset(lenses)
    preset = load_preset(SMALL).model_copy(update={"mass_scale": 2.0})
    other = replace(data, attributes=data.attributes | {"mass_map_preset": preset.to_yaml()})
    with pytest.raises(DataError, match="another preset"):
        evaluate(run, other)
    colored = replace(plain, images=np.repeat(plain.images[:], 3, axis=1))
    with pytest.raises(DataError, match="is 3 x 48 x 48; to be mapped it must be 1 x 48 x 48"):
        evaluate(run, colored)


def test_robustness_of_runs_on_maps(
    run: Run, small: MassMapper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SHIFTS, "psf", replace(SHIFTS["psf"], factors=(1.0, 2.0)))
    monkeypatch.setattr("halometry.robustness.command.MIN_IMAGES", 9)
    result = measure_robustness(run, out=tmp_path, count=9, shifts=["psf"], resamples=50)
    assert [step.factor for step in result.steps] == [2.0]
    counts, scene = sample(small.preset, ROBUSTNESS_SEED_OFFSET, 0, 9)
    channels = np.stack([small.map_image(Image(one, None, "image")) for one in counts.numpy()])
    is_right = run.predict_fn("cpu")(channels).argmax(axis=1) == scene.labels.numpy()
    assert result.unshifted.metrics["accuracy"].value == pytest.approx(is_right.mean())
    with pytest.raises(RunError, match="150 x 150; to be mapped it must be 1 x 48 x 48"):
        measure_robustness(run, preset=LARGE, count=9)


def test_sensitivity_of_runs_on_maps(
    run: Run, small: MassMapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (
        ("command.MASS_COUNT", 3),
        ("command.FALSE_POSITIVE_COUNT", 2),
        ("command.NOISE_REALIZATIONS", 1),
        ("maps.NOISE_REALIZATIONS", 1),
        ("core.SEARCH_GRID", 9),
    ):
        monkeypatch.setattr(f"halometry.sensitivity.{name}", value)
    result = measure_sensitivity(run, count=2, false_positives=0.4, grid=3)
    seed = SENSITIVITY_SEED_OFFSET
    scene = smooth_scenes(small.preset, seed, 0, 2, "cpu")
    expected = render(scene.to("cpu", torch.float32), small.preset)
    counts = observe(expected, small.preset, seed, 0, scene.background_rms)
    channels = np.stack([small.map_image(Image(one, None, "image")) for one in counts.numpy()])
    smooth = run.predict_fn("cpu")(channels)[:, 0].astype(float)
    outcomes = result.outcomes["on the ring"]
    assert outcomes.scores.shape == (3, 2)
    log_odds = np.log((1 - smooth) / smooth)
    np.testing.assert_allclose(outcomes.smooth_scores[:2], log_odds, rtol=1e-3)


def test_attribution_of_runs_on_maps_has_the_size_of_the_maps(tmp_path: Path) -> None:
    pytest.importorskip("captum")
    result = explain_predictions(
        "common_test_1/d4net_mapped", out=tmp_path, method="saliency", count=12
    )
    attribution = result.attributions[1]
    assert attribution.image.shape == attribution.map.shape == (75, 75)
    assert attribution.substructure is not None
    assert attribution.substructure.shape == (75, 75)
    radius = pytest.approx(0.0866 * 2.355, rel=1e-3)
    assert [game.radius for game in result.pointing] == [radius] * 2
    assert (tmp_path / "pointing.png").exists()
