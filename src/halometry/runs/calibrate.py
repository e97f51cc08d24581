"""Calibration of a run: temperature, class biases, and conformal scores."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from halometry.calibration.conformal import Conformal, write_conformal
from halometry.calibration.posterior import Posterior
from halometry.calibration.temperature import apply_temperature, fit_temperature
from halometry.datasets.dataset import LabeledImages
from halometry.datasets.open import open_dataset
from halometry.datasets.splits import Split
from halometry.errors import DataError, UsageError
from halometry.io import check_writable
from halometry.log import logger, with_progress
from halometry.parallel import Workers
from halometry.runs.checks import check_compatible
from halometry.runs.exported import ONNX_SUFFIX
from halometry.runs.lineage import dataset_label, exclude_seen_rows
from halometry.runs.predict_rows import predict_rows
from halometry.runs.run import CONFORMAL, Run, load_run, write_config
from halometry.seeds import CALIBRATION_ENTROPY

MIN_IMAGES = 4  # calibration images: two for the temperature and two for the scores
MIN_RELIABLE_SCORES = 100  # scores of a class, or of masses; fewer give a wide spread of coverage
MAX_IMAGES = 2000  # images for the temperature, and as many for the scores; bounds the time


@dataclass(frozen=True)
class Calibration:
    """Result of `calibrate`.

    Attributes:
        run: the calibrated run.
        temperature, bias: calibration of its probabilities; 1 and empty for masses.
        conformal: its conformal scores.
    """

    run: Run
    temperature: float
    bias: tuple[float, ...]
    conformal: Conformal


@dataclass(frozen=True)
class CalibrationRows:
    """Rows of a dataset that a run is calibrated with.

    Attributes:
        temperature_rows: rows for the temperature and the biases (int64).
        conformal_rows: rows for the conformal scores (int64).
        description: what the images of the latter are.
        held_out: whether the latter were used for nothing else.
    """

    temperature_rows: np.ndarray
    conformal_rows: np.ndarray
    description: str
    held_out: bool = True


@with_progress
def calibrate(
    run: str | Path | Run,
    data: str | Path | LabeledImages,
    *,
    device: str = "auto",
    workers: Workers = "auto",
    progress: bool = True,
) -> Calibration:
    """Calibrate a finished run, as `train` does at its end, and write the result to its folder.

    Args:
        run: as `load_run` takes it; its folder must be writable.
        data: the dataset that it was trained on, of which validation and calibration images are
            used; or another labeled dataset, of which all images are used but its test images:
            for classes one half for temperature and biases, and of the others at most 2,000 for
            the conformal scores. Do not evaluate the run on these. If the run takes mass maps,
            those of plain images are computed once, into the cache.
        device: `auto`, `cpu`, or as PyTorch names it.
        workers: processes that compute mass maps; `auto` takes one for each core.
        progress: whether to show progress bars.

    Raises:
        RunError, DataError: the run cannot be used, or not with these images.
        UsageError: it is an exported file, or came with the package or from the Hub.
        StorageError: the folder cannot be written to.

    Example:
        >>> calibrate("runs/classes", "lenses.h5").temperature  # doctest: +SKIP
        1.24
    """
    if not isinstance(run, Run):
        if Path(run).suffix == ONNX_SUFFIX:
            raise UsageError(f"{run}: calibrate the run that it was made of, and export it again")
        run = load_run(run)
    run.check_writable()
    labeled = data if isinstance(data, LabeledImages) else open_dataset(data)
    check_compatible(run, labeled)
    check_writable(run.path / CONFORMAL)
    conformal = fit_calibration(run, labeled, _rows_of(run, labeled), device, workers)
    smallest = min(len(scores) for scores in conformal.scores)
    if smallest < MIN_RELIABLE_SCORES:
        of_class = " of one class" if run.config.class_names else ""
        logger.info(
            f"{run.source}: calibrated on {smallest} images{of_class}, which are few; give"
            f" {MIN_RELIABLE_SCORES}"
        )
    if (run.path / "README.md").is_file():
        logger.info(
            f"{run.source}: its card describes the run before this calibration; 'halometry publish'"
            " writes another"
        )
    calibrated = load_run(run.path)
    config = calibrated.config
    return Calibration(calibrated, config.temperature, config.bias, conformal)


def calibration_rows(split: Split) -> CalibrationRows:
    """Return the validation images for the temperature, and the calibration images for scores.

    Small datasets have no calibration images; validation images then take their place.
    """
    if len(split.calibration):
        description = "images held out of the training set for this"
        return CalibrationRows(
            subsample(split.validation), subsample(split.calibration), description
        )
    temperature_rows, conformal_rows = split_in_half(split.validation)
    description = "images of the training set, which also chose the checkpoint"
    return CalibrationRows(
        subsample(temperature_rows), subsample(conformal_rows), description, held_out=False
    )


def _rows_of(run: Run, data: LabeledImages) -> CalibrationRows:
    """Return the rows of a dataset that may calibrate a run.

    Raises:
        DataError: there are too few.
    """
    trained = run.config.data
    if data.fingerprint == trained.fingerprint:
        return calibration_rows(run.split())
    begin = trained.images if trained.shares_images_with(data) else 0
    rows = np.arange(begin, len(data))
    if data.roles is not None:
        rows = rows[data.roles[begin:] != "test"]
    rows = exclude_seen_rows(run.lineage(), data, rows)
    if len(rows) < MIN_IMAGES:
        raise DataError(
            f"{data.source}: has {len(rows)} images to calibrate with, without test images and"
            f" those that {run.source} was trained on; give others"
        )
    label = dataset_label(data.source, data.attributes.get("preset"), data.attributes.get("seed"))
    if run.config.task == "regression":  # masses have no temperature
        temperature_rows, conformal_rows = rows[:0], rows
    else:
        temperature_rows, conformal_rows = split_in_half(rows)
    return CalibrationRows(temperature_rows, subsample(conformal_rows), f"images of {label}")


def split_in_half(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split rows into two random halves, each sorted."""
    shuffled = np.random.default_rng(CALIBRATION_ENTROPY).permutation(rows)
    first, second = np.array_split(shuffled, 2)
    return np.sort(first), np.sort(second)


