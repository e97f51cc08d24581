"""Image k follows from the preset, the seed and k alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from halometry.simulation import draw_scenes, list_presets, load_preset, observe, sample
from halometry.simulation.render import sample_fast
from halometry.simulation.rng import Purpose, image_rng

PRESETS = list_presets()


@pytest.mark.parametrize("name", ["demo_classification", "demo_mass"])
def test_an_image_is_the_same_whatever_comes_before_and_after(name: str) -> None:
    preset = load_preset(name)
    together, scene = sample(preset, seed=7, start=0, count=9)
    alone, own = sample(preset, seed=7, start=5, count=1)
    assert torch.equal(together[5], alone[0])
    for key, values in own.parameters().items():
        np.testing.assert_array_equal(values[0], scene.parameters()[key][5])


@pytest.mark.parametrize("name", ["demo_classification", "halo_mass"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_images_made_quickly_are_the_same_up_to_rounding(name: str, threads: int) -> None:
    preset, before = load_preset(name), torch.get_num_threads()
    exact, scene = sample(preset, seed=7, start=3, count=9)
    torch.set_num_threads(threads)
    try:
        quick, own = sample_fast(preset, seed=7, start=3, count=9)
        again, _ = sample_fast(preset, seed=7, start=3, count=9)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(quick, again)
    assert float((quick != exact).float().mean()) < 1e-4
    assert float((quick - exact).abs().max()) <= 1
    for key, values in own.parameters().items():
        np.testing.assert_array_equal(values, scene.parameters()[key])


def test_another_seed_gives_other_images() -> None:
    preset = load_preset("demo_mass")
    first, _ = sample(preset, seed=1, start=0, count=2)
    second, _ = sample(preset, seed=2, start=0, count=2)
    assert not torch.equal(first, second)


def test_every_purpose_has_a_stream_of_its_own() -> None:
    draws = np.concatenate([image_rng(3, 5, purpose).random(4) for purpose in Purpose])
    assert len(np.unique(draws)) == len(draws)


def test_neighboring_images_and_seeds_are_unrelated() -> None:
    draws = [image_rng(seed, k, Purpose.SCENE).random() for seed in range(20) for k in range(20)]
    assert stats.kstest(draws, "uniform").pvalue > 1e-4


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_makes_finite_whole_counts(name: str) -> None:
    preset = load_preset(name)
    images, scene = sample(preset, seed=0, start=0, count=3)
    assert images.shape == (3, *preset.image.shape)
    assert images.isfinite().all()
    if "no_noise" not in preset.image.reproduce_bugs:
        assert torch.equal(images, images.round())
        assert images.flatten(1).std(dim=1).min() > 1
    assert len(scene) == 3


def test_the_noise_is_poisson() -> None:
    preset = load_preset("common_test_1")
    expected = torch.full((30, 1, 60, 60), 12.5)
    counts = observe(expected, preset, seed=0, start=0)
    assert float(counts.mean()) == pytest.approx(12.5, abs=0.05)
    assert float(counts.var()) == pytest.approx(12.5, abs=0.3)


def test_classes_go_round_and_have_what_they_are_called() -> None:
    scene = draw_scenes(load_preset("common_test_1"), seed=0, start=4, count=6)
    assert scene.labels.tolist() == [1, 2, 0, 1, 2, 0]
    has_subhalos = (scene.subhalo_mass > 0).any(dim=1)
    assert has_subhalos.tolist() == [k == 1 for k in scene.labels]
    assert (scene.vortex_mass > 0).tolist() == [k == 2 for k in scene.labels]


def test_mass_labels_are_the_subhalos_share() -> None:
    scene = draw_scenes(load_preset("halo_mass"), seed=0, start=0, count=50)
    torch.testing.assert_close(scene.labels, scene.subhalo_mass.sum(1) / 1e12)
    assert scene.labels.dtype == torch.float64


def test_mass_labels_follow_the_published_ones(shared_data: object) -> None:
    real = np.load(f"{shared_data}/halo_mass/masses.npy")
    drawn = draw_scenes(load_preset("halo_mass"), seed=0, start=0, count=20_000).labels.numpy()
    assert stats.ks_2samp(real, drawn).statistic < 0.02


def test_scaled_pixels_look_like_the_real_ones() -> None:
    """The real images of the class without substructure have 0.064 and 0.117."""
    images, _ = sample(load_preset("common_test_1"), seed=0, start=0, count=60)
    low = images.amin((1, 2, 3), keepdim=True)
    scaled = (images - low) / (images.amax((1, 2, 3), keepdim=True) - low)
    assert float(scaled.mean()) == pytest.approx(0.064, abs=0.006)
    assert float(scaled.std()) == pytest.approx(0.117, abs=0.01)
