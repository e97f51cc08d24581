"""Offsets of seeds and constants of random streams, all in one place.

Images for an evaluation are simulated with the user's seed plus an offset of at least
`MIN_SEED_OFFSET`. They share no image with a training set as long as the seeds of training sets are
below `MIN_SEED_OFFSET`. Changing a constant of this module changes published numbers.
"""

from __future__ import annotations

# Added to the user's seed: images of an evaluation are not those of a training set with this seed.
MIN_SEED_OFFSET = 1_000_000
DEMO_SEED_OFFSET = 1_000_000
ROBUSTNESS_SEED_OFFSET = 1_000_000  # as the demo's: both evaluate shipped weights, separately
ATTRIBUTION_SEED_OFFSET = 2_000_000
SENSITIVITY_SEED_OFFSET = 3_000_000

# Part of the entropy of a random stream: streams of one seed for different uses are independent.
CURRICULUM_ENTROPY = 0xF2E54  # seed of images simulated during training
SPLIT_ENTROPY = 0x5E1EC7  # split of a dataset into training, validation, calibration and test set
CALIBRATION_ENTROPY = 0xCA1B  # halves of a dataset for temperature and for conformal scores
OOD_ENTROPY = 0xFA311  # images to which an OOD detector is fitted
