"""What is unlike familiar images: known answers of Gaussian toys, and of plain images."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import binom, kstest
from torch import Tensor

from halometry.ood.detector import FEATURES, KEPT, Cloud, Directions, Familiar, Sides, View
from halometry.ood.image_statistics import FREQUENCIES, RINGS, brightness_levels, looks

SIDES = ("features", "light", "spectrum", "noise")
LOOKS = ("light", "center", "spectrum", "noise")


def toy(count: int, seed: int, shift: float = 0.0) -> Sides:
    """Vectors of a correlated Gaussian in each side; one may be so many sigma away."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(6, 6)) * [100, 10, 1, 1, 1, 0.1]
    sides = {side: torch.from_numpy(rng.normal(size=(count, 6)) @ mixing) for side in SIDES}
    return sides | {"spectrum": sides["spectrum"] + shift * torch.from_numpy(mixing[2])}


def known_of(count: int) -> Familiar:
    view = View(torch.ones(()), torch.zeros(1), 1)
    return Familiar.of(view, toy(count, 1), toy(count, 2))


def noise_images(count: int, seed: int = 0, sigma: float = 1.0, side: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return sigma * torch.randn(count, 1, side, side, generator=generator)


def test_familiarity_is_uniform_for_images_of_the_same_kind() -> None:
    novelty = known_of(2000).judge(toy(2000, 3))
    familiarity = [one.familiarity for one in novelty]
    assert kstest(familiarity, "uniform").pvalue > 0.01
    flagged = sum(one.unusual is not None for one in novelty)
    assert binom.ppf(1e-4, 2000, 0.007) <= flagged <= binom.ppf(1 - 1e-4, 2000, 0.013)


def test_what_is_shifted_is_unusual_and_says_where() -> None:
    novelty = known_of(1000).judge(toy(200, 3, shift=15.0))
    assert [one.unusual for one in novelty] == ["spectrum"] * 200
    assert max(one.familiarity for one in novelty) == pytest.approx(1 / 1001)


def test_the_flag_is_a_familiarity_below_the_rate_and_a_strangeness_above_one() -> None:
    for count in (20, 99, 100, 777):
        known = known_of(count)
        assert known.rate == max(0.01, 1 / (count + 1))
        for one in known.judge(toy(300, 4, shift=2.5)):
            assert (one.unusual is not None) == (one.strangeness > 1)
            assert (one.unusual is not None) == (one.familiarity <= known.rate + 1e-12)


def test_distances_are_those_of_mahalanobis() -> None:
    vectors = toy(50_000, 5)["light"]
    cloud = Cloud.of(vectors)
    covariance = np.cov(vectors.numpy().T)
    away = (vectors[:20] - vectors.mean(dim=0)).numpy()
    expected = np.sqrt(np.einsum("ni,ij,nj->n", away, np.linalg.inv(covariance), away))
    np.testing.assert_allclose(cloud.distances(vectors[:20]).numpy(), expected, rtol=0.02)


def test_what_is_no_number_is_as_strange_as_can_be() -> None:
    sides = toy(3, 6)
    sides["light"][1, 0] = math.nan
    (one, other, _) = known_of(200).judge(sides)
    assert other.unusual == "light"
    assert other.familiarity == pytest.approx(1 / 201)
    assert one.familiarity > other.familiarity


def test_many_features_become_their_main_directions_and_what_is_left() -> None:
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(200, KEPT)))[0]
    features = torch.from_numpy(5 * rng.normal(size=(400, KEPT)) @ basis.T + 3)
    features += torch.from_numpy(0.01 * rng.normal(size=(400, 200)))
    directions = Directions.of(features)
    assert directions(features).shape == (400, KEPT + 1)
    outside = rng.normal(size=200)
    outside -= basis @ (basis.T @ outside)
    outside *= 7 / np.linalg.norm(outside)
    moved = directions(features[:1] + torch.from_numpy(outside))
    assert float(moved[0, -1].exp()) == pytest.approx(7, rel=0.02)
    torch.testing.assert_close(moved[0, :-1], directions(features[:1])[0, :-1], atol=0.05, rtol=0)


def test_looks_do_not_change_when_an_image_is_flipped_or_turned() -> None:
    levels = torch.tensor([-0.2, 0.1])
    for height, width in ((33, 33), (32, 32), (32, 41)):
        images = noise_images(2, side=64)[:, :, :height, :width].cumsum(-1) / 5
        turns = range(4) if height == width else (0, 2)
        forms = [form.rot90(k, (2, 3)) for form in (images, images.flip(-1)) for k in turns]
        for form in forms[1:]:
            for side, numbers in looks(images, levels).items():
                torch.testing.assert_close(looks(form, levels)[side], numbers, atol=1e-4, rtol=1e-4)


