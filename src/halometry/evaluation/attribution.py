"""What an answer rests on: maps over the image, beside the substructure that is there."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from halometry.data.files import count_images, iter_images
from halometry.data.labelled import LabelledImages
from halometry.devices import find_device
from halometry.errors import DataError, HalometryError, ReadError, RunError, UsageError
from halometry.evaluation.attribution_figure import looks_figure, pointing_figure
from halometry.evaluation.attribution_maps import METHODS, Method, attribution_maps, need_captum
from halometry.evaluation.cost import provenance
from halometry.evaluation.figures import shortened
from halometry.evaluation.pointing import Pointing, distances
from halometry.evaluation.style import save
from halometry.models.predictor import Predictor
from halometry.models.preprocessing import extremes
from halometry.progress import say, track
from halometry.simulation import Preset, Scene, draw_scenes, load_preset, sample
from halometry.simulation.convergence import substructure_convergence
from halometry.simulation.render import blur, pixel_grid, spread
from halometry.training.ensemble import Ensemble
from halometry.training.exported import Trained, open_trained
from halometry.training.run import Run
from halometry.training.trained_on import preset_of_run
from halometry.writing import check_writable, whole_file, write_table, write_text

LATER = 2_000_000  # added to the seed: far from the images of any training and its tests
SHOWN = 6  # images of the figure
FEWEST = 12  # simulated images, so that each class has some
BATCH = 32  # images rendered at a time
SMOOTHING = 0.08  # arcsec, of the true convergence, so that a point can be seen


@dataclass(frozen=True)
class Look:
    """An image, and what an answer for it rests on.

    Attributes:
        name: of the image.
        said: the answer.
        image: (H, W), the mean over channels.
        map: by how much each pixel speaks for the answer (H, W), seen through the preset's point
            spread function; nothing speaks against it.
        truth: what the substructure adds to the convergence (H, W), where that is known.
    """

    name: str
    said: str
    image: np.ndarray
    map: np.ndarray
    truth: np.ndarray | None = None

    @property
    def peak(self) -> tuple[int, int]:
        """Row and column of the map's maximum."""
        row, column = np.unravel_index(self.map.argmax(), self.map.shape)
        return int(row), int(column)


@dataclass(frozen=True)
class Attribution:
    """The outcome of `attribution`.

    Attributes:
        run: what was asked for.
        method: of the maps.
        preset, seed: of simulated images; None of a user's own.
        looks: an image each.
        pointing: for each kind of substructure where the maps' maxima lie.
    """

    run: str
    method: Method
    preset: str | None
    seed: int | None
    looks: list[Look]
    pointing: list[Pointing]

    @cached_property
    def rows(self) -> list[list[str]]:
        """The table of `pointing` as text."""
        head = ["the map's maximum is near", "lenses", "within", "of the maps", "by chance"]
        return [
            [*head, "above chance"],
            *(
                [
                    one.what,
                    f"{len(one)}",
                    f'{one.within:.2f}"',
                    str(one.hits),
                    f"{one.chance:.3f}",
                    str(one.above_chance),
                ]
                for one in self.pointing
            ),
        ]


def attribution(
    run: str | Path | Trained,
    files: Sequence[str | Path] | str | Path | None = None,
    out: str | Path | None = None,
    method: Method = "integrated_gradients",
    count: int = 200,
    preset: str | Path | Preset | None = None,
    seed: int = 0,
    device: str = "auto",
) -> Attribution:
    """Show what a run's answers rest on, for images of one's own or for simulated ones.

    For simulated images it is known where the substructure is. So it is counted how often a map's
    maximum lies within a point spread function's width of the heaviest subhalo, or of the line,
    beside the maxima of other lenses' maps, which know nothing of this lens.

    Args:
        run: as `load_run` takes it, or several with commas between them.
        files: images, or folders of these; None makes new images.
        out: a folder for figures and tables.
        method: `integrated_gradients`, `saliency` or `occlusion`, see `attribution_maps`.
        count: simulated images.
        preset: that they follow; the run's own if not given.
        seed: of them; no training has seen these.
        device: `auto`, `cpu`, or as PyTorch names it.

    Raises:
        UnavailableError: captum is not installed.
        RunError: an exported file, which has no gradients; or no preset is known.
        UsageError: an option out of its range.
        DataError: no image can be read.

    Example:
        >>> seen = attribution("common_test_1/d4net")  # doctest: +SKIP
        >>> str(seen.pointing[0].hits)  # doctest: +SKIP
        '0.34 [0.23, 0.47]'
    """
    run = open_trained(run)
    if method not in METHODS:
        raise UsageError(f"--method {method}: unknown; known: {', '.join(METHODS)}")
    if files is None and count < FEWEST:
        raise UsageError(f"--count {count}: must be at least {FEWEST}")
    if out is not None:
        check_writable(Path(out) / "attribution.json")
    if files is not None:
        explainer = Explainer(run, _preset_or_none(run), method, device)
        looks = list(_of_files(explainer, [files] if isinstance(files, str | Path) else files))
        made = Attribution(run.source, method, None, None, looks, [])
    else:
        chosen = preset_of_run(run) if preset is None else preset
        if not isinstance(chosen, Preset):
            chosen = load_preset(chosen)
        looks, pointing = _of_preset(Explainer(run, chosen, method, device), chosen, seed, count)
        made = Attribution(run.source, method, chosen.name, seed, looks, pointing)
    if out is not None:
        write_attribution(made, Path(out))
    return made


