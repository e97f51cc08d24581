"""What an answer rests on: maps over the image, beside the substructure that is there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from halometry.attribution.explain import Attribution, Explainer, attribution_figure, preset_or_none
from halometry.attribution.figure import pointing_figure
from halometry.attribution.maps import METHODS, Method
from halometry.attribution.pointing_game import PointingGame, distances_to_substructure
from halometry.datasets.inputs import count_images, iter_images
from halometry.datasets.readers import Image
from halometry.errors import DataError, ReadError, UsageError
from halometry.io import atomic_write, check_writable, write_table, write_text
from halometry.log import logger, track
from halometry.parallel import Workers
from halometry.plotting import save_figure
from halometry.provenance import command, provenance
from halometry.runs.mapped_inputs import mapped_for
from halometry.runs.open import AnyRun, open_run
from halometry.runs.training_data import preset_for
from halometry.simulation import Preset, Scene, draw_scenes, sample
from halometry.simulation.instrument import ImageSpec
from halometry.simulation.rng import ATTRIBUTION_SEED_OFFSET

IMAGES_IN_FIGURE = 6  # images of the figure
MIN_IMAGES = 12  # simulated images, so that each class has some
RENDER_BATCH_SIZE = 32  # images rendered at a time


@dataclass(frozen=True)
class AttributionResult:
    """The outcome of `attribution`.

    Attributes:
        run: what was asked for.
        method: of the maps.
        preset, seed: of simulated images; None of a user's own.
        looks: an image each.
        pointing: for each kind of substructure where the maps' maxima lie.
        device: the run was asked on.
    """

    run: str
    method: Method
    preset: str | None
    seed: int | None
    attributions: list[Attribution]
    pointing: list[PointingGame]
    device: str

    @cached_property
    def rows(self) -> list[list[str]]:
        """The table of `pointing` as text."""
        near = "the map's maximum is near"
        return [
            [near, "lenses", "within", "of the maps", "by chance", "above chance"],
            *(
                [
                    one.target,
                    f"{len(one)}",
                    f'{one.radius:.2f}"',
                    str(one.hit_fraction),
                    f"{one.chance_fraction:.3f}",
                    str(one.above_chance),
                ]
                for one in self.pointing
            ),
        ]


def explain_predictions(
    run: str | Path | AnyRun,
    files: Sequence[str | Path] | str | Path | None = None,
    out: str | Path | None = None,
    method: Method = "integrated_gradients",
    count: int = 200,
    preset: str | Path | Preset | None = None,
    seed: int = 0,
    device: str = "auto",
    workers: Workers = 1,
) -> AttributionResult:
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
        preset: that the images follow; the run's own if not given.
        seed: of simulated images; no training has seen these.
        device: `auto`, `cpu`, or as PyTorch names it.
        workers: processes that map images, where the run takes maps; `auto` takes one a core.

    Raises:
        UnavailableError: captum is not installed.
        RunError: an exported file, which has no gradients; or no preset is known.
        UsageError: an option out of its range.
        DataError: no image can be read.

    Example:
        >>> seen = attribution("common_test_1/d4net")  # doctest: +SKIP
        >>> str(seen.pointing[0].hits)  # doctest: +SKIP
        '0.075 [0.025, 0.166]'
    """
    run = open_run(run)
    if method not in METHODS:
        raise UsageError(f"--method {method}: unknown; known: {', '.join(METHODS)}")
    if files is None and count < MIN_IMAGES:
        raise UsageError(f"--count {count}: must be at least {MIN_IMAGES}")
    if out is not None:
        check_writable(Path(out) / "attribution.json")
    if files is not None:
        known = preset_or_none(run) if preset is None else preset_for(run, preset)
        explainer = Explainer(run, known, method, device)
        paths = [files] if isinstance(files, str | Path) else files
        looks = list(_of_files(explainer, paths, workers))
        made = AttributionResult(run.source, method, None, None, looks, [], explainer.device)
    else:
        chosen = preset_for(run, preset)
        explainer = Explainer(run, chosen, method, device)
        looks, pointing = _of_preset(explainer, chosen, seed, count, workers)
        made = AttributionResult(
            run.source, method, chosen.name, seed, looks, pointing, explainer.device
        )
    if out is not None:
        write_attribution(made, Path(out))
    return made


