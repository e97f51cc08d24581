"""The command `attribution`: maps of what predictions depend on, and the pointing game."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from halometry.attribution.explain import Attribution, Explainer, preset_or_none
from halometry.attribution.maps import METHODS, Method
from halometry.attribution.pointing_game import PointingGame, distances_to_substructure
from halometry.attribution.tables import IMAGES_IN_FIGURE, AttributionResult, write_attribution
from halometry.datasets.inputs import count_images, iter_images
from halometry.datasets.readers import Image
from halometry.errors import DataError, ReadError, UsageError
from halometry.io import check_writable
from halometry.log import logger, track, with_progress
from halometry.parallel import Workers
from halometry.runs.mapped_inputs import mapped_images
from halometry.runs.open import AnyRun, open_run
from halometry.runs.training_data import preset_for
from halometry.seeds import ATTRIBUTION_SEED_OFFSET
from halometry.simulation import Preset, Scene, draw_scenes, sample
from halometry.simulation.instrument import ImageSpec

MIN_IMAGES = 12  # simulated images, so that each class has several
RENDER_BATCH_SIZE = 32


@with_progress
def explain_predictions(
    run: str | Path | AnyRun,
    files: Sequence[str | Path] | str | Path | None = None,
    *,
    out: str | Path | None = None,
    method: Method = "integrated_gradients",
    count: int = 200,
    preset: str | Path | Preset | None = None,
    seed: int = 0,
    device: str = "auto",
    workers: Workers = 1,
    progress: bool = True,
) -> AttributionResult:
    """Compute attribution maps of a run's predictions, for given or simulated images.

    The true substructure of simulated images is known. The pointing game counts how often the
    maximum of a map lies within the width of the PSF from the heaviest subhalo, or from the
    vortex. The maxima of other lenses' maps show how often this happens by chance.

    Args:
        run: as `load_run` takes it, or several separated by commas.
        files: images, or folders of these; None for simulated images.
        out: folder for figures and tables.
        method: `integrated_gradients`, `saliency` or `occlusion`, see `attribution_maps`.
        count: number of simulated images.
        preset: preset of the images; None for the run's training preset.
        seed: of simulated images; none of them is in a training set.
        device: `auto`, `cpu`, or a PyTorch device.
        workers: processes that compute mass maps, for runs that need them; `auto` for one per
            core.
        progress: whether to show progress bars.

    Raises:
        UnavailableError: captum is not installed.
        RunError: the run is an exported file, which has no gradients; or its preset is unknown.
        UsageError: an option is out of range.
        DataError: no image can be read.

    Example:
        >>> result = explain_predictions("common_test_1/d4net")  # doctest: +SKIP
        >>> str(result.pointing[0].hit_fraction)  # doctest: +SKIP
        '0.080 [0.046, 0.127]'
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
        attributions = list(_explain_files(explainer, paths, workers))
        result = AttributionResult(
            run.source, method, None, None, attributions, [], explainer.device
        )
    else:
        chosen = preset_for(run, preset)
        explainer = Explainer(run, chosen, method, device)
        attributions, pointing = _explain_simulated(explainer, chosen, seed, count, workers)
        result = AttributionResult(
            run.source, method, chosen.name, seed, attributions, pointing, explainer.device
        )
    if out is not None:
        write_attribution(result, Path(out))
    return result


def _explain_files(
    explainer: Explainer, files: Sequence[str | Path], workers: Workers
) -> Iterator[Attribution]:
    total, run = count_images(files), explainer.run
    n_explained = 0
    with (
        mapped_images(run, iter_images(files), total, workers) as images,
        track(f"explaining {run.name}", total) as tracker,
    ):
        for item in images:
            if isinstance(item, ReadError):
                logger.info(f"image left out: {item}")
            elif reason := run.config.incompatibility(item.pixels.shape, item.mass_map_preset):
                logger.info(f"image left out: {item.path}: {reason}")
            else:
                n_explained += 1
                yield explainer.explain(str(item.path), item.pixels)
            tracker.advance()
    if n_explained == 0:
        paths = ", ".join(map(str, files)) or "no path given"
        raise DataError(f"{paths}: contains no image that the run can predict")


def _explain_simulated(
    explainer: Explainer, preset: Preset, seed: int, count: int, workers: Workers
) -> tuple[list[Attribution], list[PointingGame]]:
    """Attributions of new images of a preset, and their pointing games."""
    run = explainer.run
    attributions: list[Attribution] = []
    image_seed = seed + ATTRIBUTION_SEED_OFFSET
    scenes = draw_scenes(preset, image_seed, 0, count)
    simulated = _simulate(preset, image_seed, count)
    with (
        mapped_images(run, simulated, count, workers) as images,
        track(f"explaining {run.name}", count) as tracker,
    ):
        for k, image in enumerate(images):
            if isinstance(image, ReadError):
                raise image
            scene = scenes.rows(slice(k, k + 1)) if k < IMAGES_IN_FIGURE else None
            attributions.append(explainer.explain(image.path, image.pixels, scene))
            tracker.advance()
    assert explainer.preset is not None
    games = play_pointing_games(attributions, scenes, explainer.preset.image)
    return attributions, list(games)


def _simulate(preset: Preset, seed: int, count: int) -> Iterator[Image]:
    """New images; their path is their true label."""
    for first in range(0, count, RENDER_BATCH_SIZE):
        images, scenes = sample(preset, seed, first, min(RENDER_BATCH_SIZE, count - first))
        for pixels, label in zip(images.numpy(), scenes.labels.tolist(), strict=True):
            names = preset.class_names
            yield Image(pixels, None, f"true: {names[int(label)] if names else f'{label:.3f}'}")


def play_pointing_games(
    attributions: Sequence[Attribution], scenes: Scene, spec: ImageSpec
) -> Iterator[PointingGame]:
    """Play the pointing game for each kind of substructure that at least two lenses have.

    Args:
        attributions: N images.
        scenes: of these images, N lenses.
        spec: pixels and PSF of the maps.
    """
    radius = max(spec.psf_fwhm, spec.pixel_scale)
    row, column = np.array([attribution.peak for attribution in attributions]).T
    x, y = ((index - (spec.pixels - 1) / 2) * spec.pixel_scale for index in (column, row))
    targets = {
        "the heaviest subhalo": (scenes.subhalo_mass > 0).any(dim=1),
        "the vortex": scenes.vortex_mass > 0,
    }
    for target, has_target in targets.items():
        if int(has_target.sum()) > 1:
            rows = has_target.numpy()
            distances = distances_to_substructure(scenes.rows(has_target), x[rows], y[rows])
            yield PointingGame(target, distances, radius)
