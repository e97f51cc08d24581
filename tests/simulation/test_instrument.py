"""Magnitudes, instruments and point spread functions from files."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from astropy.io import fits

from halometry.errors import ConfigError
from halometry.simulation import draw_scenes, load_preset, render
from halometry.simulation.instrument import (
    ImageSpec,
    instrument_text,
    list_instruments,
    load_instrument,
)
from halometry.simulation.render import convolve_psf
from helpers.presets import changed_preset


def test_source_magnitude_gives_the_counts_of_the_zero_point(tmp_path: Path) -> None:
    small = {"value": 0.15, "unit": "arcsec"}
    fixed = {"value": 23.0, "unit": "mag"}
    preset = changed_preset(
        tmp_path, source__radius=small, source__magnitude=fixed, lens_light=None
    )
    scene = draw_scenes(preset, 0, 0, 1)
    bare = ("einstein_radius", "shear", "multipole_3", "multipole_4")
    scene = replace(scene, **dict.fromkeys(bare, torch.zeros(1, dtype=torch.float64)))
    flux = float((render(scene, preset) - preset.image.sky).sum())
    assert preset.image.zero_point is not None
    assert preset.image.zero_point - 2.5 * math.log10(flux) == pytest.approx(23.0, abs=0.02)


@pytest.mark.parametrize("name", list_instruments())
def test_every_instrument_has_values_with_sources(name: str) -> None:
    instrument = load_instrument(name)
    spec = ImageSpec(pixels=32, instrument=name)
    assert spec.sky > 1
    assert spec.psf_sigma * 2.3548 == pytest.approx(instrument.psf_fwhm.value, rel=1e-3)  # type: ignore[union-attr]
    for key in ("pixel_scale", "zero_point", "exposure_time", "sky_brightness", "read_noise"):
        assert getattr(instrument, key).source, key


def test_psf_file_of_a_gaussian_equals_the_gaussian_psf(tmp_path: Path) -> None:
    axis = np.arange(-8, 9)
    gaussian = np.exp(-0.5 * (axis / 1.7) ** 2)
    fits.PrimaryHDU((gaussian[:, None] * gaussian * 3.0).astype(">f4")).writeto(
        tmp_path / "psf.fits"
    )
    image = {"psf": {"file": "psf.fits"}, "psf_sigma": 0.0}
    preset = changed_preset(tmp_path, "demo_mass", image__psf=image["psf"], image__psf_sigma=0.0)
    impulse = torch.zeros(1, 1, 48, 48, dtype=torch.float64)
    impulse[0, 0, 20, 25] = 1
    got = convolve_psf(impulse, preset.image)
    gauss = ImageSpec(pixels=48, pixel_scale=1.0, psf_sigma=1.7)
    torch.testing.assert_close(got, convolve_psf(impulse, gauss), rtol=0, atol=3e-4)
    assert float(got.sum()) == pytest.approx(1, rel=1e-6)


def test_asymmetric_psf_is_not_flipped(tmp_path: Path) -> None:
    kernel = np.zeros((3, 3))
    kernel[1, 2] = 1  # all light one pixel to the right
    np.save(tmp_path / "psf.npy", kernel)
    preset = changed_preset(
        tmp_path, "demo_mass", image__psf={"file": "psf.npy"}, image__psf_sigma=0.0
    )
    impulse = torch.zeros(1, 1, 48, 48)
    impulse[0, 0, 20, 25] = 1
    assert float(convolve_psf(impulse, preset.image)[0, 0, 20, 26]) == 1


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (np.ones((4, 4)), "two odd sides"),
        (np.zeros((3, 3)), "sum above 0"),
        (np.full((3, 3), np.nan), "finite"),
        (np.array([[0, 1, 0], [1, 5, -1], [0, 1, 0]]), "not be negative"),
    ],
)
def test_invalid_psf_file_is_refused(tmp_path: Path, kernel: np.ndarray, message: str) -> None:
    np.save(tmp_path / "psf.npy", kernel)
    with pytest.raises(ConfigError, match=rf"psf\.npy: must .*{message}"):
        changed_preset(tmp_path, "demo_mass", image__psf={"file": "psf.npy"}, image__psf_sigma=0.0)


def test_single_values_of_an_instrument_can_be_replaced(tmp_path: Path) -> None:
    np.save(tmp_path / "psf.npy", np.ones((3, 3)))
    finer = ImageSpec(pixels=32, instrument="euclid_vis", pixel_scale=0.05)
    assert finer.sky == pytest.approx(ImageSpec(pixels=32, instrument="euclid_vis").sky / 4)
    content = {"pixels": 32, "instrument": "euclid_vis"}
    own = ImageSpec.model_validate(content | {"psf": {"file": str(tmp_path / "psf.npy")}})
    assert own.psf_sigma == 0
    background = {"uniform": [1, 2], "unit": "counts/pixel"}
    assert ImageSpec.model_validate(content | {"background": background}).background_rms == 0
    with pytest.raises(ValueError, match="an instrument has its own exposure"):
        ImageSpec.model_validate(content | {"exposure": {"value": 10, "unit": "s"}})


def test_paths_in_own_instrument_start_at_its_folder(
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
