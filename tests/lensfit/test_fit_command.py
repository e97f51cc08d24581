"""Fits of simulated and real images: the truth is found, and errors say how nearly."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image as Picture

from halometry.datasets.readers import Image, read_image
from halometry.errors import DataError, ReadError, StorageError, UsageError
from halometry.lensfit import Fit, Fitter
from halometry.lensfit.command import fit_lens
from halometry.simulation import Preset, Scene, load_preset, observe, render, sample
from halometry.simulation.distributions import Quantity

PRESET = "demo_classification"


def simulated(k: int, seed: int = 5) -> tuple[np.ndarray, Scene]:
    """Counts (1, H, W) of image k and its scene; k modulo 3 is the class."""
    images, scene = sample(load_preset(PRESET), seed, k, 1)
    return images[0].numpy(), scene


def as_image(pixels: np.ndarray) -> Image:
    return Image(pixels.astype(np.float32), None, "made.npy")


def scaled(counts: np.ndarray) -> np.ndarray:
    return (counts - counts.min()) / np.ptp(counts)


@pytest.fixture(scope="module")
def fitter() -> Fitter:
    return Fitter(PRESET, draws=400)


def pulls(found: Fit, scene: Scene) -> dict[str, float]:
    """(estimate - truth) / error of the lens, the shear and the source."""
    names = ("einstein_radius", "shear", "source_x", "source_y", "source_axis_ratio")
    estimates = [found.parameter(name) for name in names]
    return {e.name: (e.value - float(getattr(scene, e.name))) / e.error for e in estimates}


@pytest.mark.parametrize("k", [0, 3, 6])
def test_the_truth_is_found_within_its_errors(fitter: Fitter, k: int) -> None:
    counts, scene = simulated(k)
    found = fitter.fit(as_image(counts))
    assert max(map(abs, pulls(found, scene).values())) < 4
    assert abs(found.reduced_chi2 - 1) < 4 * found.reduced_chi2_std
    assert found.converged
    assert found.is_counts
    assert found.diagnostics.agreeing_starts >= 2


def test_the_errors_shrink_with_more_light(fitter: Fitter) -> None:
    counts, scene = simulated(0)
    brighter = fitter.preset.model_copy(
        update={
            "source": fitter.preset.source.model_copy(
                update={
                    "brightness": fitter.preset.source.brightness.model_copy(
                        update={"value": 4 * float(scene.source_brightness)}
                    )
                }
            )
        }
    )
    images, _ = sample(brighter, 5, 0, 1)
    bright = Fitter(brighter, draws=400).fit(as_image(images[0].numpy()))
    plain = fitter.fit(as_image(counts))
    for name in ("einstein_radius", "source_x"):
        ratio = plain.parameter(name).error / bright.parameter(name).error
        assert 1.8 < ratio < 4.2  # twice if the source were all, more where the sky was


def test_scaling_an_image_changes_nothing_but_its_lost_constant(fitter: Fitter) -> None:
    counts, _ = simulated(0)
    plain = fitter.fit(as_image(counts))
    again = fitter.fit(as_image(scaled(counts)))
    assert again.is_counts
    np.testing.assert_array_equal(again.data, plain.data)
    for a, b in zip(plain.parameters, again.parameters, strict=True):
        assert a.value == pytest.approx(b.value, abs=0.02 * a.error)


@pytest.mark.parametrize("k", [2, 5])
def test_the_lost_constant_is_set_right_when_the_line_is_added(fitter: Fitter, k: int) -> None:
    counts, _ = simulated(k)
    assert fitter.fit(as_image(scaled(counts)), vortex=True).data.min() == counts.min()


def test_an_image_that_lost_its_counts_is_fitted_with_noise_from_itself(fitter: Fitter) -> None:
    counts, scene = simulated(0)
    found = fitter.fit(as_image(np.sqrt(2) * counts + np.pi * np.sin(counts * 1e-3)))
    assert not found.is_counts
    assert found.parameter("unit").value == pytest.approx(np.sqrt(2), rel=0.05)
    assert max(map(abs, pulls(found, scene).values())) < 6


def test_a_line_is_found_where_it_is(fitter: Fitter) -> None:
    counts, scene = simulated(2)
    found = fitter.fit(as_image(counts), vortex=True)
    assert found.diagnostics.delta_2lnl > 100
    fraction = float(scene.vortex_mass / scene.halo_mass)
    estimate = found.parameter("vortex_fraction")
    assert abs(estimate.value - fraction) < 4 * estimate.error
    for name in ("vortex_length", "vortex_x", "vortex_y"):
        estimate = found.parameter(name)
        assert abs(estimate.value - float(getattr(scene, name))) < 4 * estimate.error + 0.05


def test_a_subhalo_is_found_where_it_is_and_none_where_there_is_none(fitter: Fitter) -> None:
    preset = load_preset(PRESET)
    _, scene = simulated(0)
    one = torch.zeros_like(scene.subhalo_mass)
    one[0, 0] = 1.0
    on_the_ring = scene.einstein_radius[:, None] * one / 2**0.5
    scene = replace(
        scene,
        subhalo_mass=0.02 * scene.halo_mass[:, None] * one,
        subhalo_x=on_the_ring,
        subhalo_y=on_the_ring,
        subhalo_z=scene.z_lens[:, None] * one,
    )
    counts = observe(render(scene.to("cpu", torch.float32), preset), preset, 5, 0)
    found = fitter.fit(as_image(counts[0].numpy()), subhalos=1)
    assert found.diagnostics.delta_2lnl > 50
    assert found.parameter("subhalo_1_fraction").value == pytest.approx(0.02, rel=0.3)
    for axis in "xy":  # to a pixel: one ray a pixel makes the likelihood rugged below that
        place = found.parameter(f"subhalo_1_{axis}").value
        assert place == pytest.approx(float(on_the_ring[0, 0]), abs=preset.image.pixel_scale)
    counts, _ = simulated(0)
    assert fitter.fit(as_image(counts), subhalos="auto").diagnostics.delta_2lnl_steps == ()


def test_lens_light_power_law_and_multipoles_are_fitted_too() -> None:
    preset = load_preset("euclid")
    images, scene = sample(preset, 3, 0, 1)
    found = Fitter(preset, draws=300).fit(as_image(images[0].numpy()))
    assert abs(found.reduced_chi2 - 1) < 5 * found.reduced_chi2_std
    for name in ("einstein_radius", "lens_slope", "lens_light_radius", "source_radius"):
        estimate = found.parameter(name)
        assert abs(estimate.value - float(getattr(scene, name))) < 5 * estimate.error, name


def test_freeing_a_constant_finds_it(fitter: Fitter) -> None:
    counts, scene = simulated(3)
    free = ("source_radius", "psf_sigma", "sky")
    found = Fitter(PRESET, free, draws=400).fit(as_image(counts))
    spec = fitter.preset.image
    truth = {
        "source_radius": float(scene.source_radius),
        "psf_sigma": spec.psf_sigma,
        "sky": spec.sky,
    }
    for name, true in truth.items():
        estimate = found.parameter(name)
        assert abs(estimate.value - true) < 4 * estimate.error, name


def with_detector(preset: Preset, **changes: object) -> Preset:
    """A preset with another detector."""
    return preset.model_copy(update={"image": preset.image.model_copy(update=changes)})


def test_what_a_preset_calls_uncertain_is_found_in_each_image(fitter: Fitter) -> None:
    sigma = 1.5 * fitter.preset.image.psf_sigma
    counts = sample(with_detector(fitter.preset, psf_sigma=sigma), 5, 0, 1)[0][0]
    held = fitter.fit(as_image(counts.numpy()))
    uncertain = with_detector(fitter.preset, fit_per_image=("psf_sigma",))
    found = Fitter(uncertain, draws=400).fit(as_image(counts.numpy()))
    estimate = found.parameter("psf_sigma")
    assert abs(estimate.value - sigma) < 4 * estimate.error
    assert abs(found.reduced_chi2 - 1) < 4 * found.reduced_chi2_std
    assert held.reduced_chi2 - 1 > 4 * held.reduced_chi2_std


def test_noise_tells_the_lost_constant_where_the_exposure_is_not_known(fitter: Fitter) -> None:
    exposure = Quantity(log_uniform=(2.0, 5.0), unit="s")
    source = fitter.preset.source
    assert source.brightness is not None
    rate = source.brightness.model_copy(update={"unit": "counts/s/pixel"})
    preset = with_detector(fitter.preset, exposure=exposure).model_copy(
        update={"source": source.model_copy(update={"brightness": rate})}
    )
    images, scene = sample(preset, 6, 0, 1)
    counts, true = images[0].numpy(), float(scene.exposure)
    found = Fitter(preset, draws=400).fit(as_image(scaled(counts)))
    a_twentieth = 0.05 * preset.image.sky * true
    assert found.data.min() == pytest.approx(counts.min(), abs=3 * a_twentieth)
    assert found.parameter("exposure").value == pytest.approx(true, rel=0.15)
    assert counts.min() > 6 * a_twentieth


def test_the_fit_is_the_same_twice(fitter: Fitter) -> None:
    counts, _ = simulated(3)
    first, second = (fitter.fit(as_image(counts)) for _ in range(2))
    assert first.parameters == second.parameters


def test_a_folder_is_answered_file_by_file_bad_ones_included(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    np.save(folder / "1.npy", scaled(simulated(0)[0]))
    np.save(folder / "2.npy", np.full((48, 48), 3.0))
    np.save(folder / "3.npy", np.full((48, 48), np.nan))
    np.save(folder / "4.npy", np.random.default_rng(0).random((64, 64)))
    np.save(folder / "5.npy", np.random.default_rng(0).random((3, 48, 48)))
    (folder / "6.npy").write_bytes(b"no image")
    answers = fit_lens(folder, PRESET, tmp_path / "out", figures=False)
    with (tmp_path / "out/fits.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    errors = [row["error"] for row in rows]
    assert isinstance(answers[0], Fit)
    assert rows[0]["einstein_radius"] != ""
    assert float(rows[0]["einstein_radius_error"]) > 0
    assert errors[0] == ""
    assert "constant" in errors[1]
    assert "not finite" in errors[2]
    assert "64 x 64" in errors[3]
    assert "48 x 48" in errors[3]
    assert "color" in errors[4]
    assert all(isinstance(answer, ReadError) for answer in answers[1:])
    record = json.loads((tmp_path / "out/fits.json").read_text(encoding="utf-8"))
    assert len(record["fits"]) == 6
    assert record["fits"][0]["parameters"]["einstein_radius"]["unit"] == "arcsec"


def test_a_fit_has_a_figure(tmp_path: Path) -> None:
    np.save(tmp_path / "1.npy", simulated(2)[0])
    fit_lens(tmp_path / "1.npy", PRESET, tmp_path / "out", vortex=True)
    with Picture.open(tmp_path / "out/0001-1.png") as picture:
        assert picture.width > 1000


def test_mistakes_are_named(tmp_path: Path) -> None:
    np.save(tmp_path / "1.npy", simulated(0)[0])
    with pytest.raises(
        UsageError, match="--subhalos many: give a number from 0 to 50, 'auto', or 'sampled'"
    ):
        fit_lens(tmp_path / "1.npy", PRESET, subhalos="many")
    with pytest.raises(UsageError, match=r"--free psf: .*psf_sigma"):
        fit_lens(tmp_path / "1.npy", PRESET, free=["psf"])
    with pytest.raises(UsageError, match="did you mean 'demo_classification'"):
        fit_lens(tmp_path / "1.npy", "demo_clasification")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images found"):
        fit_lens(tmp_path / "empty", PRESET)
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="is a file"):
        fit_lens(tmp_path / "1.npy", PRESET, tmp_path / "file")


@pytest.mark.parametrize("name", ["no/1", "no/3"])
def test_real_images_agree_with_the_recovered_recipe(shared_data: Path, name: str) -> None:
    torch.set_num_threads(1)
    path = shared_data / "common_test_1" / f"{name}.npy"
    found = Fitter("common_test_1").fit(read_image(path))
    assert found.reduced_chi2 == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(
    ("preset", "free", "message"),
    [
        ("demo_classification", "source_raduis", "did you mean 'source_radius'"),
        ("demo_classification", "lens_light_radius", "demo_classification has no such part"),
        ("demo_classification", "exposure", "demo_classification has no such part"),
    ],
)
def test_what_cannot_be_fitted_is_refused(preset: str, free: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Fitter(preset, [free], draws=4)


def test_sources_that_are_pictures_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "galaxy.npy", np.random.default_rng(0).random((16, 16)))
    content = yaml.safe_load(load_preset(PRESET).to_yaml())
    content["source"] |= {"picture": {"file": "galaxy.npy"}}
    del content["source"]["sersic_index"], content["source"]["axis_ratio"]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UsageError, match="and its are pictures"):
        Fitter(str(tmp_path / "mine.yaml"))


def test_an_image_of_one_value_is_refused(fitter: Fitter) -> None:
    with pytest.raises(ReadError, match="all its pixels are equal"):
        fitter.fit(as_image(np.full((1, 48, 48), 7.0)))


def test_a_fit_that_misses_its_image_is_called_doubtful(fitter: Fitter, tmp_path: Path) -> None:
    counts, _ = simulated(2)  # a heavy line, fitted without one
    np.save(tmp_path / "vortex.npy", counts)
    (found,) = fit_lens(tmp_path / "vortex.npy", PRESET, tmp_path / "fits", figures=False)
    assert isinstance(found, Fit)
    assert found.warning.startswith("the model does not describe the image")
    with (tmp_path / "fits/fits.csv").open() as file:
        assert next(csv.DictReader(file))["warning"] == found.warning
    counts, _ = simulated(0)
    assert fitter.fit(as_image(counts)).warning == ""


def test_pixels_may_be_in_any_unit() -> None:
    images, _ = sample(load_preset("model_1_as_run"), 4, 0, 1)
    found = [
        Fitter("model_1_as_run", draws=200).fit(as_image(unit * images[0].numpy()))
        for unit in (1.0, 1e10, 1e-15)
    ]
    first, *others = [one.parameter("source_x") for one in found]
    for one in others:
        assert one.value == pytest.approx(first.value, abs=0.02 * first.error)
        assert one.error == pytest.approx(first.error, rel=0.02)


def test_noise_of_another_kind_is_estimated(tmp_path: Path) -> None:
    preset = load_preset("model_1_as_run")
    images, scene = sample(preset, 4, 0, 1)
    found = Fitter(preset, draws=200).fit(as_image(images[0].numpy()))
    assert not found.is_counts
    assert "exposure" not in {e.name for e in found.parameters}
    estimate = found.parameter("source_x")
    assert abs(estimate.value - float(scene.source_x)) < 5 * estimate.error
