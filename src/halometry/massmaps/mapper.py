"""Mass mapper: counts, residual of a smooth lens, and mass map of an image, as network inputs."""

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
MASS_UNIT = 1e-3  # of the last channel, over the mass of the halo


class MassMapper:
    """Mapper from images to `CHANNELS`: counts, residual of a smooth lens, and mass map.

    Args:
        preset: of the images: a name, a YAML file, or a preset.

    Raises:
        UsageError: the images cannot be fitted, their noise is not known, or the preset has no
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
        """Shape of a mapped image, (3, h, w)."""
        return len(CHANNELS), self.solver.side, self.solver.side

    def map_image(self, image: Image) -> np.ndarray:
        """Fit a smooth lens to an image and return the `CHANNELS` (3, h, w).

        Args:
            image: counts, which may have been scaled.

        Raises:
            ReadError: the image holds no counts, or does not have the preset's shape.
        """
        data, optimum = self.fitter.fit_smooth(self.prepare(image))
        with torch.no_grad(), limited_threads(FIT_THREADS):
            counts = (data.values + data.offset)[None]
            theta = optimum.theta[:1]
            return _channels(self.solver.solve_counts(theta, counts, data.gaussian_variance))[0]

    def prepare(self, image: Image) -> FitData:
        """Return the data of an image.

        Raises:
            ReadError: as `map_image`.
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
        """Map simulated images, whose fits start from the true lenses.

        Args:
            counts: images (B, H, W).
            scene: of the images.

        Returns:
            The `CHANNELS` (B, 3, h, w).
        """
        scene = scene.to(counts.device, torch.float64)
        smooth = replace(
            scene,
            subhalo_mass=torch.zeros_like(scene.subhalo_mass),
            vortex_mass=torch.zeros_like(scene.vortex_mass),
        )
        with torch.no_grad(), limited_threads(FIT_THREADS):
            theta = self.fitter.parametrization.coordinates(scene_values(self.preset, smooth))
            variance = scene.background_rms[:, None] ** 2
            return _channels(self.solver.solve_counts(theta, counts, variance))


def _channels(result: MassMapResult) -> np.ndarray:
    """Return the `CHANNELS` (B, 3, h, w) of mass maps, float32."""
    channels = [result.counts.clamp_min(0).sqrt(), result.residual, result.mass / MASS_UNIT]
    stacked: np.ndarray = torch.stack(channels, dim=1).float().cpu().numpy()
    return stacked


def format_shape(shape: tuple[int, ...]) -> str:
    """Format a shape for messages.

    Example:
        >>> format_shape((3, 150, 150))
        '3 x 150 x 150'
    """
    return " x ".join(map(str, shape))
