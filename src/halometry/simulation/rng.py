"""Random streams: each image has its own for each purpose."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What a random stream is for; streams of different purposes are independent."""

    SCENE = 0
    NOISE = 1
    ADDED_SUBHALO = 2  # one subhalo put into a smooth lens


def image_rng(seed: int, image: int, purpose: Purpose) -> np.random.Generator:
    """The random stream of one image for one purpose."""
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(image, int(purpose)))
    return np.random.Generator(np.random.PCG64(sequence))
