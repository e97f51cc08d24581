"""`OnlineImages`: simulated images for any training loop."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from torch.utils.data import DataLoader

from halometry.errors import UsageError
from halometry.simulation import OnlineImages, load_preset, sample


def test_online_images_are_those_of_the_preset_without_end() -> None:
    batches = list(islice(OnlineImages("demo_classification", seed=3, batch_size=5), 3))
    images, scene = sample(load_preset("demo_classification"), 3, 0, 15)
    assert torch.equal(torch.cat([batch for batch, _ in batches]), images)
    assert torch.equal(torch.cat([labels for _, labels in batches]), scene.labels)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on one core
def test_data_loader_workers_share_the_batches() -> None:
    dataset = OnlineImages("demo_mass", seed=3, batch_size=4, batches=5)
    serial = [labels for _, labels in dataset]
    loader = DataLoader(dataset, batch_size=None, num_workers=2)
    parallel = [labels for _, labels in loader]
    assert sorted(torch.cat(serial).tolist()) == sorted(torch.cat(parallel).tolist())


def test_batch_size_zero_is_refused() -> None:
    with pytest.raises(UsageError, match="batch_size = 0: must be at least 1"):
        OnlineImages("demo_mass", batch_size=0)