def look_at(
    run: Trained, data: LabelledImages, rows: Sequence[int], device: str = "auto"
) -> list[Look]:
    """What a run's answers for some images of a labelled set rest on.

    Raises:
        UnavailableError: captum is not installed.
        RunError: an exported file, which has no gradients.
    """
    trained, preset = run.config.data, _preset_or_none(run)
    explainer = Explainer(run, preset, METHODS[0], device)
    looks = []
    for row in rows:
        scene = None
        if preset is not None and trained.seed is not None and trained.begins_like(data):
            scene = draw_scenes(preset, trained.seed, int(row), 1)
        pixels = np.asarray(data.images[np.array([row])])[0]
        looks.append(explainer.look(data.names[row], pixels, scene))
    return looks


class Explainer:
    """A run, and a way to ask it what its answers rest on.

    Args:
        run: the run.
        preset: of the images, for their point spread function and scenes; None where unknown.
        method: see `attribution_maps`.
        device: `auto`, `cpu`, or as PyTorch names it.

    Raises:
        UnavailableError: captum is not installed.
        RunError: an exported file, which has no gradients.
    """

    def __init__(self, run: Trained, preset: Preset | None, method: Method, device: str) -> None:
        need_captum()
        self.run, self.preset, self.method = run, preset, method
        self.device = find_device(device)
        self.predictors = _predictors(run, self.device)

    def look(self, name: str, pixels: np.ndarray, scene: Scene | None = None) -> Look:
        """Explain the answer for one image (c, H, W), of a scene (1) if that is known."""
        raw = torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32)).to(self.device)
        for one in self.predictors:
            one.preprocessing.limits = extremes(raw[None])
        with torch.no_grad():
            said = self.answer(raw[None])[0].cpu().numpy()
        map_ = attribution_maps(self.answer, raw[None], self.method)[:, None].cpu()
        same = self.preset is not None and pixels.shape[1:] == self.preset.image.shape[1:]
        smooth = spread(map_, self.preset.image) if self.preset and same else blur(map_, 1.0)
        truth = None
        if self.preset is not None and scene is not None:
            whole_pixels = self.preset.image.model_copy(update={"supersampling": 1})
            x, y = pixel_grid(whole_pixels, scene.f_sub)
            truth = substructure_convergence(scene, x, y, SMOOTHING)[0].numpy()
        positive = smooth[0, 0].clamp_min(0).numpy()
        return Look(name, self._told(said), pixels.mean(axis=0), positive, truth)

    def answer(self, raw: Tensor) -> Tensor:
        """Raw images (B, c, H, W) to the run's answers, masses as points."""
        answers = [one.points(one(raw)) for one in self.predictors]
        return torch.stack(answers).mean(dim=0)

    def _told(self, said: np.ndarray) -> str:
        names = self.run.config.class_names
        return f"{names[int(said.argmax())]} {said.max():.0%}" if names else f"f_sub {said:.3f}"


def _predictors(run: Trained, device: str) -> list[Predictor]:
    """What a run answers with, without its own gradients."""
    predictors = []
    for member in run.members if isinstance(run, Ensemble) else (run,):
        if not isinstance(member, Run):
            raise RunError(
                f"{member.source}: an exported file has no gradients; give the run it was made of"
            )
        predictors.append(member.predictor(device).requires_grad_(False))
    return predictors


