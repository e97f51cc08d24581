"""Sources that are pictures of galaxies."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from halometry.errors import ConfigError
from halometry.simulation import draw_scenes, load_preset, render, sample
from halometry.simulation.preset import Preset
from halometry.simulation.render import pixel_grid
from helpers.presets import changed_preset


def preset_with_pictures(tmp_path: Path, pictures: np.ndarray) -> Preset:
    np.savez(tmp_path / "galaxies.npz", images=pictures)
    return changed_preset(
        tmp_path,
        "demo_mass",
        source__picture={"file": "galaxies.npz"},
        source__sersic_index=None,
        source__axis_ratio=None,
    )


@pytest.mark.parametrize("shape", [(8, 8), (20, 30), (64, 32)])
def test_picture_has_its_magnitude_and_axis_ratio(tmp_path: Path, shape: tuple[int, int]) -> None:
    y, x = np.mgrid[: shape[0], : shape[1]]
    y, x = y - (shape[0] - 1) / 2, x - (shape[1] - 1) / 2
    np.savez(tmp_path / "galaxies.npz", images=np.exp(-(x**2 + y**2) / (0.1 * min(shape)) ** 2))
    zero = torch.zeros(1, dtype=torch.float64)
    preset = changed_preset(
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


def test_picture_without_lens_keeps_position_and_brightness(tmp_path: Path) -> None:
    y, x = np.mgrid[-1:1:65j, -1:1:65j]
    gaussian = np.exp(-0.5 * ((x - 0.2) ** 2 + (y + 0.1) ** 2) / 0.1**2)
    preset = preset_with_pictures(tmp_path, np.stack([gaussian + 0.3, 2 * gaussian + 0.1]))
    scene = draw_scenes(preset, 0, 0, 1)
    zero = torch.zeros(1, dtype=torch.float64)
    bare = dict.fromkeys(("shear", "einstein_radius", "source_position_angle"), zero)
    placed = {"source_x": zero + 0.5, "source_y": zero - 0.5, "source_radius": zero + 2.0}
    image = (render(replace(scene, **bare, **placed), preset) - preset.image.sky)[0, 0]
    x_at, y_at = pixel_grid(preset.image, image)
    assert float((image * x_at).sum() / image.sum()) == pytest.approx(0.5 + 0.2 * 2, abs=0.02)
    assert float((image * y_at).sum() / image.sum()) == pytest.approx(-0.5 - 0.1 * 2, abs=0.02)
    assert float(image.max()) == pytest.approx(float(scene.source_brightness), rel=0.25)


def test_pictures_are_drawn_at_random_and_changed_files_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    preset = preset_with_pictures(tmp_path, rng.uniform(0, 1, (3, 20, 30)))
    assert set(draw_scenes(preset, 0, 0, 40).source_picture.tolist()) == {0, 1, 2}
    images, _ = sample(preset, 0, 0, 2)
    assert images.std() > 0
    written = tmp_path / "again.yaml"
    written.write_text(preset.to_yaml())
    np.savez(tmp_path / "galaxies.npz", images=rng.uniform(0, 1, (3, 20, 30)))
    with pytest.raises(ConfigError, match=r"galaxies\.npz: has changed"):
        load_preset(written)


def test_hubble_galaxies_can_be_sources(tmp_path: Path, shared_data: Path) -> None:
    file = shared_data / "galaxies" / "cosmos_43.npz"
    preset = changed_preset(
        tmp_path,
        "demo_mass",
        source__picture={"file": str(file)},
        source__sersic_index=None,
        source__axis_ratio=None,
    )
    images, scene = sample(preset, 0, 0, 8)
    assert images.isfinite().all()
    assert len(set(scene.source_picture.tolist())) > 3
