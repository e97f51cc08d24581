"""Curriculum of images that are simulated during training, and maps of their substructure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from halometry.datasets.dataset import LabeledImages, has_parameters
from halometry.datasets.store import open_store
from halometry.runs.recipe import Recipe
from halometry.seeds import CURRICULUM_ENTROPY
from halometry.simulation import Preset, draw_scenes
from halometry.simulation.render import sample_fast
from halometry.simulation.substructure_maps import substructure_mass

EXAMPLE_SCENES = 1024  # whose mass maps standardize the target of the auxiliary loss

POSITION_PARAMETERS = (  # parameters of a scene that say where the mass in substructure is
    *("halo_mass", "subhalo_mass", "subhalo_x", "subhalo_y"),
    *("vortex_mass", "vortex_length", "vortex_angle", "vortex_x", "vortex_y"),
)


@dataclass(frozen=True)
class Curriculum:
    """Online simulation of training images, whose substructure is heavier at first.

    The mass factor falls geometrically from `mass_factor` to one over the first `n_steps` steps.

    Attributes:
        preset: that the training images follow.
        seed: of the simulated images.
        images_per_step: number of simulated images.
        mass_factor: factor of the substructure's mass in the first step.
        n_steps: steps after which the mass is the preset's own.
        device: where images are simulated.
    """

    preset: Preset
    seed: int
    images_per_step: int
    mass_factor: float
    n_steps: int
    device: str

    def mass_factor_at(self, step: int) -> float:
        """Factor of the substructure's mass in a step."""
        return float(self.mass_factor ** max(0.0, 1 - step / self.n_steps))

    def simulate(
        self, step: int, first: int = 0, count: int | None = None
    ) -> tuple[Tensor, Tensor, dict[str, np.ndarray]]:
        """Simulate images of a step.

        Args:
            step: of the training.
            first: index of the first image among the step's.
            count: number n of images; None for all.

        Returns:
            Counts (n, 1, H, W), labels (n,), and the parameters of the scenes.
        """
        count = self.images_per_step if count is None else count
        scale = self.preset.mass_scale * self.mass_factor_at(step)
        preset = self.preset.model_copy(update={"mass_scale": scale})
        images, scene = sample_fast(
            preset, self.seed, step * self.images_per_step + first, count, self.device
        )
        return images, scene.labels.to(self.device), scene.parameters()

    def mass_maps(self, parameters: dict[str, np.ndarray], shape: Sequence[int]) -> Tensor:
        """Maps (n, h, w) of the mass in substructure of simulated scenes, see `load_mass_maps`."""
        return _mass_maps(self.preset, parameters, shape)

    def example_mass_maps(self, shape: Sequence[int]) -> Tensor:
        """Maps (n, h, w) of some scenes of the preset, without the mass factor."""
        scene = draw_scenes(self.preset, self.seed, 0, EXAMPLE_SCENES)
        return self.mass_maps(scene.parameters(), shape)


def create_curriculum(
    data: LabeledImages,
    preset: Preset | None,
    recipe: Recipe,
    *,
    steps: int,
    batch_size: int,
    seed: int,
    device: str,
) -> Curriculum | None:
    """Create the curriculum of a run; None if the recipe wants none or none is possible.

    Images that follow no known preset, presets with halos (which take seconds an image) and
    mass-mapped sets have no online simulation.

    Args:
        data: the training set.
        preset: that its images follow, see `preset_from_dataset`; or None.
        recipe: of the run.
        steps: of the run.
        batch_size: images a step.
        seed: of the run.
        device: where images are simulated.
    """
    count = round(recipe.online_fraction * batch_size)
    if count == 0 or preset is None or preset.halos is not None:
        return None
    if "mass_map_preset" in data.attributes:
        return None
    # The stream differs from the set's own, which contains the test images.
    entropy = [int(data.attributes.get("seed", 0)), seed, CURRICULUM_ENTROPY]
    return Curriculum(
        preset=preset,
        seed=int(np.random.SeedSequence(entropy).generate_state(1)[0]),
        images_per_step=count,
        mass_factor=recipe.curriculum_mass_factor,
        n_steps=max(1, round(recipe.curriculum_fraction * steps)),
        device=device,
    )


def has_substructure_parameters(data: LabeledImages) -> bool:
    """Whether a set stores where the mass in substructure is in its images."""
    return has_parameters(data, POSITION_PARAMETERS)


def load_mass_maps(data: LabeledImages, preset: Preset, shape: Sequence[int]) -> Tensor:
    """Compute maps of the mass in substructure of the images of a set.

    Args:
        data: a set of N images with `has_substructure_parameters`.
        preset: from which the set was simulated.
        shape: rows h and columns w of the maps.

    Returns:
        (N, h, w), fractions of the halo's mass.
    """
    with open_store(data.source) as file:
        stored = file["parameters"]
        parameters = {name: stored[name][: len(data)] for name in POSITION_PARAMETERS}
    return _mass_maps(preset, parameters, shape)


def unknown_mass_maps(count: int, shape: Sequence[int], device: str) -> Tensor:
    """Return maps (count, h, w) for images whose substructure is not known: NaN, in no memory."""
    return torch.full((), torch.nan, device=device).expand(count, *shape)


def _mass_maps(preset: Preset, parameters: dict[str, np.ndarray], shape: Sequence[int]) -> Tensor:
    rows, columns = shape
    side = preset.image.pixels * preset.image.pixel_scale
    return torch.from_numpy(substructure_mass(parameters, side, (rows, columns)))
