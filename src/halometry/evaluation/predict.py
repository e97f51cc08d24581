"""Prediction of a run for a user's own images: one row per image, unreadable files included."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import numpy as np

from halometry.calibration.prediction_sets import PredictionSets
from halometry.datasets.inputs import ImageInput, read_inputs
from halometry.datasets.readers import Image
from halometry.errors import ReadError
from halometry.evaluation.predictions import Prediction, make_predictions, write_predictions
from halometry.io import check_writable
from halometry.log import track, with_progress
from halometry.parallel import Workers, check_workers
from halometry.runs.ood import DETECTOR, PredictWithOOD, predict_with_ood
from halometry.runs.open import AnyRun, open_run
from halometry.runs.prediction_sets import prediction_sets_for
from halometry.runs.run import Run


@with_progress
def predict(
    run: str | Path | AnyRun,
    files: ImageInput,
    *,
    out: str | Path | None = None,
    batch_size: int = 64,
    device: str = "auto",
    coverage: float | None = None,
    workers: Workers = 1,
    progress: bool = True,
) -> list[Prediction]:
    """Apply a trained run to images.

    Args:
        run: a run, as `load_run` takes it, or an .onnx file that `export` made from one; or
            several of these, separated by commas, whose mean is taken.
        files: images (.npy, pictures, FITS), HDF5 data sets, or folders of these; or an array of
            one image, (H, W) or (C, H, W), or of several, (B, H, W) or (B, C, H, W).
        out: a CSV file for the prediction table; its columns are described in
            `halometry.evaluation.predictions.COLUMNS`.
        batch_size: images per batch.
        device: `auto`, `cpu`, or as PyTorch names it.
        coverage: coverage of the conformal prediction sets or intervals; 0.9 if not given.
        workers: processes that compute mass maps, where the run takes them as input; `auto` is
            one per core.
        progress: whether to show progress bars.

    Returns:
        One prediction per image, in order; that of a file that cannot be used has its `error`.

    Raises:
        DataError: there is no image at all.
        RunError: the run cannot be used, or a coverage is given and it is not calibrated.
        UsageError: the coverage is not between 0 and 1; an invalid number of processes.
    """
    run = open_run(run)
    check_workers(workers)
    sets = prediction_sets_for(run, coverage)
    mapped = run.config.data.mass_map_preset is not None
    images, total = read_inputs(files, 1 if mapped else run.config.data.shape[0])
    if out is not None:
        check_writable(Path(out))
    predict_fn = predict_with_ood(run, device)
    predictions: list[Prediction] = []
    with ExitStack() as stack, track(f"predicting with {run.name}", total) as tracker:
        if mapped:
            from halometry.runs.mapped_inputs import mapped_images

            images = stack.enter_context(mapped_images(run, images, total, workers))
        while batch := list(islice(images, batch_size)):
            predictions += _predict_batch(run, predict_fn, sets, batch)
            tracker.advance(len(batch))
    if out is not None:
        set_coverage = sets.coverage if sets else None
        has_detector = isinstance(run, Run) and (run.path / DETECTOR).is_file()
        write_predictions(Path(out), run, predictions, coverage=set_coverage, ood=has_detector)
    return predictions


def _predict_batch(
    run: AnyRun,
    predict_fn: PredictWithOOD,
    sets: PredictionSets | None,
    batch: list[Image | ReadError],
) -> list[Prediction]:
    """Predictions for one batch of files, in order; images of one shape are evaluated together."""
    predictions: dict[int, Prediction] = {}
    by_shape: dict[tuple[int, ...], dict[int, Image]] = {}
    for i, item in enumerate(batch):
        if isinstance(item, ReadError):
            predictions[i] = Prediction(item.path, error=item.reason)
            continue
        reason = run.config.incompatibility(item.pixels.shape, item.mass_map_preset)
        if reason is not None:
            predictions[i] = Prediction(str(item.path), error=reason)
        else:
            by_shape.setdefault(item.pixels.shape, {})[i] = item
    for group in by_shape.values():
        outputs, ood = predict_fn(np.stack([image.pixels for image in group.values()]))
        paths = [str(image.path) for image in group.values()]
        made = make_predictions(run, paths, outputs, sets=sets, ood=ood)
        predictions |= dict(zip(group, made, strict=True))
    return [predictions[i] for i in range(len(batch))]
