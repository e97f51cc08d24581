"""OOD detector and image statistics, on Gaussian vectors and on simple images."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import binom, kstest
from torch import Tensor

from halometry.ood.detector import (
    FEATURES,
    MAX_COMPONENTS,
    GaussianModel,
    Groups,
    ImageScaling,
    OODDetector,
    PrincipalSubspace,
)
from halometry.ood.image_statistics import (
    FREQUENCY_EDGES,
    N_RINGS,
    brightness_levels,
    image_statistics,
)

GROUPS = ("features", "light", "spectrum", "noise")
STATISTICS = ("light", "center", "spectrum", "noise")


def gaussian_groups(count: int, seed: int, shift: float = 0.0) -> Groups:
    """Correlated Gaussian vectors for each group; `spectrum` is shifted by some sigma."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(6, 6)) * [100, 10, 1, 1, 1, 0.1]
    groups = {name: torch.from_numpy(rng.normal(size=(count, 6)) @ mixing) for name in GROUPS}
    return groups | {"spectrum": groups["spectrum"] + shift * torch.from_numpy(mixing[2])}


def gaussian_detector(count: int) -> OODDetector:
    scaling = ImageScaling(torch.ones(()), torch.zeros(1), 1)
    return OODDetector.fit(scaling, gaussian_groups(count, 1), gaussian_groups(count, 2))


def noise_images(count: int, seed: int = 0, sigma: float = 1.0, side: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return sigma * torch.randn(count, 1, side, side, generator=generator)


def groups_of(scaling: ImageScaling, images: Tensor) -> Groups:
    """Groups of images whose features are their means."""
    return scaling.groups(images, images.mean(dim=(2, 3)))


def test_p_values_of_in_distribution_images_are_uniform() -> None:
    results = gaussian_detector(2000).evaluate(gaussian_groups(2000, 3))
    assert kstest([result.p_value for result in results], "uniform").pvalue > 0.01
    flagged = sum(result.reason is not None for result in results)
    assert binom.ppf(1e-4, 2000, 0.007) <= flagged <= binom.ppf(1 - 1e-4, 2000, 0.013)


def test_shifted_group_is_the_reason() -> None:
    results = gaussian_detector(1000).evaluate(gaussian_groups(200, 3, shift=15.0))
    assert [result.reason for result in results] == ["spectrum"] * 200
    assert max(result.p_value for result in results) == pytest.approx(1 / 1001)


@pytest.mark.parametrize("count", [20, 99, 100, 777])
def test_flag_agrees_with_score_and_p_value(count: int) -> None:
    detector = gaussian_detector(count)
    assert detector.false_positive_rate == max(0.01, 1 / (count + 1))
    for result in detector.evaluate(gaussian_groups(300, 4, shift=2.5)):
        flagged = result.reason is not None
        assert flagged == (result.score > 1)
        assert flagged == (result.p_value <= detector.false_positive_rate + 1e-12)


def test_distances_are_mahalanobis_distances() -> None:
    vectors = gaussian_groups(50_000, 5)["light"]
    model = GaussianModel.fit(vectors)
    covariance = np.cov(vectors.numpy().T)
    centered = (vectors[:20] - vectors.mean(dim=0)).numpy()
    inverse = np.linalg.inv(covariance)
    expected = np.sqrt(np.einsum("ni,ij,nj->n", centered, inverse, centered))
    np.testing.assert_allclose(model.distances(vectors[:20]).numpy(), expected, rtol=0.02)


def test_nan_has_the_smallest_p_value() -> None:
    groups = gaussian_groups(3, 6)
    groups["light"][1, 0] = math.nan
    (finite, nan, _) = gaussian_detector(200).evaluate(groups)
    assert nan.reason == "light"
    assert nan.p_value == pytest.approx(1 / 201)
    assert finite.p_value > nan.p_value


def test_principal_subspace_separates_components_and_distance() -> None:
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(200, MAX_COMPONENTS)))[0]
    features = torch.from_numpy(5 * rng.normal(size=(400, MAX_COMPONENTS)) @ basis.T + 3)
    features += torch.from_numpy(0.01 * rng.normal(size=(400, 200)))
    subspace = PrincipalSubspace.fit(features)
    assert subspace.project(features).shape == (400, MAX_COMPONENTS + 1)
    outside = rng.normal(size=200)
    outside -= basis @ (basis.T @ outside)
    outside *= 7 / np.linalg.norm(outside)
    moved = subspace.project(features[:1] + torch.from_numpy(outside))
    assert float(moved[0, -1].exp()) == pytest.approx(7, rel=0.02)
    expected = subspace.project(features[:1])[0, :-1]
    torch.testing.assert_close(moved[0, :-1], expected, atol=0.05, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(33, 33), (32, 32), (32, 41)])
def test_statistics_are_invariant_under_flips_and_rotations(height: int, width: int) -> None:
    levels = torch.tensor([-0.2, 0.1])
    images = noise_images(2, side=64)[:, :, :height, :width].cumsum(-1) / 5
    turns = range(4) if height == width else (0, 2)
    expected = image_statistics(images, levels)
    for mirrored in (images, images.flip(-1)):
        for turn in turns:
            statistics = image_statistics(mirrored.rot90(turn, (2, 3)), levels)
            for name, numbers in expected.items():
                torch.testing.assert_close(statistics[name], numbers, atol=1e-4, rtol=1e-4)


