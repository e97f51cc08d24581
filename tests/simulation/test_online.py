"""Fresh images for anyone's training loop, and what the presets promise of their sets."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from torch.utils.data import DataLoader

from halometry.errors import UsageError
from halometry.simulation import OnlineImages, list_presets, load_preset, sample


def test_fresh_images_are_those_of_the_preset_without_end() -> None:
    batches = list(islice(OnlineImages("demo_classification", seed=3, batch_size=5), 3))
    images, scene = sample(load_preset("demo_classification"), 3, 0, 15)
    assert torch.equal(torch.cat([batch for batch, _ in batches]), images)
    assert torch.equal(torch.cat([labels for _, labels in batches]), scene.labels)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on one core
def test_workers_of_a_loader_share_the_batches() -> None:
    fresh = OnlineImages("demo_mass", seed=3, batch_size=4, batches=5)
    alone = [labels for _, labels in fresh]
    loader = DataLoader(fresh, batch_size=None, num_workers=2)
    shared = [labels for _, labels in loader]
    assert sorted(torch.cat(alone).tolist()) == sorted(torch.cat(shared).tolist())


def test_a_batch_has_an_image() -> None:
    with pytest.raises(UsageError, match="batch_size = 0: must be at least 1"):
        OnlineImages("demo_mass", batch_size=0)


@pytest.mark.parametrize("name", list_presets())
def test_every_preset_makes_images_with_something_in_them(name: str) -> None:
    preset = load_preset(name)
    images, scene = sample(preset, 0, 0, 3)
    assert images.shape == (3, *preset.image.shape)
    assert (images == images.round()).all()
    brightest = images.flatten(1).amax(dim=1)
    assert (brightest > 2 * images.flatten(1).median(dim=1).values + 5).all()
    assert scene.einstein_radius.min() > 0.3
