"""Smooth lenses, lenses with one subhalo, and the scores of a network for their noisy images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from halometry.attribution.maps import log_odds
from halometry.lensfit.likelihood import Model
from halometry.lensfit.parametrization import build_parametrization, scene_values
from halometry.lensfit.substructure import without_substructure
from halometry.runs.run import PredictFn
from halometry.simulation import Preset, Scene, draw_scenes, observe, render
from halometry.simulation.distributions import Quantity
from halometry.simulation.rng import Purpose, image_rng
from halometry.simulation.subhalos import draw_subhalos


@dataclass(frozen=True)
class SmoothLenses:
    """Lenses without substructure, their expected images, and derivatives of these.

    Attributes:
        preset: preset of the lenses.
        scene: B lenses, float64.
        expected: expected counts of their images (B, N).
        gaussian_variance: variance of the Gaussian noise (B, 1), counts squared.
        derivatives: of the images by all free parameters of the preset, as `fit` parametrizes
            them, in units of the noise (B, P, N).
    """

    preset: Preset
    scene: Scene
    expected: Tensor
    gaussian_variance: Tensor
    derivatives: Tensor

    @classmethod
    def draw(
        cls, preset: Preset, seed: int, start: int, count: int, device: str = "cpu"
    ) -> SmoothLenses:
        """Draw lenses `start` to `start + count` of a preset and seed."""
        scene = smooth_scenes(preset, seed, start, count, device)
        layout = build_parametrization(preset, scene.rows(slice(0, 1)))
        theta = layout.coordinates(scene_values(preset, scene))
        expected, derivatives = Model(preset, layout).linearized(theta)
        gaussian_variance = scene.background_rms[:, None] ** 2
        noise = (expected + gaussian_variance).sqrt()
        return cls(preset, scene, expected, gaussian_variance, derivatives / noise[:, None])

    def normalized_differences(self, perturbed: Tensor) -> Tensor:
        """Differences between other images (..., B, N) and these, in units of the noise."""
        return (perturbed - self.expected) / (self.expected + self.gaussian_variance).sqrt()


def smooth_scenes(preset: Preset, seed: int, start: int, count: int, device: str) -> Scene:
    """Draw the scenes of images `start` to `start + count` without substructure, in float64."""
    scene = draw_scenes(without_substructure(preset), seed, start, count)
    return scene.to(device, torch.float64)


def add_subhalo(scene: Scene, preset: Preset, mass: float, seed: int, start: int) -> Scene:
    """Add one subhalo to each lens, with the preset's distributions of position and profile.

    Args:
        scene: B lenses without substructure.
        preset: a preset with `subhalos`.
        mass: solar masses; for truncated halos M200 before the truncation.
        seed, start: the position in lens k depends on (seed, start + k), not on the mass.
    """
    assert preset.subhalos is not None
    one_subhalo = preset.subhalos.model_copy(
        update={
            "number": Quantity(value=1.0),
            "mass": Quantity(value=mass / preset.mass_scale, unit="Msun"),
        }
    )
    single = preset.model_copy(update={"subhalos": one_subhalo})
    redshifts = zip(scene.z_lens.tolist(), scene.z_source.tolist(), strict=True)
    drawn = [
        draw_subhalos(single, *pair, image_rng(seed, start + k, Purpose.ADDED_SUBHALO)).columns()
        for k, pair in enumerate(redshifts)
    ]
    columns: dict[str, Any] = {
        name: torch.from_numpy(np.array([each[name][:1] for each in drawn])).to(
            scene.einstein_radius
        )
        for name in drawn[0]
    }
    return replace(scene, f_sub=columns["subhalo_mass"][:, 0] / scene.halo_mass, **columns)


def move_subhalo(scene: Scene, x: Tensor, y: Tensor) -> Scene:
    """Move the subhalo of each lens, or that of a single lens n times, to x and y (n,), arcsec."""
    if len(scene) == 1:
        scene = scene.rows(torch.zeros(len(x), dtype=torch.long, device=x.device))
    return replace(scene, subhalo_x=x[:, None], subhalo_y=y[:, None])


def move_to_ring(scene: Scene) -> Scene:
    """Move the subhalo of each lens to the Einstein radius, in the same direction."""
    angle = torch.atan2(scene.subhalo_y[:, 0], scene.subhalo_x[:, 0])
    radius = scene.einstein_radius
    return move_subhalo(scene, radius * torch.cos(angle), radius * torch.sin(angle))


def grid_positions(preset: Preset, side: int) -> tuple[Tensor, Tensor]:
    """Return x and y (n,), arcsec, of a grid over the circle that contains the preset's subhalos.

    Args:
        preset: a preset with `subhalos`.
        side: positions along a side of the grid.
    """
    assert preset.subhalos is not None
    reach = preset.subhalos.radius.support[1]
    axis = torch.linspace(-reach, reach, side, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    is_inside = torch.hypot(x, y) <= reach * (1 + 1e-9)
    return x[is_inside], y[is_inside]


def expected_counts(scene: Scene, preset: Preset) -> Tensor:
    """Render the expected counts (B, N) of a scene's images."""
    return render(scene, preset).flatten(1)


@dataclass(frozen=True)
class Detector:
    """A classifier as a detector of substructure, with simulated images of a preset.

    The score of an image is the log odds against the class without substructure. It does not
    matter which class of substructure the network predicts.

    Attributes:
        predict_fn: images to probabilities.
        smooth_class: index of the class without substructure.
        preset: of the lenses.
        seed: of the lenses and of their noise.
        false_positives: false-positive rate, the fraction of smooth lenses that is detected.
        device: on which images are rendered.
    """

    predict_fn: PredictFn
    smooth_class: int
    preset: Preset
    seed: int
    false_positives: float
    device: str = "cpu"

    def scores(self, expected: Tensor, background: Tensor, start: int) -> np.ndarray:
        """Scores (B,) of noisy images.

        Args:
            expected: expected counts (B, N).
            background: standard deviation of the Gaussian noise (B,), counts.
            start: number of the first image's noise.
        """
        shape = self.preset.image.shape
        counts = observe(expected.view(-1, *shape), self.preset, self.seed, start, background.cpu())
        probabilities = self.predict_fn(counts.cpu().numpy()).astype(np.float64)
        odds = log_odds(torch.from_numpy(probabilities))
        scores: np.ndarray = -odds[:, self.smooth_class].numpy()
        return scores

    def draw_lenses(self, start: int, count: int) -> SmoothLenses:
        """Draw smooth lenses `start` to `start + count`."""
        return SmoothLenses.draw(self.preset, self.seed, start, count, self.device)
