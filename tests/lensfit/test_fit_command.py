"""Fits of simulated and published images: true values lie within their errors; files; refusals."""

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
from halometry.lensfit.tables import QUALITY_COLUMNS
from halometry.simulation import Preset, Scene, load_preset, observe, render, sample
from halometry.simulation.distributions import Quantity

PRESET = "demo_classification"


def simulated(k: int, seed: int = 5) -> tuple[np.ndarray, Scene]:
    """Return the counts (1, H, W) of image k and its scene; k modulo 3 is the class."""
    images, scene = sample(load_preset(PRESET), seed, k, 1)
    return images[0].numpy(), scene


def as_image(pixels: np.ndarray) -> Image:
    return Image(pixels.astype(np.float32), None, "made.npy")


def scaled(counts: np.ndarray) -> np.ndarray:
    """Scale an image to the range from 0 to 1."""
    return (counts - counts.min()) / np.ptp(counts)


@pytest.fixture(scope="module")
def fitter() -> Fitter:
    return Fitter(PRESET, draws=400)


def pulls(fit: Fit, scene: Scene) -> dict[str, float]:
    """Return (value - truth) / error of parameters of the lens, the shear and the source."""
    names = ("einstein_radius", "shear", "source_x", "source_y", "source_axis_ratio")
    parameters = [fit.parameter(name) for name in names]
    return {p.name: (p.value - float(getattr(scene, p.name))) / p.error for p in parameters}


@pytest.mark.parametrize("k", [0, 3, 6])
def test_fit_finds_true_parameters_within_errors(fitter: Fitter, k: int) -> None:
    counts, scene = simulated(k)
    fit = fitter.fit(as_image(counts))
    assert max(map(abs, pulls(fit, scene).values())) < 4
    assert abs(fit.reduced_chi2 - 1) < 4 * fit.reduced_chi2_std
    assert fit.converged
    assert fit.is_counts
    assert fit.diagnostics.agreeing_starts >= 2


def test_fit_errors_shrink_with_more_light(fitter: Fitter) -> None:
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
        assert 1.8 < ratio < 4.2  # 2 without a sky, more with one


def test_fit_does_not_depend_on_scaling_of_the_image(fitter: Fitter) -> None:
    counts, _ = simulated(0)
    plain = fitter.fit(as_image(counts))
    again = fitter.fit(as_image(scaled(counts)))
    assert again.is_counts
    np.testing.assert_array_equal(again.data, plain.data)
    for a, b in zip(plain.parameters, again.parameters, strict=True):
        assert a.value == pytest.approx(b.value, abs=0.02 * a.error)


@pytest.mark.parametrize("k", [2, 5])
def test_count_offset_is_recovered_in_fits_with_a_vortex(fitter: Fitter, k: int) -> None:
    counts, _ = simulated(k)
    assert fitter.fit(as_image(scaled(counts)), vortex=True).data.min() == counts.min()


def test_fit_estimates_noise_of_pixels_that_are_not_counts(fitter: Fitter) -> None:
    counts, scene = simulated(0)
    fit = fitter.fit(as_image(np.sqrt(2) * counts + np.pi * np.sin(counts * 1e-3)))
    assert not fit.is_counts
    assert fit.parameter("unit").value == pytest.approx(np.sqrt(2), rel=0.05)
    assert max(map(abs, pulls(fit, scene).values())) < 6


def test_fit_finds_true_vortex(fitter: Fitter) -> None:
    counts, scene = simulated(2)
    fit = fitter.fit(as_image(counts), vortex=True)
    assert fit.diagnostics.delta_2lnl > 100
    fraction = float(scene.vortex_mass / scene.halo_mass)
    parameter = fit.parameter("vortex_fraction")
    assert abs(parameter.value - fraction) < 4 * parameter.error
    for name in ("vortex_length", "vortex_x", "vortex_y"):
        parameter = fit.parameter(name)
        assert abs(parameter.value - float(getattr(scene, name))) < 4 * parameter.error + 0.05


def test_fit_finds_true_subhalo_and_greedy_adds_none_to_a_smooth_lens(fitter: Fitter) -> None:
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
    fit = fitter.fit(as_image(counts[0].numpy()), subhalos=1)
    assert fit.diagnostics.delta_2lnl > 50
    assert fit.parameter("subhalo_1_fraction").value == pytest.approx(0.02, rel=0.3)
    for axis in "xy":  # to a pixel, below which one ray per pixel makes the likelihood rugged
        place = fit.parameter(f"subhalo_1_{axis}").value
        assert place == pytest.approx(float(on_the_ring[0, 0]), abs=preset.image.pixel_scale)
    counts, _ = simulated(0)
    assert fitter.fit(as_image(counts), subhalo_method="greedy").diagnostics.delta_2lnl_steps == ()