def _of_files(
    explainer: Explainer, files: Sequence[str | Path], workers: Workers
) -> Iterator[Attribution]:
    total, run = count_images(files), explainer.run
    good = 0
    with (
        mapped_for(run, iter_images(files), total, workers) as images,
        track(f"looking at {run.name}", total) as progress,
    ):
        for item in images:
            if isinstance(item, ReadError):
                logger.info(f"left out: {item}")
            elif (
                reason := run.config.incompatibility(item.pixels.shape, item.mass_map_preset)
            ) is not None:
                logger.info(f"left out: {item.path}: {reason}")
            else:
                good += 1
                yield explainer.explain(str(item.path), item.pixels)
            progress.advance()
    if good == 0:
        raise DataError(f"{', '.join(map(str, files)) or 'no path given'}: no images to look at")


def _of_preset(
    explainer: Explainer, preset: Preset, seed: int, count: int, workers: Workers
) -> tuple[list[Attribution], list[PointingGame]]:
    """New images of a preset, and where the maxima of their maps lie."""
    run = explainer.run
    looks: list[Attribution] = []
    scenes = draw_scenes(preset, seed + ATTRIBUTION_SEED_OFFSET, 0, count)
    new = _simulated(preset, seed + ATTRIBUTION_SEED_OFFSET, count)
    with (
        mapped_for(run, new, count, workers) as images,
        track(f"looking at {run.name}", count) as progress,
    ):
        for k, image in enumerate(images):
            if isinstance(image, ReadError):
                raise image
            scene = scenes.rows(slice(k, k + 1)) if k < IMAGES_IN_FIGURE else None
            looks.append(explainer.explain(image.path, image.pixels, scene))
            progress.advance()
    assert explainer.preset is not None
    return looks, list(_pointing(looks, scenes, explainer.preset.image))


def _simulated(preset: Preset, seed: int, count: int) -> Iterator[Image]:
    """New images, called by what they truly are."""
    for first in range(0, count, RENDER_BATCH_SIZE):
        images, scenes = sample(preset, seed, first, min(RENDER_BATCH_SIZE, count - first))
        for k, pixels in enumerate(images.numpy()):
            yield Image(pixels, None, _truly(preset, scenes, k))


def _truly(preset: Preset, scene: Scene, k: int) -> str:
    label = scene.labels[k].item()
    return f"truly {preset.class_names[int(label)] if preset.class_names else f'{label:.3f}'}"


def _pointing(looks: list[Attribution], scenes: Scene, spec: ImageSpec) -> Iterator[PointingGame]:
    """For each kind of substructure that some of the lenses have, of maps on a detector."""
    within = max(spec.psf_fwhm, spec.pixel_scale)
    row, column = np.array([look.peak for look in looks]).T
    x, y = ((at - (spec.pixels - 1) / 2) * spec.pixel_scale for at in (column, row))
    kinds = {
        "the heaviest subhalo": (scenes.subhalo_mass > 0).any(dim=1),
        "the line of mass": scenes.vortex_mass > 0,
    }
    for what, those in kinds.items():
        if int(those.sum()) > 1:
            of = those.numpy()
            yield PointingGame(
                what, distances_to_substructure(scenes.rows(those), x[of], y[of]), within
            )


def write_attribution(made: AttributionResult, out: Path) -> None:
    """Write `attribution.json`, `attribution.csv`, `maps.npz`, and figures.

    Raises:
        StorageError: no room or no permission.
    """
    rows, shown = made.rows, made.attributions[:IMAGES_IN_FIGURE]
    record: dict[str, Any] = {
        "format": "halometry-attribution",
        "what": "how often the maximum of an attribution map lies within a point spread function's"
        " width of the substructure, and by chance: the maxima of other lenses' maps",
        "command": command(),
        **provenance(made.device),
        "run": made.run,
        "method": made.method,
        "preset": made.preset,
        "seed": made.seed,
        "images": len(made.attributions),
        "interval": "95 %; of the maps: binomial; above chance: bootstrap over lenses",
        "rows": rows,
    }
    write_text(out / "attribution.json", json.dumps(record, indent=1) + "\n")
    lines = [[one.name, one.prediction, *reversed(one.peak)] for one in made.attributions]
    write_table(
        out / "attribution.csv", "attribution", ["image", "said", "peak_column", "peak_row"], lines
    )
    with atomic_write(out / "maps.npz") as partial, partial.open("wb") as file:
        np.savez_compressed(file, *(one.map.astype(np.float32) for one in made.attributions))
    save_figure(attribution_figure(shown), out / "maps.png")
    if made.pointing:
        save_figure(pointing_figure(made.pointing), out / "pointing.png")
