"""What networks may be shown beside an image: what a smooth lens leaves, and the mass behind it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from halometry.datasets.readers import Image
from halometry.errors import ReadError, UsageError
from halometry.lensfit.fitter import FIT_THREADS, Fitter
from halometry.lensfit.mass_map import MassMapResult, MassMapSolver
from halometry.lensfit.observation import FitData, noise_is_known
from halometry.lensfit.parametrization import scene_values
from halometry.simulation import Preset, Scene, load_preset
from halometry.simulation.render import limited_threads

CHANNELS = ("root of the counts", "residual over noise", "mass in 0.1 % of the halo's")
MASS_UNIT = 1e-3  # share of the halo's mass, of the last of them


class MassMapper:
    """From images to what a smooth lens leaves of them and the mass that explains it.

    Args:
        preset: that the images follow.

    Raises:
        UsageError: its images cannot be fitted, or their noise is not known, or it has no
            substructure.
    """

    def __init__(self, preset: str | Path | Preset) -> None:
        self.preset = preset if isinstance(preset, Preset) else load_preset(preset)
        if not noise_is_known(self.preset.image):
            raise UsageError(
                f"preset {self.preset.name}: maps take images with Poisson noise, alone or with"
                " Gaussian noise of a known size"
            )
        self.fitter = Fitter(self.preset)
        self.solver = MassMapSolver(
            self.preset, self.fitter.parametrization, self.fitter.mean_square_mass
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(3, h, w) of what it gives."""
        return len(CHANNELS), self.solver.side, self.solver.side

    def map_image(self, image: Image) -> np.ndarray:
        """An image of counts, perhaps scaled, as the channels `CHANNELS` (3, h, w).

        Raises:
            ReadError: it holds no counts, or is not of the preset's shape.
        """
        data, optimum = self.fitter.fit_smooth(self.prepare(image))
        with torch.no_grad(), limited_threads(FIT_THREADS):
            counts = (data.values + data.offset)[None]
            return _channels(
                self.solver.solve_counts(optimum.theta[:1], counts, data.gaussian_variance)
            )[0]

    def prepare(self, image: Image) -> FitData:
        """An image as the likelihood takes it.

        Raises:
            ReadError: as `of_image`.
        """
        shape = image.pixels.shape
        if shape != self.preset.image.shape:
            wanted = format_shape(self.preset.image.shape)
            raise ReadError(
                image.path, f"is {format_shape(shape)}; to be mapped it must be {wanted}"
            )
        data = self.fitter.prepare(image)
        if data.sigma is not None:
            raise ReadError(
                image.path,
                "its pixels are no counts, nor counts that were scaled, so that its noise is not"
                " known well enough to map mass; give the counts",
            )
        return data

    def map_scenes(self, counts: Tensor, scene: Scene) -> np.ndarray:
        """Simulated images (B, H, W) as channels (B, 3, h, w), fitted from their true lenses."""
        scene = scene.to(counts.device, torch.float64)
        smooth = replace(
            scene,
            subhalo_mass=torch.zeros_like(scene.subhalo_mass),
            vortex_mass=torch.zeros_like(scene.vortex_mass),
        )
        with torch.no_grad(), limited_threads(FIT_THREADS):
            theta = self.fitter.parametrization.coordinates(scene_values(self.preset, smooth))
            extra = scene.background_rms[:, None] ** 2
            return _channels(self.solver.solve_counts(theta, counts, extra))


def _channels(imaged: MassMapResult) -> np.ndarray:
    each = [imaged.counts.clamp_min(0).sqrt(), imaged.residual, imaged.mass / MASS_UNIT]
    stacked: np.ndarray = torch.stack(each, dim=1).float().cpu().numpy()
    return stacked


def format_shape(shape: tuple[int, ...]) -> str:
    """A shape as people write it."""
    return " x ".join(map(str, shape))