def _preset_or_none(run: Trained) -> Preset | None:
    try:
        return preset_of_run(run)
    except HalometryError:
        return None


def _of_files(explainer: Explainer, files: Sequence[str | Path]) -> Iterator[Look]:
    total = count_images(files)
    good = 0
    with track(f"looking at {explainer.run.name}", total) as progress:
        for item in iter_images(files):
            if isinstance(item, ReadError):
                say(f"left out: {item}")
            elif (reason := explainer.run.config.misfit(item.pixels.shape)) is not None:
                say(f"left out: {item.path}: {reason}")
            else:
                good += 1
                yield explainer.look(str(item.path), item.pixels)
            progress.advance()
    if good == 0:
        raise DataError(f"{', '.join(map(str, files)) or 'no path given'}: no images to look at")


def _of_preset(
    explainer: Explainer, preset: Preset, seed: int, count: int
) -> tuple[list[Look], list[Pointing]]:
    """New images of a preset, and where the maxima of their maps lie."""
    run = explainer.run
    if (reason := run.config.misfit(preset.image.shape)) is not None:
        raise RunError(f"{run.source}: an image of {preset.name} {reason}")
    looks: list[Look] = []
    scenes = draw_scenes(preset, seed + LATER, 0, count)
    with track(f"looking at {run.name}", count) as progress:
        for first in range(0, count, BATCH):
            images, drawn = sample(preset, seed + LATER, first, min(BATCH, count - first))
            for k, pixels in enumerate(images.numpy()):
                scene = drawn.rows(slice(k, k + 1)) if first + k < SHOWN else None
                looks.append(explainer.look(_truly(preset, drawn, k), pixels, scene))
                progress.advance()
    return looks, list(_pointing(looks, scenes, preset))


def _truly(preset: Preset, scene: Scene, k: int) -> str:
    label = scene.labels[k].item()
    return f"truly {preset.class_names[int(label)] if preset.class_names else f'{label:.3f}'}"


def _pointing(looks: list[Look], scenes: Scene, preset: Preset) -> Iterator[Pointing]:
    """For each kind of substructure that some of the lenses have."""
    spec = preset.image
    within = max(spec.psf_width, spec.pixel_scale)
    row, column = np.array([look.peak for look in looks]).T
    x, y = ((at - (spec.pixels - 1) / 2) * spec.pixel_scale for at in (column, row))
    kinds = {
        "the heaviest subhalo": (scenes.subhalo_mass > 0).any(dim=1),
        "the line of mass": scenes.line_mass > 0,
    }
    for what, those in kinds.items():
        if int(those.sum()) > 1:
            of = those.numpy()
            yield Pointing(what, distances(scenes.rows(those), x[of], y[of]), within)


def write_attribution(made: Attribution, out: Path) -> None:
    """Write `attribution.json`, `attribution.csv`, `maps.npz`, and figures.

    Raises:
        StorageError: no room or no permission.
    """
    rows, shown = made.rows, made.looks[:SHOWN]
    record: dict[str, Any] = {
        "format": "halometry-attribution",
        "what": "how often the maximum of an attribution map lies within a point spread function's"
        " width of the substructure, and by chance: the maxima of other lenses' maps",
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        **provenance(),
        "run": made.run,
        "method": made.method,
        "preset": made.preset,
        "seed": made.seed,
        "images": len(made.looks),
        "interval": "95 %; of the maps: binomial; above chance: bootstrap over lenses",
        "rows": rows,
    }
    write_text(out / "attribution.json", json.dumps(record, indent=1) + "\n")
    lines = [[one.name, one.said, *reversed(one.peak)] for one in made.looks]
    write_table(out / "attribution.csv", ["image", "said", "peak_column", "peak_row"], lines)
    with whole_file(out / "maps.npz") as partial, partial.open("wb") as file:
        np.savez_compressed(file, *(one.map.astype(np.float32) for one in made.looks))
    save(figure_of(shown), out / "maps.png")
    if made.pointing:
        save(pointing_figure(made.pointing), out / "pointing.png")


def figure_of(looks: Sequence[Look]) -> Figure:
    """Images, maps and true substructure side by side."""
    truth = [one.truth for one in looks if one.truth is not None]
    return looks_figure(
        [one.image for one in looks],
        [one.map for one in looks],
        [f"{shortened(Path(one.name).name)}\n{one.said}" for one in looks],
        truth if len(truth) == len(looks) else None,
    )