def test_statistics_of_white_noise() -> None:
    sigma = 0.3
    images = noise_images(64, sigma=sigma, side=96)
    statistics = image_statistics(images, torch.tensor([0.0]))
    light, spectrum, noise = (
        statistics[name].mean(dim=0) for name in ("light", "spectrum", "noise")
    )
    torch.testing.assert_close(light[:N_RINGS], torch.zeros(N_RINGS), atol=0.02, rtol=0)
    expected = torch.full((N_RINGS,), math.log(sigma))
    torch.testing.assert_close(light[N_RINGS:], expected, atol=0.02, rtol=0)
    fine = torch.arange(len(FREQUENCY_EDGES) - 1) >= 2  # few waves are in the coarsest bins
    torch.testing.assert_close(
        spectrum[fine], torch.full((int(fine.sum()),), math.log(sigma)), atol=0.05, rtol=0
    )
    for fraction, rms, maximum in noise.reshape(2, 3):
        assert float(fraction.exp()) == pytest.approx(0.5, abs=0.02)
        assert float(rms.exp()) == pytest.approx(sigma, rel=0.05)
        assert 3 * sigma < float(maximum.exp()) < 6 * sigma


def test_faint_light_in_the_center_is_flagged() -> None:
    scaling = ImageScaling.fit(noise_images(100, side=48), 1)
    groups = [groups_of(scaling, noise_images(300, seed, side=48)) for seed in (1, 2)]
    detector = OODDetector.fit(scaling, *groups)
    axis = (torch.arange(48) - 23.5) / 2
    light = 2 * torch.exp(-0.5 * (axis[:, None] ** 2 + axis[None] ** 2))
    results = detector.evaluate(groups_of(scaling, noise_images(50, 4, side=48) + light))
    assert sum(result.reason == "center" for result in results) > 40


def test_statistics_of_colors_are_those_of_each_channel() -> None:
    images = noise_images(3).expand(-1, 3, -1, -1) * torch.tensor([1.0, 2.0, 3.0])[:, None, None]
    levels = brightness_levels(images)
    for name, numbers in image_statistics(images, levels).items():
        channels = [image_statistics(images[:, k : k + 1], levels)[name] for k in range(3)]
        torch.testing.assert_close(numbers, torch.cat(channels, dim=1))


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x * 1.5,
        lambda x: x + 0.5 * (torch.arange(32.0) - 16) / 8,
        lambda x: torch.nn.functional.avg_pool2d(x, 3, stride=1, padding=1),
        lambda x: torch.where(torch.arange(32) == 7, 30.0, x),
        lambda x: x * 0 + torch.arange(32.0),
    ],
    ids=["stronger", "with a gradient", "smoothed", "with a bad column", "without noise"],
)
def test_changed_noise_is_flagged(change: Callable[[Tensor], Tensor]) -> None:
    scaling = ImageScaling.fit(noise_images(100), 1)
    groups = [groups_of(scaling, noise_images(300, seed)) for seed in (1, 2, 3)]
    detector = OODDetector.fit(scaling, *groups[:2])
    unchanged = detector.evaluate(groups[2])
    assert sum(r.reason is not None for r in unchanged) <= binom.ppf(1 - 1e-4, 300, 0.02)
    changed = detector.evaluate(groups_of(scaling, change(noise_images(20, 4))))
    assert all(result.reason for result in changed)


def test_identical_images_can_be_fitted() -> None:
    flat = torch.zeros(30, 1, 16, 16)
    flat[:, :, 4:8, 4:8] = 1.0
    scaling = ImageScaling.fit(flat, 1)
    groups = scaling.groups(flat, torch.zeros(30, 5))
    detector = OODDetector.fit(scaling, groups, groups)
    assert [result.reason for result in detector.evaluate(groups)] == [None] * 30
    changed = flat.clone()
    changed[:, :, 8, 8] = 0.5
    assert all(result.reason for result in detector.detect(changed, torch.zeros(30, 5)))


def test_unit_is_checked_on_request() -> None:
    images = noise_images(300, 1)
    scaling = ImageScaling.fit(images, 1)
    groups = groups_of(scaling, images)
    detector = OODDetector.fit(scaling, groups, groups_of(scaling, noise_images(300, 2)))
    brighter = 10 * noise_images(5, 3)
    features = brighter.mean(dim=(2, 3))
    checked = detector.detect(brighter, features, check_unit=True)
    assert [result.reason for result in checked] == ["unit"] * 5
    assert "unit" not in [result.reason for result in detector.detect(brighter, features)]


def test_groups_are_features_and_statistics() -> None:
    images = noise_images(2)
    scaling = ImageScaling.fit(images, 1)
    assert set(scaling.groups(images, torch.zeros(2, 4))) == {FEATURES, *STATISTICS}