def test_white_noise_has_the_same_power_and_roughness_everywhere() -> None:
    sigma = 0.3
    images = noise_images(64, sigma=sigma, side=96)
    seen = looks(images, torch.tensor([0.0]))
    light, spectrum, noise = (seen[side].mean(dim=0) for side in ("light", "spectrum", "noise"))
    torch.testing.assert_close(light[:RINGS], torch.zeros(RINGS), atol=0.02, rtol=0)
    wanted = torch.full((RINGS,), math.log(sigma))
    torch.testing.assert_close(light[RINGS:], wanted, atol=0.02, rtol=0)
    held = torch.arange(len(FREQUENCIES) - 1) >= 2  # on 96 pixels the coarsest hold few waves
    torch.testing.assert_close(
        spectrum[held], torch.full((int(held.sum()),), math.log(sigma)), atol=0.05, rtol=0
    )
    for share, rms, extreme in noise.reshape(2, 3):
        assert float(share.exp()) == pytest.approx(0.5, abs=0.02)
        assert float(rms.exp()) == pytest.approx(sigma, rel=0.05)
        assert 3 * sigma < float(extreme.exp()) < 6 * sigma


def test_a_shining_center_is_unusual_however_faint() -> None:
    view = View.of(noise_images(100, side=48), 1)

    def sides(images: Tensor) -> Sides:
        return view.sides(images, images.mean(dim=(2, 3)))

    quiet = [sides(noise_images(300, seed, side=48)) for seed in (1, 2)]
    known = Familiar.of(view, *quiet)
    lit = noise_images(50, 4, side=48)
    at = (torch.arange(48) - 23.5) / 2
    lit = lit + 2 * torch.exp(-0.5 * (at[:, None] ** 2 + at[None] ** 2))
    assert sum(one.unusual == "center" for one in known.judge(sides(lit))) > 40


def test_what_runs_of_before_did_not_look_at_is_no_matter() -> None:
    view = View.of(noise_images(100), 1)
    full = [view.sides(noise_images(100, k), torch.zeros(100, 4)) for k in range(3)]
    old = [{side: of for side, of in one.items() if side != "center"} for one in full]
    known = Familiar.of(view, *old[:2])
    assert known.judge(full[2]) == known.judge(old[2])


def test_colors_are_described_one_by_one() -> None:
    images = noise_images(3).expand(-1, 3, -1, -1) * torch.tensor([1.0, 2.0, 3.0])[:, None, None]
    levels = brightness_levels(images)
    for side, numbers in looks(images, levels).items():
        alone = [looks(images[:, k : k + 1], levels)[side] for k in range(3)]
        torch.testing.assert_close(numbers, torch.cat(alone, dim=1))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda x: x * 1.5, None),
        (lambda x: x + 0.5 * (torch.arange(32.0) - 16) / 8, None),
        (lambda x: torch.nn.functional.avg_pool2d(x, 3, stride=1, padding=1), None),
        (lambda x: torch.where(torch.arange(32) == 7, 30.0, x), None),
        (lambda x: x * 0 + torch.arange(32.0), None),
    ],
    ids=["louder", "sloping", "smooth", "a bad column", "no noise at all"],
)
def test_changed_noise_is_unusual(change, reason) -> None:  # type: ignore[no-untyped-def]
    view = View.of(noise_images(100), 1)

    def sides(images: Tensor) -> Sides:
        return view.sides(images, images.mean(dim=(2, 3)))

    known = Familiar.of(view, sides(noise_images(300, 1)), sides(noise_images(300, 2)))
    same = known.judge(sides(noise_images(300, 3)))
    assert sum(one.unusual is not None for one in same) <= binom.ppf(1 - 1e-4, 300, 0.02)
    other = known.judge(sides(change(noise_images(20, 4))))
    assert all(one.unusual for one in other)


def test_images_without_any_scatter_can_be_learnt_from() -> None:
    flat = torch.zeros(30, 1, 16, 16)
    flat[:, :, 4:8, 4:8] = 1.0
    view = View.of(flat, 1)
    sides = view.sides(flat, torch.zeros(30, 5))
    known = Familiar.of(view, sides, sides)
    assert [one.unusual for one in known.judge(sides)] == [None] * 30
    moved = flat.clone()
    moved[:, :, 8, 8] = 0.5
    assert all(one.unusual for one in known.judge(view.sides(moved, torch.zeros(30, 5))))


def test_the_sides_are_those_that_are_told() -> None:
    images = noise_images(2)
    view = View.of(images, 1)
    assert set(view.sides(images, torch.zeros(2, 4))) == {FEATURES, *LOOKS}
