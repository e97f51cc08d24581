"""Smooth lenses, one subhalo in each, the noise of both, and what a network says of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from halometry.attribution.maps import log_odds
from halometry.lensfit.fitter import without_substructure
from halometry.lensfit.likelihood import Model
from halometry.lensfit.parametrization import build_parametrization, scene_values
from halometry.runs.run import Answerer
from halometry.simulation import Preset, Scene, draw_scenes, observe, render
from halometry.simulation.distributions import Quantity
from halometry.simulation.rng import Purpose, image_rng
from halometry.simulation.subhalos import draw_subhalos


@dataclass(frozen=True)
class SmoothLenses:
    """Lenses without substructure, and what an image of each tells of its parameters.

    Attributes:
        preset: that they were drawn from.
        scene: B lenses, float64.
        expected: counts of their images (B, N).
        extra: variance of the Gaussian noise (B, 1), counts squared.
        derivatives: of the images by all that varies in the preset, as `fit` parametrizes it, in
            units of the noise (B, P, N).
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
        """Lenses `start` to `start + count` of a preset and seed."""
        scene = smooth_scenes(preset, seed, start, count, device)
        layout = build_parametrization(preset, scene.rows(slice(0, 1)))
        theta = layout.coordinates(scene_values(preset, scene))
        expected, derivatives = Model(preset, layout).linearized(theta)
        extra = scene.background_rms[:, None] ** 2
        noise = (expected + extra).sqrt()
        return cls(preset, scene, expected, extra, derivatives / noise[:, None])

    def normalized_differences(self, lumpy: Tensor) -> Tensor:
        """How other images (..., B, N) differ from these, in units of the noise."""
        return (lumpy - self.expected) / (self.expected + self.gaussian_variance).sqrt()


def smooth_scenes(preset: Preset, seed: int, start: int, count: int, device: str) -> Scene:
    """The scenes of images `start` to `start + count` without their substructure, float64."""
    scene = draw_scenes(without_substructure(preset), seed, start, count)
    return scene.to(device, torch.float64)


def add_subhalo(scene: Scene, preset: Preset, mass: float, seed: int, start: int) -> Scene:
    """One subhalo in each lens, where and as concentrated as the preset draws them.

    Args:
        scene: B lenses without substructure.
        preset: with `subhalos`.
        mass: solar masses; of a truncated halo, M200 before it is truncated.
        seed, start: lens k's subhalo follows from (seed, start + k), whatever its mass.
    """
    assert preset.subhalos is not None
    law = preset.subhalos.model_copy(
        update={
            "number": Quantity(value=1.0),
            "mass": Quantity(value=mass / preset.mass_scale, unit="Msun"),
        }
    )
    single = preset.model_copy(update={"subhalos": law})
    redshifts = zip(scene.z_lens.tolist(), scene.z_source.tolist(), strict=True)
    drawn = [
        draw_subhalos(single, *pair, image_rng(seed, start + k, Purpose.ADDED_SUBHALO)).columns()
        for k, pair in enumerate(redshifts)
    ]
    columns: dict[str, Any] = {
        name: torch.from_numpy(np.array([one[name][:1] for one in drawn])).to(scene.einstein_radius)
        for name in drawn[0]
    }
    return replace(scene, f_sub=columns["subhalo_mass"][:, 0] / scene.halo_mass, **columns)


def move_subhalo(scene: Scene, x: Tensor, y: Tensor) -> Scene:
    """The same with the one subhalo at x and y (n,), arcsec: of each lens, or of one n times."""
    if len(scene) == 1:
        scene = scene.rows(torch.zeros(len(x), dtype=torch.long, device=x.device))
    return replace(scene, subhalo_x=x[:, None], subhalo_y=y[:, None])


def move_to_ring(scene: Scene) -> Scene:
    """The same with each lens's one subhalo at the Einstein radius, in its own direction."""
    angle = torch.atan2(scene.subhalo_y[:, 0], scene.subhalo_x[:, 0])
    radius = scene.einstein_radius
    return move_subhalo(scene, radius * torch.cos(angle), radius * torch.sin(angle))


def grid_positions(preset: Preset, side: int) -> tuple[Tensor, Tensor]:
    """x and y (n,), arcsec, on a grid over the circle in which the preset draws subhalos.

    Args:
        preset: with `subhalos`.
        side: places along the grid's side.
    """
    assert preset.subhalos is not None
    reach = preset.subhalos.radius.support[1]
    axis = torch.linspace(-reach, reach, side, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    inside = torch.hypot(x, y) <= reach * (1 + 1e-9)
    return x[inside], y[inside]


def expected_counts(scene: Scene, preset: Preset) -> Tensor:
    """Expected counts (B, N) of a scene's images."""
    return render(scene, preset).flatten(1)


@dataclass(frozen=True)
class Detector:
    """A trained network that is asked whether there is substructure.

    Its score is the logarithm of the odds against the class without any: whether it takes one
    subhalo for many or for a line is another question.

    Attributes:
        answerer: images to probabilities.
        smooth: position of the class without substructure.
        preset: of the images.
        seed: of their noise.
    """

    predict_fn: Answerer
    smooth_class: int
    preset: Preset
    seed: int

    def scores(self, expected: Tensor, background: Tensor, start: int) -> np.ndarray:
        """Scores (B,) of images of expectations (B, N) with the noise of numbers from `start`."""
        side = self.preset.image.shape
        counts = observe(expected.view(-1, *side), self.preset, self.seed, start, background.cpu())
        answers = self.predict_fn(counts.cpu().numpy()).astype(np.float64)
        odds: np.ndarray = -log_odds(torch.from_numpy(answers))[:, self.smooth_class].numpy()
        return odds
