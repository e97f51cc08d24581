"""The command `sensitivity`: masses of single subhalos that a network detects."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from halometry.errors import RunError, UsageError
from halometry.io import check_writable
from halometry.lensfit.observation import noise_is_known
from halometry.log import track, with_progress
from halometry.parallel import Workers, find_device
from halometry.runs.mapped_inputs import mapping_images
from halometry.runs.open import AnyRun, open_run
from halometry.runs.training_data import preset_for
from halometry.seeds import SENSITIVITY_SEED_OFFSET
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

FALSE_POSITIVE_COUNT = 20  # smooth lenses above the threshold, which determine it
MASS_STEP, MASS_COUNT = 0.25, 11  # of log10 mass, up to three times the preset's largest


@with_progress
def measure_sensitivity(
    run: str | Path | AnyRun,
    *,
    out: str | Path | None = None,
    preset: str | Path | Preset | None = None,
    count: int = 100,
    seed: int = 0,
    false_positives: float = 0.01,
    lens_index: int = 0,
    grid: int = 13,
    device: str = "auto",
    workers: Workers = 1,
    progress: bool = True,
) -> Sensitivity:
    """Measure the masses of single subhalos that a network detects, and those the data allow.

    The network detects substructure if the log odds against its class without substructure
    exceed a threshold, which smooth lenses determine. Ideal observers show what the data allow.
    They know the noise, and the position and the mass of the subhalo. One knows lens and source
    as well; another fits them; a third fits them and searches all positions.

    Args:
        run: a run for classification, as `load_run` takes it, or an .onnx file.
        out: folder for `sensitivity.json`, `sensitivity.csv` and two figures.
        preset: preset of the lenses: a name, a YAML file or a preset; None for the run's own.
        count: lenses for each mass and placement (anywhere, on the ring).
        seed: of the lenses.
        false_positives: false-positive rate, the fraction of smooth lenses that is detected.
        lens_index: number of the lens of the sensitivity map.
        grid: positions along a side of the map.
        device: `auto`, `cpu`, or a PyTorch device.
        workers: processes that compute mass maps, for runs that need them; `auto` for one per
            core.
        progress: whether to show progress bars.

    Raises:
        RunError: the run is for regression, or was not trained on simulated images.
        UsageError: an option is out of range; or a preset whose detection limit is unknown.

    Example:
        >>> result = measure_sensitivity("common_test_1/d4net")  # doctest: +SKIP
        >>> str(result.outcomes["on the ring"].log10_mass("network", 0.5))  # doctest: +SKIP
        '9.51 [9.46, 9.57]'
    """
    run = open_run(run)
    _check_options(count, seed, false_positives, lens_index, grid)
    chosen = _check_preset(run, preset)
    if out is not None:
        check_writable(Path(out) / "sensitivity.json")
    device = find_device(device)
    masses = _log10_masses(chosen)
    map_masses = masses[::2]
    n_smooth = math.ceil(FALSE_POSITIVE_COUNT / false_positives)
    n_perturbed = len(PLACEMENTS) * len(masses) * count
    n_map = NOISE_REALIZATIONS * len(map_masses) * len(grid_positions(chosen, grid)[0])
    total = n_smooth + n_perturbed + n_map
    with (
        torch.no_grad(),
        mapping_images(run, run.predict_fn(device), total, workers) as predict_fn,
        track(f"measuring {run.name}", total) as tracker,
    ):
        image_seed = seed + SENSITIVITY_SEED_OFFSET
        smooth_class = chosen.kinds.index("no")
        detector = Detector(predict_fn, smooth_class, chosen, image_seed, false_positives, device)
        median = float(masses[len(masses) // 2])
        trials_threshold = blind_search_threshold(detector, median, lens_index)
        smooth_scores = score_smooth_lenses(detector, n_smooth, tracker)
        outcomes = detect_subhalos(
            detector, smooth_scores, masses, count=count, trials_threshold=trials_threshold,
            progress=tracker,
        )  # fmt: skip
        threshold = float(score_threshold(smooth_scores, false_positives))
        map_ = sensitivity_map(
            detector, threshold, map_masses, lens_index=lens_index, side=grid,
            noise_start=n_smooth + count + n_perturbed, progress=tracker,
        )  # fmt: skip
    result = Sensitivity(
        run=run.source,
        name=run.name,
        preset=chosen.name,
        seed=seed,
        threshold_log_odds=threshold,
        trials_threshold_sigma=trials_threshold,
        outcomes=outcomes,
        map=map_,
        device=device,
    )
    if out is not None:
        write_sensitivity(result, Path(out))
    return result


def _check_options(
    count: int, seed: int, false_positives: float, lens_index: int, grid: int
) -> None:
    if not 1e-3 <= false_positives < 0.5:
        raise UsageError(f"--false-positives {false_positives:g}: must be from 0.001 to below 0.5")
    minima = (("count", count, 2), ("seed", seed, 0), ("lens-index", lens_index, 0))
    for name, value, minimum in minima:
        if value < minimum:
            raise UsageError(f"--{name} {value}: must be at least {minimum}")
    if not 3 <= grid <= 101:
        raise UsageError(f"--grid {grid}: must be from 3 to 101")


def _log10_masses(preset: Preset) -> np.ndarray:
    """log10 of solar masses, up to three times the largest of the preset."""
    assert preset.subhalos is not None
    largest = math.log10(preset.mass_scale * preset.subhalos.mass.support[1])
    last = round(largest / MASS_STEP + 0.5 / MASS_STEP) * MASS_STEP
    return last - MASS_STEP * np.arange(MASS_COUNT)[::-1]


def _check_preset(run: AnyRun, given: str | Path | Preset | None) -> Preset:
    """The preset of the lenses.

    Raises:
        RunError: the run does not fit it, or has no preset of its own.
        UsageError: the detection limit of its images is unknown.
    """
    if run.config.class_names is None:
        raise RunError(
            f"{run.source}: is a run for regression, which detects nothing; give a run for"
            " classification"
        )
    preset = preset_for(run, given)
    if "no" not in preset.kinds:
        raise UsageError(f"preset {preset.name}: has no class without substructure")
    for is_unsuitable, reason in (
        (preset.subhalos is None, "no 'subhalos' of which one could be added to a lens"),
        (preset.source.picture is not None, "pictures as sources, which cannot be fitted"),
        (not noise_is_known(preset.image), "noise whose distribution is not known exactly"),
    ):
        if is_unsuitable:
            raise UsageError(f"preset {preset.name}: has {reason}; give another with --preset")
    return preset
