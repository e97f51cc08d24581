"""Calibration of a run that is finished, without training it again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from halometry.calibration.conformal import Conformal
from halometry.datasets.dataset import LabeledImages
from halometry.datasets.open import open_dataset
from halometry.errors import DataError, UsageError
from halometry.io import check_writable
from halometry.log import logger
from halometry.runs.calibration_fit import Reserved, calibrate_on, halves, reserved, thinned
from halometry.runs.checks import check_compatible
from halometry.runs.exported import SUFFIX
from halometry.runs.lineage import dataset_label, exclude_seen_rows
from halometry.runs.run import CONFORMAL, Run, load_run

FEWEST = 4  # images: two for either part
FEW = 100  # scores of a class, or of masses, below which they promise little


@dataclass(frozen=True)
class Calibration:
    """What `calibrate` found.

    Attributes:
        run: as it is now.
        temperature, bias: of its probabilities; 1 and none for masses.
        conformal: the scores behind its sets and intervals.
    """

    run: Run
    temperature: float
    bias: tuple[float, ...]
    conformal: Conformal


def calibrate(
    run: str | Path | Run, data: str | Path | LabeledImages, device: str = "auto"
) -> Calibration:
    """Calibrate a finished run, as `train` does at its end, and write that into its folder.

    Args:
        run: as `load_run` takes it; its folder must be writable.
        data: the set it was trained on, of which only images are used that the network has not
            learnt from and is not judged on; or another labeled set, of which all are used but
            those that it sets aside for testing: of classes one half for temperature and biases,
            and of the others 2,000 at most for the scores. Do not judge the run on these.
        device: `auto`, `cpu`, or as PyTorch names it.

    Raises:
        RunError, DataError: the run cannot be used, or not with these images.
        UsageError: it is an exported file, or came with the package or from the Hub.
        StorageError: the folder cannot be written.

    Example:
        >>> calibrate("runs/kinds", "lenses.h5").temperature  # doctest: +SKIP
        1.24
    """
    if not isinstance(run, Run):
        if Path(run).suffix == SUFFIX:
            raise UsageError(f"{run}: calibrate the run that it was made of, and export it again")
        run = load_run(run)
    run.check_own()
    labeled = data if isinstance(data, LabeledImages) else open_dataset(data)
    check_compatible(run, labeled)
    check_writable(run.path / CONFORMAL)
    conformal = calibrate_on(run, labeled, _parts(run, labeled), device)
    fewest = min(len(scores) for scores in conformal.scores)
    if fewest < FEW:
        of = " of one class" if run.config.class_names else ""
        logger.info(
            f"{run.source}: calibrated on {fewest} images{of}; that few tell little, give {FEW}"
        )
    if (run.path / "README.md").is_file():
        logger.info(f"{run.source}: its card is of before; 'halometry publish' writes another")
    made = load_run(run.path)
    return Calibration(made, made.config.temperature, made.config.bias, conformal)


def _parts(run: Run, data: LabeledImages) -> Reserved:
    """Which images of a set may calibrate a run.

    Raises:
        DataError: there are too few of them.
    """
    trained = run.config.data
    if data.fingerprint == trained.fingerprint:
        return reserved(run.split())
    begin = trained.images if trained.shares_images_with(data) else 0
    rows = np.arange(begin, len(data))
    if data.roles is not None:
        rows = rows[data.roles[begin:] != "test"]
    rows = exclude_seen_rows(run.lineage(), data, rows)
    if len(rows) < FEWEST:
        raise DataError(
            f"{data.source}: has {len(rows)} images to calibrate with, once those that"
            f" {run.source} learnt from and those set aside for testing are left out; give others"
        )
    where = dataset_label(data.source, data.attributes.get("preset"), data.attributes.get("seed"))
    if run.config.task == "regression":  # nothing is fitted to masses
        fitted, scored = rows[:0], rows
    else:
        fitted, scored = halves(rows)
    return Reserved(fitted, thinned(scored), f"images of {where}", True)
