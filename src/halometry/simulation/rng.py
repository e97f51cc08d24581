"""Random number generators of the images.

Image k of a preset and seed has one generator for each purpose, so that it does not depend on the
batch, on the number of processes or on other images.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """Purpose of a random stream; streams of different purposes are independent.

    Attributes:
        SCENE: the parameters of the lens, the source and the substructure.
        NOISE: the noise of the image.
        ADDED_SUBHALO: one subhalo that is added to a smooth lens.
    """

    SCENE = 0
    NOISE = 1
    ADDED_SUBHALO = 2


def image_rng(seed: int, image: int, purpose: Purpose) -> np.random.Generator:
    """Return the random number generator of one image for one purpose.

    Args:
        seed: seed of the dataset.
        image: number of the image, from 0.
        purpose: what is drawn.
    """
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(image, int(purpose)))
    return np.random.Generator(np.random.PCG64(sequence))
