"""A trained run, and a way to ask it what its answers rest on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
from halometry.models.preprocessing import extremes
from halometry.parallel import find_device
from halometry.plotting import shorten
from halometry.runs.ensemble import Ensemble
from halometry.runs.open import AnyRun
from halometry.runs.run import Run
from halometry.runs.training_data import preset_of_run
from halometry.simulation import Preset, Scene, draw_scenes
from halometry.simulation.render import convolve_gaussian, convolve_psf
from halometry.simulation.substructure_maps import substructure_map


@dataclass(frozen=True)
class Attribution:
    """An image, and what an answer for it rests on.

    Attributes:
        name: of the image.
        said: the answer.
        image: (H, W), the mean over channels; of maps the root of the counts.
        map: by how much each pixel speaks for the answer (H, W), seen through the preset's point
            spread function; nothing speaks against it.
        truth: what the substructure adds to the convergence (H, W), where that is known.
    """

    name: str
    prediction: str
    image: np.ndarray
    map: np.ndarray
    truth: np.ndarray | None = None

    @property
    def peak(self) -> tuple[int, int]:
        """Row and column of the map's maximum."""
        row, column = np.unravel_index(self.map.argmax(), self.map.shape)
        return int(row), int(column)


class Explainer:
    """A run, and a way to ask it what its answers rest on.

    Args:
        run: the run.
        preset: of the images, for their point spread function and scenes; None where unknown. Of
            maps the images' that they are made of.
        method: see `attribution_maps`.
        device: `auto`, `cpu`, or as PyTorch names it.

    Raises:
        UnavailableError: captum is not installed.
        RunError: an exported file, which has no gradients.
    """

    def __init__(self, run: AnyRun, preset: Preset | None, method: Method, device: str) -> None:
        import_captum()
        if preset is not None and run.config.data.mass_map_preset is not None:
            preset = _as_its_maps(
                preset, map_grid(preset_from_yaml(run.config.data.mass_map_preset))[1]
            )
        self.run, self.preset, self.method = run, preset, method
        self.device = find_device(device)
        self.predictors = _predictors(run, self.device)

    def explain(self, name: str, pixels: np.ndarray, scene: Scene | None = None) -> Attribution:
        """Explain the answer for one image (c, H, W), of a scene (1) if that is known."""
        raw = torch.tensor(pixels, dtype=torch.float32, device=self.device)
        for one in self.predictors:
            one.preprocessing.limits = extremes(raw[None])
        with torch.no_grad():
            said = self.predict(raw[None])[0].cpu().numpy()
        map_ = attribution_maps(self.predict, raw[None], self.method)[:, None].cpu()
        same = self.preset is not None and pixels.shape[1:] == self.preset.image.shape[1:]
        smooth = (
            convolve_psf(map_, self.preset.image)
            if self.preset and same
            else convolve_gaussian(map_, 1.0)
        )
        truth = None
        if self.preset is not None and same and scene is not None:
            truth = substructure_map(scene, self.preset)[0].numpy()
        positive = smooth[0, 0].clamp_min(0).numpy()
        picture = pixels[0] if self.run.config.data.mass_map_preset else pixels.mean(axis=0)
        return Attribution(name, self._told(said), picture, positive, truth)

    def predict(self, raw: Tensor) -> Tensor:
        """Raw images (B, c, H, W) to the run's answers, masses as points."""
        answers = [one.points(one(raw)) for one in self.predictors]
        return torch.stack(answers).mean(dim=0)

    def _told(self, said: np.ndarray) -> str:
        names = self.run.config.class_names
        return f"{names[int(said.argmax())]} {said.max():.0%}" if names else f"f_sub {said:.3f}"


def _predictors(run: AnyRun, device: str) -> list[Predictor]:
    """What a run answers with, without its own gradients."""
    predictors = []
    for member in run.members if isinstance(run, Ensemble) else (run,):
        if not isinstance(member, Run):
            raise RunError(
                f"{member.source}: an exported file has no gradients; give the run it was made of"
            )
        predictors.append(member.predictor(device).requires_grad_(False))
    return predictors


def _as_its_maps(preset: Preset, binning: int) -> Preset:
    """A preset whose images are as large as their maps; a kernel of smaller pixels is left out."""
    if binning > 1 and preset.image.kernel is not None:
        preset = preset.model_copy(update={"image": preset.image.model_copy(update={"psf": None})})
    return with_larger_pixels(preset, binning, 1)


def preset_or_none(run: AnyRun) -> Preset | None:
    """The preset that a run's training images were drawn from, where there is one here."""
    try:
        return preset_of_run(run)
    except HalometryError:
        return None


def explain_rows(
    run: AnyRun, data: LabeledImages, rows: Sequence[int], device: str = "auto"
) -> list[Attribution]:
    """What a run's answers for some images of a labeled set rest on.

    Raises:
        UnavailableError: captum is not installed.
        RunError: an exported file, which has no gradients.
    """
    trained, preset = run.config.data, preset_or_none(run)
    explainer = Explainer(run, preset, METHODS[0], device)
    looks = []
    for row in rows:
        scene = None
        if preset is not None and trained.seed is not None and trained.shares_images_with(data):
            scene = draw_scenes(preset, trained.seed, int(row), 1)
        pixels = np.asarray(data.images[np.array([row])])[0]
        looks.append(explainer.explain(data.names[row], pixels, scene))
    return looks


def attribution_figure(looks: Sequence[Attribution]) -> Figure:
    """Images, maps and true substructure side by side."""
    truth = [one.truth for one in looks if one.truth is not None]
    return maps_figure(
        [one.image for one in looks],
        [one.map for one in looks],
        [f"{shorten(Path(one.name).name)}\n{one.prediction}" for one in looks],
        truth if len(truth) == len(looks) else None,
    )
