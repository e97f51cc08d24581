"""Noise of images: Poisson, Gaussian and JPEG, with the right distributions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from halometry.errors import DataError
from halometry.simulation import Preset, draw_scenes, load_preset, observe
from halometry.simulation.distributions import Quantity
from halometry.simulation.poisson import CELLS_PER_ROW, alias_table, draw_poisson

RATES = [0.01, 0.06, 0.5, 3.0, 9.9, 10.5, 15.97, 16.0, 30.0, 255.5, 1e3, 4095.9, 4096.0, 1e6]
SAMPLES = 1_000_000


def draw(rate: float, number: int = SAMPLES) -> np.ndarray:
    return draw_poisson(np.full(number, rate, np.float32), np.random.default_rng(5))


@pytest.mark.parametrize("rate", RATES)
def test_counts_have_the_poisson_distribution(rate: float) -> None:
    """Sensitive to an excess of 0.1 % of any likely count."""
    counts, rate = draw(rate), float(np.float32(rate))
    edges = np.unique(stats.poisson.ppf(np.linspace(5e-4, 1 - 5e-4, 80), rate))
    probability = np.diff(np.concatenate([[0], stats.poisson.cdf(edges, rate), [1]]))
    observed = np.bincount(np.searchsorted(edges, counts), minlength=len(probability))
    p_value = stats.chisquare(observed, probability * SAMPLES).pvalue
    assert p_value > 1e-4
    assert counts.mean() == pytest.approx(rate, abs=4 * (rate / SAMPLES) ** 0.5)
    spread = ((rate + 2 * rate**2) / SAMPLES) ** 0.5
    assert counts.var(dtype=np.float64) == pytest.approx(rate, abs=4 * spread)


@pytest.mark.parametrize("step", sorted(CELLS_PER_ROW))
def test_alias_tables_are_exact_to_1e_7(step: float) -> None:
    table = alias_table(step)
    cells = 1 << table.bits
    first = np.ceil(table.threshold / cells) * cells / 2**32  # resolution of the lower bits
    counts = table.counts.reshape(-1, 2).astype(int)
    for row in range(len(first) // cells):
        part = slice(row * cells, (row + 1) * cells)
        probability = np.bincount(counts[part, 1], first[part]) / cells
        probability.resize(counts[part].max() + 1)
        other = np.bincount(counts[part, 0], 1 - first[part], len(probability)) / cells
        exact = stats.poisson.pmf(np.arange(len(probability)), row * step)
        distance = (np.abs(probability + other - exact).sum() + 1 - exact.sum()) / 2
        assert distance < 3e-8


def test_rate_zero_gives_no_counts() -> None:
    assert not draw(0.0).any()


def test_each_pixel_has_its_own_rate() -> None:
    rates = np.repeat(np.float32([0, 0.3, 7, 40, 900, 9000]), 20_000).reshape(6, 200, 100)
    counts = draw_poisson(rates[:, ::-1], np.random.default_rng(1))
    means = counts.mean(axis=(1, 2))
    assert (np.abs(means - rates[:, 0, 0]) <= 5 * np.sqrt(rates[:, 0, 0] / 20_000)).all()


def test_noise_of_neighboring_pixels_is_uncorrelated() -> None:
    counts = draw(10.5, 400_000).reshape(1000, 400)
    centered = counts - counts.mean()
    for other in (np.roll(centered, 1, axis=1), np.roll(centered, 200, axis=0)):
        assert abs((centered * other).mean() / centered.var()) < 4 / 400_000**0.5


@pytest.mark.parametrize("name", ["common_test_1", "model_1"])
def test_noise_of_an_image_depends_on_seed_and_number_only(name: str) -> None:
    preset = load_preset(name)
    expected = torch.rand(5, 1, 40, 40, generator=torch.Generator().manual_seed(0)) * 600
    together = observe(expected, preset, seed=3, start=10)
    changed = expected.clone()
    changed[:3] *= 20
    alone = observe(expected[3:4], preset, seed=3, start=13)
    assert torch.equal(together[3:4], alone)
    assert torch.equal(together[3:4], observe(changed, preset, seed=3, start=10)[3:4])
    assert not torch.equal(together[3:4], observe(expected[3:4], preset, seed=3, start=12))
    assert not torch.equal(together[3:4], observe(expected[3:4], preset, seed=4, start=13))


def preset_with_image(**changes: object) -> Preset:
    """A preset with changed values of its `image`."""
    preset = load_preset("common_test_1")
    return preset.model_copy(update={"image": preset.image.model_copy(update=changes)})


def test_background_noise_is_gaussian() -> None:
    preset = preset_with_image(background_rms=17.8)
    noise = observe(torch.zeros(40, 1, 150, 150), preset, seed=2, start=0).numpy().ravel()
    edges = np.arange(-60, 61) + 0.5
    probability = np.diff(np.concatenate([[0], stats.norm.cdf(edges, scale=17.8), [1]]))
    observed = np.histogram(noise, np.concatenate([[-np.inf], edges, [np.inf]]))[0]
    assert stats.chisquare(observed, probability * noise.size).pvalue > 1e-4


def test_background_per_second_scales_with_exposure() -> None:
    preset = load_preset("model_1")
    scene = draw_scenes(preset, seed=6, start=3, count=20)
    dark = torch.zeros(20, 1, 60, 60)
    counts = observe(dark, preset, seed=6, start=3)
    expected = (scene.exposure.float() * preset.image.background_rms) ** 2 + 1 / 12  # of rounding
    torch.testing.assert_close(
        counts.flatten(1).var(dim=1) / expected, torch.ones(20), rtol=0.12, atol=0
    )
    assert torch.equal(counts, observe(dark, preset, 6, 3, scene.background_rms))


def test_background_distribution_varies_between_images() -> None:
    background = {
        "log_normal": {"median": 20, "sigma": 0.5, "low": 5, "high": 80},
        "unit": "counts/pixel",
    }
    preset = preset_with_image(shot_noise=False, background=Quantity.model_validate(background))
    rms = draw_scenes(preset, seed=6, start=0, count=200).background_rms
    assert float(rms.log().mean()) == pytest.approx(np.log(20), abs=0.15)
    assert float(rms.log().std()) == pytest.approx(0.5, abs=0.1)
    assert float(rms.min()) >= 5
    assert float(rms.max()) <= 80
    counts = observe(torch.zeros(20, 1, 60, 60), preset, 6, 0)
    torch.testing.assert_close(counts.flatten(1).std(dim=1), rms[:20].float(), rtol=0.1, atol=0)


def test_noise_twice_doubles_the_variance() -> None:
    expected = torch.full((20, 1, 60, 60), 400.0)
    counts = observe(
        expected, preset_with_image(reproduce_bugs=("noise_twice",), background_rms=5.0), 0, 0
    )
    assert float(counts.mean()) == pytest.approx(400, abs=0.5)
    assert float(counts.var()) == pytest.approx(2 * 400 + 25, rel=0.03)
    assert torch.equal(counts, counts.round())


def test_no_noise_rounds_the_expected_counts() -> None:
    expected = 10 * torch.rand(2, 1, 20, 20)
    assert torch.equal(
        observe(expected, preset_with_image(reproduce_bugs=("no_noise",)), 0, 0), expected.round()
    )


def test_no_noise_with_jpeg_gives_eight_bits() -> None:
    smooth = torch.linspace(0, 1000, 64)[None, None, None].expand(1, 1, 64, 64)
    images = observe(smooth, preset_with_image(reproduce_bugs=("no_noise",), jpeg_quality=75), 0, 0)
    assert float(images.max()) <= 255


@pytest.mark.parametrize("wrong", [-0.001, float("nan"), float("inf"), 3e9])
def test_invalid_expected_counts_are_refused(wrong: float) -> None:
    expected = torch.ones(4, 1, 20, 20)
    expected[2, 0, 7, 3] = wrong
    with pytest.raises(DataError, match="image 102: its expected counts are not all from 0 to 1e"):
        observe(expected, load_preset("common_test_1"), seed=0, start=100)


def test_without_shot_noise_only_background_noise_remains() -> None:
    expected = torch.full((20, 1, 60, 60), 400.0)
    counts = observe(expected, preset_with_image(shot_noise=False, background_rms=5.0), 0, 0)
    assert float(counts.var()) == pytest.approx(25 + 1 / 12, rel=0.03)


def test_absolute_value_folds_negative_counts() -> None:
    expected = torch.zeros((20, 1, 60, 60))
    folded = preset_with_image(
        shot_noise=False, background_rms=30.0, reproduce_bugs=("absolute_value",)
    )
    counts = observe(expected, folded, 0, 0)
    assert float(counts.min()) >= 0
    assert float(counts.mean()) == pytest.approx(30 * (2 / np.pi) ** 0.5, rel=0.02)


def test_jpeg_has_eight_bits_and_small_errors() -> None:
    smooth = torch.linspace(0, 1000, 64)[None, None, None].expand(2, 1, 64, 64)
    images = observe(smooth, preset_with_image(shot_noise=False, jpeg_quality=75), 0, 0)
    assert torch.equal(images, images.round())
    assert float(images.min()) >= 0
    assert float(images.max()) <= 255
    assert float((images - smooth * 0.255).abs().mean()) < 2
