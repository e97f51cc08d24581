"""Images that training makes for itself, and what else the simulator knows of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from halometry.datasets.dataset import LabeledImages, has_parameters
from halometry.datasets.store import open_store
from halometry.runs.recipe import Recipe
from halometry.simulation import Preset
from halometry.simulation.render import sample_fast
from halometry.simulation.rng import CURRICULUM_ENTROPY
from halometry.simulation.substructure_maps import substructure_mass

KNOWN = (  # parameters that say where the mass is
    *("halo_mass", "subhalo_mass", "subhalo_x", "subhalo_y"),
    *("vortex_mass", "vortex_length", "vortex_angle", "vortex_x", "vortex_y"),
)


@dataclass(frozen=True)
class Curriculum:
    """Images of a preset that nobody has seen, step by step, heavy substructure first.

    Args:
        preset: of the set that is trained on.
        seed: of the images.
        count: images a step.
        heaviest: how many times as heavy substructure is in the first step.
        fading: step from which on it has its own mass.
        device: where they are made.
    """

    preset: Preset
    seed: int
    count: int
    heaviest: float
    fading: int
    device: str

    def weight(self, step: int) -> float:
        """How many times as heavy substructure is in a step."""
        return float(self.heaviest ** max(0.0, 1 - step / self.fading))

    def images(
        self, step: int, first: int = 0, count: int | None = None
    ) -> tuple[Tensor, Tensor, dict[str, np.ndarray]]:
        """Counts (n, 1, H, W), labels (n,) and the scenes' parameters of `count` of a step's."""
        count = self.count if count is None else count
        scale = self.preset.mass_scale * self.weight(step)
        preset = self.preset.model_copy(update={"mass_scale": scale})
        images, scene = sample_fast(
            preset, self.seed, step * self.count + first, count, self.device
        )
        return images, scene.labels.to(self.device), scene.parameters()

    def maps(self, parameters: dict[str, np.ndarray], cells: Sequence[int]) -> Tensor:
        """Where the mass in substructure is (n, h, w), as `mass_maps` has it."""
        return _maps(self.preset, parameters, cells)


def curriculum(
    data: LabeledImages,
    preset: Preset | None,
    recipe: Recipe,
    steps: int,
    batch: int,
    seed: int,
    device: str,
) -> Curriculum | None:
    """The fresh images that a recipe wants, or None where it wants none or none can be made.

    Args:
        data: the set that is trained on.
        preset: it was simulated from, if it was.
        recipe: of the run.
        steps: of the run.
        batch: images a step.
        seed: of the run.
        device: where images are made.
    """
    count = round(recipe.online_fraction * batch)
    if count == 0 or preset is None or preset.halos is not None:  # halos take seconds an image
        return None
    if "mass_map_preset" in data.attributes:  # to map images takes longer than to learn from them
        return None
    # A stream of its own: the set's seed would make the images that are kept for the test.
    kinds = [int(data.attributes.get("seed", 0)), seed, CURRICULUM_ENTROPY]
    own = int(np.random.SeedSequence(kinds).generate_state(1)[0])
    fading = max(1, round(recipe.curriculum_fraction * steps))
    return Curriculum(preset, own, count, recipe.curriculum_mass_factor, fading, device)


def has_mass(data: LabeledImages) -> bool:
    """Whether a set says where the mass in substructure is in its images."""
    return has_parameters(data, KNOWN)


def mass_maps(data: LabeledImages, preset: Preset, cells: Sequence[int]) -> Tensor:
    """Where the mass in substructure is in each image of a set that `has_mass`.

    Args:
        data: the set, of N images.
        preset: it was simulated from.
        cells: rows h and columns w of the maps.

    Returns:
        (N, h, w), shares of the halo's mass.
    """
    with open_store(data.source) as file:
        return _maps(preset, {name: file["parameters"][name][: len(data)] for name in KNOWN}, cells)


def _maps(preset: Preset, parameters: dict[str, np.ndarray], cells: Sequence[int]) -> Tensor:
    rows, columns = cells
    side = preset.image.pixels * preset.image.pixel_scale
    return torch.from_numpy(substructure_mass(parameters, side, (rows, columns)))
