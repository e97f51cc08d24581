"""The command `robustness`: metrics of a run on images of shifted presets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from halometry.errors import UsageError, did_you_mean
from halometry.evaluation.differences import differences
from halometry.io import check_writable
from halometry.log import logger, track, with_progress
from halometry.parallel import Workers, find_device
from halometry.robustness.core import Robustness, ShiftStep, compute_metrics, predict_preset
from halometry.robustness.shifts import SHIFTS, shift_preset
from halometry.robustness.tables import write_robustness
from halometry.runs.mapped_inputs import mapping_images
from halometry.runs.ood import predict_with_ood
from halometry.runs.open import AnyRun, open_run
from halometry.runs.training_data import preset_for
from halometry.seeds import ROBUSTNESS_SEED_OFFSET
from halometry.simulation import Preset

MIN_IMAGES = 30


@with_progress
def measure_robustness(
    run: str | Path | AnyRun,
    *,
    out: str | Path | None = None,
    count: int = 300,
    shifts: Sequence[str] | None = None,
    seed: int = 0,
    device: str = "auto",
    preset: str | Path | Preset | None = None,
    workers: Workers = 1,
    resamples: int = 1000,
    progress: bool = True,
) -> Robustness:
    """Measure how the metrics of a run change as its images differ from the training set.

    One property of the training preset is shifted at a time. All steps have the same scenes, and
    their noise is drawn from the same random streams. No image is one of the training set.

    Args:
        run: a run, as `load_run` takes it, or an .onnx file of `export`.
        out: folder for `robustness.json`, `robustness.csv` and `robustness.png`.
        count: images per step.
        shifts: names in `halometry.robustness.shifts.SHIFTS`; None for all that apply.
        seed: of the images.
        device: `auto`, `cpu`, or a PyTorch device.
        preset: the preset to shift; None for the run's training preset.
        workers: processes that compute mass maps, for runs that need them; `auto` for one per
            core.
        resamples: of the bootstrap for each interval.
        progress: whether to show progress bars.

    Raises:
        RunError: the run was not trained on simulated images, or their preset is unknown; or the
            given preset has other classes or other image shapes.
        UsageError: an unknown shift, or one that does not apply to the preset; or no step is left.

    Example:
        >>> result = measure_robustness("common_test_1/d4net", shifts=["psf"])  # doctest: +SKIP
        >>> result.steps[-1].change.value  # of the AUC, for a PSF twice as wide  # doctest: +SKIP
        -0.15
    """
    run = open_run(run)
    base = preset_for(run, preset)
    if count < MIN_IMAGES:
        raise UsageError(f"--count {count}: must be at least {MIN_IMAGES}")
    plan = list(_shifted_presets(base, shifts))
    if not plan:
        raise UsageError(f"--shifts: no step is left for {run.source}; choose other shifts")
    if out is not None:
        check_writable(Path(out) / "robustness.json")
    image_seed = ROBUSTNESS_SEED_OFFSET + seed
    device = find_device(device)
    total = count * (len(plan) + 1)
    with (
        mapping_images(run, predict_with_ood(run, device), total, workers) as predict_fn,
        track(f"evaluating {run.name}", total) as tracker,
    ):
        unshifted, *shifted = (
            predict_preset(run, predict_fn, each, seed=image_seed, count=count, progress=tracker)
            for each in (base, *(moved for *_, moved in plan))
        )
    steps = []
    for (shift, factor, _), predictions in zip(plan, shifted, strict=True):
        outputs = {shift: predictions.outputs, "": unshifted.outputs}
        change = differences(predictions.true, outputs, resamples=resamples)[0].interval
        metrics = compute_metrics(run, predictions, resamples)
        steps.append(ShiftStep(shift, factor, metrics, change))
    first = ShiftStep(None, 1.0, compute_metrics(run, unshifted, resamples), None)
    command = f"halometry robustness {run.source} --count {count} --seed {seed}"
    if preset is not None:
        command += f" --preset {base.name}"
    if shifts is not None:
        command += f" --shifts {','.join(shifts)}"
    result = Robustness(run, base, image_seed, count, first, steps, command, device)
    if out is not None:
        write_robustness(result, Path(out))
    return result


def _shifted_presets(
    preset: Preset, shifts: Sequence[str] | None
) -> Iterator[tuple[str, float, Preset]]:
    """Shift, factor and shifted preset of each step."""
    for name in shifts if shifts is not None else SHIFTS:
        if name not in SHIFTS:
            raise UsageError(f"--shifts {name}: unknown, {did_you_mean(name, SHIFTS)}")
        shift = SHIFTS[name]
        for factor in shift.factors:
            if factor == shift.unchanged_at:
                continue
            try:
                shifted = shift_preset(preset, name, factor)
            except UsageError as error:  # out of range, or a distribution that cannot be scaled
                logger.info(f"step left out: {error}")
                continue
            if shifted is not None:
                yield name, factor, shifted
            elif shifts is not None:
                raise UsageError(f"--shifts {name}: does not apply to the preset {preset.name}")
            else:
                break