def subsample(rows: np.ndarray) -> np.ndarray:
    """Return at most `MAX_IMAGES` rows, evenly spaced."""
    if len(rows) <= MAX_IMAGES:
        return rows
    return rows[np.linspace(0, len(rows) - 1, MAX_IMAGES).round().astype(int)]


def fit_calibration(
    run: Run, data: LabeledImages, rows: CalibrationRows, device: str, workers: Workers = "auto"
) -> Conformal:
    """Fit temperature, biases and conformal scores, and write them to the run folder.

    Args:
        run: run with its weights written.
        data: labeled images that fit it.
        rows: rows to use.
        device: `auto`, `cpu`, or as PyTorch names it.
        workers: processes that compute mass maps, if the run takes these.

    Returns:
        The conformal scores.

    Raises:
        StorageError: the folder cannot be written to.
    """
    plain = replace(run, config=run.config.model_copy(update={"temperature": 1.0, "bias": ()}))
    is_classification = run.config.task == "classification"
    fitted, scored = rows.temperature_rows, rows.conformal_rows
    needed = np.concatenate([fitted, scored]) if is_classification else scored
    predictions = predict_rows(
        plain,
        data,
        needed,
        device=device,
        workers=workers,
        description=f"calibrating {run.name}",
    )
    temperature, bias = 1.0, tuple[float, ...]()
    if is_classification:
        temperature, bias = _fit_rounded(
            data.labels[fitted], predictions[: len(fitted)], run.config.class_weights
        )
        predictions = apply_temperature(predictions[len(fitted) :], temperature, bias)
    grid = run.config.grid
    conformal = Conformal.fit(
        data.labels[scored],
        predictions if grid is None else Posterior(grid, predictions),
        images=f"{len(scored):,} {rows.description}",
        fingerprint=data.fingerprint,
        held_out=rows.held_out,
    )
    # Scores must not stand beside a temperature that they do not belong to, if this is interrupted.
    (run.path / CONFORMAL).unlink(missing_ok=True)
    update = {"temperature": temperature, "bias": bias}
    write_config(run.path, run.config.model_copy(update=update))
    write_conformal(run.path / CONFORMAL, conformal)
    return conformal


def _fit_rounded(
    truth: np.ndarray, probabilities: np.ndarray, class_weights: tuple[float, ...]
) -> tuple[float, tuple[float, ...]]:
    """Fit temperature and biases, rounded for the reader of `config.yaml`."""
    temperature, bias = fit_temperature(truth, probabilities, class_weights=class_weights)
    return round(temperature, 4), tuple(round(b, 4) for b in bias)
