"""Attribution maps of a run's predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from halometry.attribution.figure import maps_figure
from halometry.attribution.maps import METHODS, Method, attribution_maps, import_captum
from halometry.datasets.dataset import LabeledImages
from halometry.errors import HalometryError, RunError
from halometry.lensfit.likelihood import with_larger_pixels
from halometry.lensfit.mass_map import map_grid
from halometry.massmaps.pool import preset_from_yaml
from halometry.models.predictor import Predictor
from halometry.models.preprocessing import Limits, pixel_limits
from halometry.parallel import find_device
from halometry.plotting import shorten
from halometry.runs.ensemble import Ensemble
from halometry.runs.open import AnyRun
from halometry.runs.run import Run
from halometry.runs.training_data import preset_of_run
from halometry.simulation import Preset, Scene, draw_scenes
from halometry.simulation.render import convolve_gaussian, convolve_psf
from halometry.simulation.substructure_maps import substructure_map

DEFAULT_WIDTH = 1.0  # of the smoothing of a map if the PSF is unknown, pixels


@dataclass(frozen=True)
class Attribution:
    """Attribution map of the prediction for one image.

    Attributes:
        name: of the image.
        prediction: class and probability, or mass fraction, as text.
        image: mean over channels (H, W); for mass-map inputs the square root of the counts.
        map: positive contribution of each pixel to the prediction (H, W), smoothed with the PSF.
        substructure: convergence of the true substructure (H, W); None if it is unknown.
    """

    name: str
    prediction: str
    image: np.ndarray
    map: np.ndarray
    substructure: np.ndarray | None = None

    @property
    def peak(self) -> tuple[int, int]:
        """Row and column of the map's maximum."""
        row, column = np.unravel_index(self.map.argmax(), self.map.shape)
        return int(row), int(column)


class Explainer:
    """Compute attribution maps of a run's predictions.

    Args:
        run: the run.
        preset: preset of the images, for their PSF and scenes; None if it is unknown. For
            mass-map inputs the preset of the images from which the maps are computed.
        method: see `attribution_maps`.
        device: `auto`, `cpu`, or a PyTorch device.

    Raises:
        UnavailableError: captum is not installed.
        RunError: the run is an exported file, which has no gradients.
    """

    def __init__(self, run: AnyRun, preset: Preset | None, method: Method, device: str) -> None:
        import_captum()
        if preset is not None and run.config.data.mass_map_preset is not None:
            binning = map_grid(preset_from_yaml(run.config.data.mass_map_preset))[1]
            preset = _at_map_resolution(preset, binning)
        self.run, self.preset, self.method = run, preset, method
        self.device = find_device(device)
        self.predictors = _load_predictors(run, self.device)

    def explain(self, name: str, pixels: np.ndarray, scene: Scene | None = None) -> Attribution:
        """Explain the prediction for one image.

        Args:
            name: of the image.
            pixels: raw (c, H, W).
            scene: its scene (1), if it is known.
        """
        raw = torch.tensor(pixels, dtype=torch.float32, device=self.device)
        predict = partial(self.predict, limits=pixel_limits(raw[None]))
        with torch.no_grad():
            prediction = predict(raw[None])[0].cpu().numpy()
        map_ = attribution_maps(predict, raw[None], self.method)[:, None].cpu()
        preset = self.preset
        if preset is not None and pixels.shape[1:] != preset.image.shape[1:]:
            preset = None
        substructure = None
        if preset is not None and scene is not None:
            substructure = substructure_map(scene, preset)[0].numpy()
        if preset is None:
            smooth = convolve_gaussian(map_, DEFAULT_WIDTH)
        else:
            smooth = convolve_psf(map_, preset.image)
        positive = smooth[0, 0].clamp_min(0).numpy()
        image = pixels[0] if self.run.config.data.mass_map_preset else pixels.mean(axis=0)
        return Attribution(name, self._format(prediction), image, positive, substructure)

    def predict(self, raw: Tensor, limits: Limits | None = None) -> Tensor:
        """Predict raw images: probabilities (B, K) or mass fractions (B,).

        Args:
            raw: (B, c, H, W).
            limits: limits of min-max scaling, see `Preprocessing.forward`.
        """
        predictions = [
            predictor.point_predictions(predictor(raw, limits)) for predictor in self.predictors
        ]
        return torch.stack(predictions).mean(dim=0)

    def _format(self, prediction: np.ndarray) -> str:
        if names := self.run.config.class_names:
            return f"{names[int(prediction.argmax())]} {prediction.max():.0%}"
        return f"f_sub {prediction:.3f}"


def _load_predictors(run: AnyRun, device: str) -> list[Predictor]:
    """The predictors of a run, or of all members of an ensemble, with constant weights."""
    predictors = []
    for member in run.members if isinstance(run, Ensemble) else (run,):
        if not isinstance(member, Run):
            raise RunError(
                f"{member.source}: an exported file has no gradients; give the run folder"
            )
        predictors.append(member.predictor(device).requires_grad_(False))
    return predictors


def _at_map_resolution(preset: Preset, binning: int) -> Preset:
    """A preset with the pixels of its mass maps; a PSF kernel with smaller pixels is removed."""
    if binning > 1 and preset.image.kernel is not None:
        preset = preset.model_copy(update={"image": preset.image.model_copy(update={"psf": None})})
    return with_larger_pixels(preset, binning, 1)


def preset_or_none(run: AnyRun) -> Preset | None:
    """Return the preset of a run's training images, or None if it is unknown."""
    try:
        return preset_of_run(run)
    except HalometryError:
        return None


def explain_rows(
    run: AnyRun, data: LabeledImages, rows: Sequence[int], device: str = "auto"
) -> list[Attribution]:
    """Explain the predictions for some images of a labeled dataset.

    Raises:
        UnavailableError: captum is not installed.
        RunError: the run is an exported file, which has no gradients.
    """
    training_data, preset = run.config.data, preset_or_none(run)
    explainer = Explainer(run, preset, METHODS[0], device)
    seed = training_data.seed if training_data.shares_images_with(data) else None
    attributions = []
    for row in rows:
        scene = None
        if preset is not None and seed is not None:
            scene = draw_scenes(preset, seed, int(row), 1)
        pixels = np.asarray(data.images[np.array([row])])[0]
        attributions.append(explainer.explain(data.names[row], pixels, scene))
    return attributions


def attribution_figure(attributions: Sequence[Attribution]) -> Figure:
    """Images above their maps, with contours of the true substructure."""
    known = [each.substructure for each in attributions if each.substructure is not None]
    return maps_figure(
        [each.image for each in attributions],
        [each.map for each in attributions],
        [f"{shorten(Path(each.name).name)}\npredicted: {each.prediction}" for each in attributions],
        known if len(known) == len(attributions) else None,
    )
