"""How a run does as images move away from those it was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from halometry.errors import UsageError, did_you_mean
from halometry.evaluation.differences import differences
from halometry.io import check_writable
from halometry.log import logger, track
from halometry.parallel import Workers, find_device
from halometry.robustness.core import Robustness, ShiftStep, evaluate_preset, metrics_of
from halometry.robustness.shifts import SHIFTS, shift_preset
from halometry.robustness.tables import write_robustness
from halometry.runs.mapped_inputs import for_plain_images
from halometry.runs.ood import watched
from halometry.runs.open import AnyRun, open_run
from halometry.runs.training_data import preset_for
from halometry.simulation import Preset
from halometry.simulation.rng import ROBUSTNESS_SEED_OFFSET

MIN_IMAGES = 30  # images


def measure_robustness(
    run: str | Path | AnyRun,
    out: str | Path | None = None,
    count: int = 300,
    shifts: Sequence[str] | None = None,
    seed: int = 0,
    device: str = "auto",
    resamples: int = 1000,
    preset: str | Path | Preset | None = None,
    workers: Workers = 1,
) -> Robustness:
    """Judge a run on images that move away from its training preset, one thing at a time.

    Every step has the same scenes and begins its noise from the same numbers, so that what
    changes from one to the next is the shift's doing. No image is one it was trained on.

    Args:
        run: a run, as `load_run` takes it, or an .onnx file that `export` made of one.
        out: a folder for `robustness.json`, `robustness.csv` and `robustness.png`.
        count: images a step.
        shifts: names in `halometry.robustness.shifts.SHIFTS`; all that the preset has, if None.
        seed: of the images.
        device: `auto`, `cpu`, or as PyTorch names it.
        resamples: of the bootstrap behind each interval.
        preset: to move away from; the run's own if not given.
        workers: processes that map images, where the run takes maps; `auto` takes one a core.

    Raises:
        RunError: the run was not trained on simulated images, or their preset is not here; or the
            one given has other classes, or images of another shape.
        UsageError: an unknown shift, or one that the preset has nothing of; no step is left.

    Example:
        >>> found = robustness("common_test_1/d4net", shifts=["psf"])  # doctest: +SKIP
        >>> found.steps[-1].change.value  # of the AUC, where the PSF is twice as wide
        ... # doctest: +SKIP
        -0.15
    """
    run = open_run(run)
    base = preset_for(run, preset)
    if count < MIN_IMAGES:
        raise UsageError(f"--count {count}: must be at least {MIN_IMAGES}")
    plan = list(_plan(base, shifts))
    if not plan:
        raise UsageError(f"--shifts: leaves nothing to judge {run.source} by; choose others")
    if out is not None:
        check_writable(Path(out) / "robustness.json")
    own_seed = ROBUSTNESS_SEED_OFFSET + seed
    device = find_device(device)
    answerer, watch = watched(run, device)
    images = count * (len(plan) + 1)
    with (
        for_plain_images(run, answerer, images, workers) as answerer,
        track(f"judging {run.name}", images) as progress,
    ):
        own = evaluate_preset(run, answerer, watch, base, own_seed, count, progress)
        judged = [
            evaluate_preset(run, answerer, watch, at, own_seed, count, progress) for *_, at in plan
        ]
    steps = [
        ShiftStep(
            shift,
            factor,
            metrics_of(run, one, resamples),
            differences(one.truth, {shift: one.outputs, "": own.outputs}, resamples)[0].interval,
        )
        for (shift, factor, _), one in zip(plan, judged, strict=True)
    ]
    first = ShiftStep(None, 1.0, metrics_of(run, own, resamples), None)
    command = f"halometry robustness {run.source} --count {count} --seed {seed}"
    if preset is not None:
        command += f" --preset {base.name}"
    if shifts is not None:
        command += f" --shifts {','.join(shifts)}"
    found = Robustness(run, base, own_seed, count, first, steps, command, device)
    if out is not None:
        write_robustness(found, Path(out))
    return found


def _plan(preset: Preset, shifts: Sequence[str] | None) -> Iterator[tuple[str, float, Preset]]:
    """The steps there are: shift, factor, and the preset moved so far."""
    for name in shifts if shifts is not None else SHIFTS:
        if name not in SHIFTS:
            raise UsageError(f"--shifts {name}: unknown, {did_you_mean(name, SHIFTS)}")
        shift = SHIFTS[name]
        for factor in shift.steps:
            if factor == shift.identity:
                continue
            try:
                moved = shift_preset(preset, name, factor)
            except UsageError as error:  # out of its range, or a law that has no multiple
                logger.info(f"left out: {error}")
                continue
            if moved is not None:
                yield name, factor, moved
            elif shifts is not None:
                raise UsageError(f"--shifts {name}: the preset {preset.name} has none of it")
            else:
                break
