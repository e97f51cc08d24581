"""Commands that simulate images for an evaluation use other seeds than a training set.

The same test for the demo is in `test_demo.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from halometry import seeds
from halometry.attribution.command import explain_predictions
from halometry.robustness.command import measure_robustness
from halometry.sensitivity.command import measure_sensitivity
from halometry.simulation import rng

PRESET = "demo_classification"
SEED = 1  # also that of the training sets of `published`


@pytest.fixture
def image_seeds(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Seeds of all images that are drawn or made noisy from now on."""
    seeds: set[int] = set()

    def recorded(seed: int, image: int, purpose: rng.Purpose) -> np.random.Generator:
        seeds.add(seed)
        return rng.image_rng(seed, image, purpose)

    for module in ("simulation.sampling", "simulation.noise", "sensitivity.lenses"):
        monkeypatch.setattr(f"halometry.{module}.image_rng", recorded)
    return seeds


COMMANDS: dict[str, Callable[[Path], object]] = {
    "ROBUSTNESS_SEED_OFFSET": lambda run: measure_robustness(
        run, count=30, shifts=["sky"], seed=SEED, resamples=10
    ),
    "ATTRIBUTION_SEED_OFFSET": lambda run: explain_predictions(
        run, count=12, seed=SEED, method="saliency"
    ),
    "SENSITIVITY_SEED_OFFSET": lambda run: measure_sensitivity(
        run, count=2, seed=SEED, false_positives=0.4, grid=3
    ),
}


@pytest.mark.parametrize("offset", list(COMMANDS))
def test_command_simulates_images_with_its_seed_offset(
    published: Path, image_seeds: set[int], offset: str
) -> None:
    run = published / "runs" / PRESET
    assert not image_seeds
    COMMANDS[offset](run)
    assert image_seeds == {SEED + getattr(seeds, offset)}
