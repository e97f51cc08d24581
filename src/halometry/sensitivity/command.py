"""The verb `sensitivity`: which single subhalos a network finds, and which the data would show."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from halometry.errors import RunError, UsageError
from halometry.io import check_writable
from halometry.lensfit.observation import noise_is_known
from halometry.log import track
from halometry.parallel import Workers, find_device
from halometry.runs.mapped_inputs import for_plain_images
from halometry.runs.open import AnyRun, open_run
from halometry.runs.training_data import preset_for
from halometry.sensitivity import (
    NOISE_REALIZATIONS,
    PLACEMENTS,
    Detector,
    Sensitivity,
    blind_search_threshold,
    detect_subhalos,
    grid_positions,
    score_smooth_lenses,
    score_threshold,
    sensitivity_map,
    write_sensitivity,
)
from halometry.simulation import Preset
from halometry.simulation.rng import SENSITIVITY_SEED_OFFSET

FALSE_POSITIVE_COUNT = 20  # smooth lenses above the threshold, which say where it is
MASS_STEP, MASS_COUNT = 0.25, 11  # of log10 mass, up to three times the preset's heaviest


def measure_sensitivity(
    run: str | Path | AnyRun,
    out: str | Path | None = None,
    preset: str | Path | Preset | None = None,
    count: int = 100,
    seed: int = 0,
    false_positives: float = 0.01,
    lens: int = 0,
    grid: int = 13,
    device: str = "auto",
    workers: Workers = 1,
) -> Sensitivity:
    """Measure which single subhalos a network finds, beside what the data would allow.

    The network calls a lens lumpy where the odds against its class without substructure exceed a
    threshold, set on smooth lenses. Beside it stand two observers that know the noise, the place
    and the mass of what they look for: one knows lens and source too, the other has to fit them.

    Args:
        run: of a classification, as `load_run` takes it, or an .onnx file.
        out: a folder for `sensitivity.json`, `sensitivity.csv` and two figures.
        preset: that the lenses follow: a name, a YAML file or a preset; the run's own if not
            given.
        count: lenses that each mass is put into, once anywhere and once on the ring.
        seed: of the lenses.
        false_positives: share of smooth lenses called lumpy.
        lens: number of the lens that is mapped.
        grid: places along the map's side.
        device: `auto`, `cpu`, or as PyTorch names it.
        workers: processes that map images, where the run takes maps; `auto` takes one a core.

    Raises:
        RunError: the run is a regression, or was not trained on simulated images.
        UsageError: an option out of its range; a preset whose limits are not known here.

    Example:
        >>> seen = sensitivity("common_test_1/d4net")  # doctest: +SKIP
        >>> str(seen.outcomes["on the ring"].mass("network", 0.5))  # doctest: +SKIP
        '9.51 [9.46, 9.57]'
    """
    run = open_run(run)
    _check_options(count, seed, false_positives, lens, grid)
    chosen = _preset_for(run, preset)
    if out is not None:
        check_writable(Path(out) / "sensitivity.json")
    where = find_device(device)
    masses = _masses(chosen)
    for_map = masses[::2]
    number = math.ceil(FALSE_POSITIVE_COUNT / false_positives)
    images = len(PLACEMENTS) * len(masses) * count
    tried = NOISE_REALIZATIONS * len(for_map) * len(grid_positions(chosen, grid)[0])
    total = number + images + tried
    with (
        torch.no_grad(),
        for_plain_images(run, run.answerer(where), total, workers) as answerer,
        track(f"trying {run.name}", total) as progress,
    ):
        judge = Detector(answerer, chosen.kinds.index("no"), chosen, seed + SENSITIVITY_SEED_OFFSET)
        middle = float(masses[len(masses) // 2])
        sought = blind_search_threshold(judge, middle, lens, false_positives, where)
        smooth = score_smooth_lenses(judge, number, where, progress)
        outcomes = detect_subhalos(
            judge, smooth, masses, count, false_positives, sought, where, progress
        )
        limit, noise = float(score_threshold(smooth, false_positives)), number + count + images
        map_ = sensitivity_map(
            judge, limit, for_map, lens, grid, false_positives, noise, where, progress
        )
    seen = Sensitivity(
        run=run.source,
        name=run.name,
        preset=chosen.name,
        seed=seed,
        false_positives=false_positives,
        threshold_log_odds=limit,
        trials_threshold_sigma=sought,
        outcomes=outcomes,
        map=map_,
        device=where,
    )
    if out is not None:
        write_sensitivity(Path(out), seen)
    return seen


def _check_options(count: int, seed: int, false_positives: float, lens: int, grid: int) -> None:
    if not 1e-3 <= false_positives < 0.5:
        raise UsageError(f"--false-positives {false_positives:g}: must be from 0.001 to below 0.5")
    for name, value, least in (("count", count, 2), ("seed", seed, 0), ("lens", lens, 0)):
        if value < least:
            raise UsageError(f"--{name} {value}: must be at least {least}")
    if not 3 <= grid <= 101:
        raise UsageError(f"--grid {grid}: must be from 3 to 101")


def _masses(preset: Preset) -> np.ndarray:
    """log10 of solar masses, up to three times the heaviest that the preset draws."""
    assert preset.subhalos is not None
    heaviest = math.log10(preset.mass_scale * preset.subhalos.mass.support[1])
    last = round(heaviest / MASS_STEP + 0.5 / MASS_STEP) * MASS_STEP
    return last - MASS_STEP * np.arange(MASS_COUNT)[::-1]


def _preset_for(run: AnyRun, given: str | Path | Preset | None) -> Preset:
    """The preset to try a run with.

    Raises:
        RunError: the run is not for it, or has none of its own.
        UsageError: the limits of its images are not known.
    """
    config = run.config
    if config.class_names is None:
        raise RunError(
            f"{run.source}: is a run for regression, which finds nothing; give a run for"
            " classification"
        )
    preset = preset_for(run, given)
    if "no" not in preset.kinds:
        raise UsageError(f"preset {preset.name}: has no class without substructure")
    for wrong, what in (
        (preset.subhalos is None, "no 'subhalos' to put one of into a lens"),
        (preset.source.picture is not None, "pictures as sources, which cannot be fitted"),
        (not noise_is_known(preset.image), "noise whose law is not known well enough for a limit"),
    ):
        if wrong:
            raise UsageError(f"preset {preset.name}: has {what}; give another with --preset")
    return preset