def test_fit_finds_lens_light_and_lens_slope() -> None:
    preset = load_preset("euclid")
    images, scene = sample(preset, 3, 0, 1)
    fit = Fitter(preset, draws=300).fit(as_image(images[0].numpy()))
    assert abs(fit.reduced_chi2 - 1) < 5 * fit.reduced_chi2_std
    for name in ("einstein_radius", "lens_slope", "lens_light_radius", "source_radius"):
        parameter = fit.parameter(name)
        assert abs(parameter.value - float(getattr(scene, name))) < 5 * parameter.error, name


def test_free_finds_constants_of_the_preset(fitter: Fitter) -> None:
    counts, scene = simulated(3)
    free = ("source_radius", "psf_sigma", "sky")
    fit = Fitter(PRESET, free=free, draws=400).fit(as_image(counts))
    spec = fitter.preset.image
    truth = {
        "source_radius": float(scene.source_radius),
        "psf_sigma": spec.psf_sigma,
        "sky": spec.sky,
    }
    for name, true in truth.items():
        parameter = fit.parameter(name)
        assert abs(parameter.value - true) < 4 * parameter.error, name


def with_detector(preset: Preset, **changes: object) -> Preset:
    """Return a preset with another detector."""
    return preset.model_copy(update={"image": preset.image.model_copy(update=changes)})


def test_fit_per_image_finds_psf_of_each_image(fitter: Fitter) -> None:
    sigma = 1.5 * fitter.preset.image.psf_sigma
    counts = sample(with_detector(fitter.preset, psf_sigma=sigma), 5, 0, 1)[0][0]
    held = fitter.fit(as_image(counts.numpy()))
    uncertain = with_detector(fitter.preset, fit_per_image=("psf_sigma",))
    fit = Fitter(uncertain, draws=400).fit(as_image(counts.numpy()))
    parameter = fit.parameter("psf_sigma")
    assert abs(parameter.value - sigma) < 4 * parameter.error
    assert abs(fit.reduced_chi2 - 1) < 4 * fit.reduced_chi2_std
    assert held.reduced_chi2 - 1 > 4 * held.reduced_chi2_std


def test_count_offset_follows_from_noise_if_exposure_is_unknown(fitter: Fitter) -> None:
    exposure = Quantity(log_uniform=(2.0, 5.0), unit="s")
    source = fitter.preset.source
    assert source.brightness is not None
    rate = source.brightness.model_copy(update={"unit": "counts/s/pixel"})
    preset = with_detector(fitter.preset, exposure=exposure).model_copy(
        update={"source": source.model_copy(update={"brightness": rate})}
    )
    images, scene = sample(preset, 6, 0, 1)
    counts, true = images[0].numpy(), float(scene.exposure)
    fit = Fitter(preset, draws=400).fit(as_image(scaled(counts)))
    tolerance = 0.05 * preset.image.sky * true
    assert fit.data.min() == pytest.approx(counts.min(), abs=3 * tolerance)
    assert fit.parameter("exposure").value == pytest.approx(true, rel=0.15)
    assert counts.min() > 6 * tolerance


def test_fit_is_reproducible(fitter: Fitter) -> None:
    counts, _ = simulated(3)
    first, second = (fitter.fit(as_image(counts)) for _ in range(2))
    assert first.parameters == second.parameters


def test_fit_lens_returns_fit_or_error_of_each_file_and_writes_tables(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    np.save(folder / "1.npy", scaled(simulated(0)[0]))
    np.save(folder / "2.npy", np.full((48, 48), 3.0))
    np.save(folder / "3.npy", np.full((48, 48), np.nan))
    np.save(folder / "4.npy", np.random.default_rng(0).random((64, 64)))
    np.save(folder / "5.npy", np.random.default_rng(0).random((3, 48, 48)))
    (folder / "6.npy").write_bytes(b"no image")
    results = fit_lens(folder, PRESET, out=tmp_path / "out", figures=False)
    with (tmp_path / "out/fits.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    errors = [row["error"] for row in rows]
    assert isinstance(results[0], Fit)
    assert rows[0]["einstein_radius"] != ""
    assert float(rows[0]["einstein_radius_error"]) > 0
    assert errors[0] == ""
    assert "constant" in errors[1]
    assert "not finite" in errors[2]
    assert "64 x 64" in errors[3]
    assert "48 x 48" in errors[3]
    assert "color" in errors[4]
    assert all(isinstance(result, ReadError) for result in results[1:])
    record = json.loads((tmp_path / "out/fits.json").read_text(encoding="utf-8"))
    header = json.loads((tmp_path / "out/fits.csv.json").read_text(encoding="utf-8"))
    assert record["format"] == header["format"] == "halometry-fits"
    assert header["columns"] == [*rows[0]]
    assert [*rows[0]][:9] == ["image", *QUALITY_COLUMNS, "einstein_radius"]
    assert len(record["fits"]) == 6
    assert record["fits"][0]["parameters"]["einstein_radius"]["unit"] == "arcsec"


def test_fit_lens_draws_figure(tmp_path: Path) -> None:
    np.save(tmp_path / "1.npy", simulated(2)[0])
    fit_lens(tmp_path / "1.npy", PRESET, out=tmp_path / "out", vortex=True)
    with Picture.open(tmp_path / "out/0001-1.png") as picture:
        assert picture.width > 1000


def test_fit_lens_refuses_wrong_options(tmp_path: Path) -> None:
    np.save(tmp_path / "1.npy", simulated(0)[0])
    with pytest.raises(UsageError, match="--subhalos 51: give a number from 0 to 50"):
        fit_lens(tmp_path / "1.npy", PRESET, subhalos=51)
    with pytest.raises(UsageError, match="--subhalo-method auto: give one of greedy, mcmc"):
        fit_lens(tmp_path / "1.npy", PRESET, subhalo_method="auto")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="--subhalos 2 and --subhalo-method greedy: give only one"):
        fit_lens(tmp_path / "1.npy", PRESET, subhalos=2, subhalo_method="greedy")
    with pytest.raises(UsageError, match=r"--free psf: .*psf_sigma"):
        fit_lens(tmp_path / "1.npy", PRESET, free=["psf"])
    with pytest.raises(UsageError, match="did you mean 'demo_classification'"):
        fit_lens(tmp_path / "1.npy", "demo_clasification")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images found"):
        fit_lens(tmp_path / "empty", PRESET)
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="is a file"):
        fit_lens(tmp_path / "1.npy", PRESET, out=tmp_path / "file")


