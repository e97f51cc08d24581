"""All presets: images that look as the preset says, and labels as the published sets have them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from halometry.simulation import draw_scenes, list_presets, load_preset, observe, sample


@pytest.mark.parametrize("name", list_presets())
def test_every_preset_gives_finite_integer_counts(name: str) -> None:
    preset = load_preset(name)
    images, scene = sample(preset, seed=0, start=0, count=3)
    assert images.shape == (3, *preset.image.shape)
    assert images.isfinite().all()
    assert torch.equal(images, images.round())
    if "no_noise" not in preset.image.reproduce_bugs:
        assert images.flatten(1).std(dim=1).min() > 1
    brightest = images.flatten(1).amax(dim=1)
    assert (brightest > 2 * images.flatten(1).median(dim=1).values + 5).all()
    assert scene.einstein_radius.min() > 0.3
    assert len(scene) == 3


def test_noise_of_common_test_1_is_poisson() -> None:
    preset = load_preset("common_test_1")
    expected = torch.full((30, 1, 60, 60), 12.5)
    counts = observe(expected, preset, seed=0, start=0)
    assert float(counts.mean()) == pytest.approx(12.5, abs=0.05)
    assert float(counts.var()) == pytest.approx(12.5, abs=0.3)


def test_classes_alternate_and_have_their_substructure() -> None:
    scene = draw_scenes(load_preset("common_test_1"), seed=0, start=4, count=6)
    assert scene.labels.tolist() == [1, 2, 0, 1, 2, 0]
    has_subhalos = (scene.subhalo_mass > 0).any(dim=1)
    assert has_subhalos.tolist() == [k == 1 for k in scene.labels]
    assert (scene.vortex_mass > 0).tolist() == [k == 2 for k in scene.labels]


def test_mass_label_is_subhalo_mass_over_halo_mass() -> None:
    scene = draw_scenes(load_preset("halo_mass"), seed=0, start=0, count=50)
    torch.testing.assert_close(scene.labels, scene.subhalo_mass.sum(1) / 1e12)
    assert scene.labels.dtype == torch.float64


def test_mass_labels_are_distributed_as_the_published_ones(shared_data: object) -> None:
    published = np.load(f"{shared_data}/halo_mass/masses.npy")
    simulated = draw_scenes(load_preset("halo_mass"), seed=0, start=0, count=20_000).labels.numpy()
    assert stats.ks_2samp(published, simulated).statistic < 0.02


def test_scaled_pixels_have_the_mean_and_scatter_of_published_images() -> None:
    """The published images of the class without substructure have 0.064 and 0.117."""
    images, _ = sample(load_preset("common_test_1"), seed=0, start=0, count=60)
    low = images.amin((1, 2, 3), keepdim=True)
    scaled = (images - low) / (images.amax((1, 2, 3), keepdim=True) - low)
    assert float(scaled.mean()) == pytest.approx(0.064, abs=0.006)
    assert float(scaled.std()) == pytest.approx(0.117, abs=0.01)