@pytest.mark.parametrize("name", ["no/1", "no/3"])
def test_published_images_are_described_by_their_preset(shared_data: Path, name: str) -> None:
    torch.set_num_threads(1)
    path = shared_data / "common_test_1" / f"{name}.npy"
    fit = Fitter("common_test_1").fit(read_image(path))
    assert fit.reduced_chi2 == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(
    ("preset", "free", "message"),
    [
        ("demo_classification", "source_raduis", "did you mean 'source_radius'"),
        ("demo_classification", "lens_light_radius", "demo_classification has no such part"),
        ("demo_classification", "exposure", "demo_classification has no such part"),
    ],
)
def test_fitter_refuses_unknown_or_absent_free_parameters(
    preset: str, free: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Fitter(preset, free=[free], draws=4)


def test_fitter_refuses_presets_with_pictures_as_sources(tmp_path: Path) -> None:
    np.save(tmp_path / "galaxy.npy", np.random.default_rng(0).random((16, 16)))
    content = yaml.safe_load(load_preset(PRESET).to_yaml())
    content["source"] |= {"picture": {"file": "galaxy.npy"}}
    del content["source"]["sersic_index"], content["source"]["axis_ratio"]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UsageError, match="its sources are pictures"):
        Fitter(str(tmp_path / "mine.yaml"))


def test_fit_refuses_constant_image(fitter: Fitter) -> None:
    with pytest.raises(ReadError, match="all its pixels are equal"):
        fitter.fit(as_image(np.full((1, 48, 48), 7.0)))


def test_fit_warns_if_model_does_not_describe_image(fitter: Fitter, tmp_path: Path) -> None:
    counts, _ = simulated(2)  # a heavy vortex, fitted without one
    np.save(tmp_path / "vortex.npy", counts)
    (fit,) = fit_lens(tmp_path / "vortex.npy", PRESET, out=tmp_path / "fits", figures=False)
    assert isinstance(fit, Fit)
    assert fit.warning.startswith("the model does not describe the image")
    with (tmp_path / "fits/fits.csv").open() as file:
        assert next(csv.DictReader(file))["warning"] == fit.warning
    counts, _ = simulated(0)
    assert fitter.fit(as_image(counts)).warning == ""


def test_fit_does_not_depend_on_unit_of_pixels() -> None:
    images, _ = sample(load_preset("model_1_as_run"), 4, 0, 1)
    fit = [
        Fitter("model_1_as_run", draws=200).fit(as_image(unit * images[0].numpy()))
        for unit in (1.0, 1e10, 1e-15)
    ]
    first, *others = [one.parameter("source_x") for one in fit]
    for one in others:
        assert one.value == pytest.approx(first.value, abs=0.02 * first.error)
        assert one.error == pytest.approx(first.error, rel=0.02)


def test_fit_estimates_noise_of_presets_with_other_noise(tmp_path: Path) -> None:
    preset = load_preset("model_1_as_run")
    images, scene = sample(preset, 4, 0, 1)
    fit = Fitter(preset, draws=200).fit(as_image(images[0].numpy()))
    assert not fit.is_counts
    assert "exposure" not in {e.name for e in fit.parameters}
    parameter = fit.parameter("source_x")
    assert abs(parameter.value - float(scene.source_x)) < 5 * parameter.error
