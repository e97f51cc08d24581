"""Images of a data set on which a run may be evaluated: images that it was not trained on."""

from __future__ import annotations

from functools import reduce
from pathlib import Path

import numpy as np

from halometry.datasets.dataset import LabeledImages
from halometry.errors import DataError
from halometry.log import warn
from halometry.runs.ensemble import Ensemble
from halometry.runs.exported import ExportedRun
from halometry.runs.lineage import exclude_seen_rows
from halometry.runs.open import AnyRun
from halometry.runs.run import Run


def rows_to_evaluate(run: AnyRun, data: LabeledImages) -> tuple[np.ndarray, str]:
    """Positions of the images of a data set on which a run may be evaluated.

    Returns:
        Positions (N,), in rising order, and a description of these images.

    Raises:
        DataError: there are none.
    """
    if isinstance(run, Ensemble):
        return _rows_of_ensemble(run, data)
    candidates, description = _rows_not_trained_on(run, data)
    rows = exclude_seen_rows(run.lineage(), data, candidates)
    if len(rows) == 0:
        raise DataError(
            f"{data.source}: all its test images were training images of the weights that"
            f" {run.source} was initialized from; give another data set"
        )
    if len(rows) < len(candidates):
        description = f"the {len(rows):,} images of {data.source} that no weights were trained on"
    conformal = run.conformal()
    is_training_set = data.fingerprint == run.config.data.fingerprint
    if conformal is not None and conformal.fingerprint == data.fingerprint and not is_training_set:
        warn(
            f"{run.source} was calibrated on images of {data.source}; its calibration and coverage"
            " look too good there, so evaluate it on another data set"
        )
    return rows, description


def _rows_not_trained_on(run: Run | ExportedRun, data: LabeledImages) -> tuple[np.ndarray, str]:
    """Images of a data set that the run itself was not trained on, and their description."""
    trained = run.config.data
    if data.fingerprint == trained.fingerprint:
        test = np.sort(run.split().test)
        return test, f"{len(test):,} held-out test images"
    if trained.shares_images_with(data):
        return _rows_after_training_set(run, data)
    if data.roles is not None and (data.roles == "test").any():
        rows = np.flatnonzero(data.roles == "test")
        return rows, f"the {len(rows):,} test images of {data.source}"
    if Path(data.source).resolve() == Path(trained.path).resolve():
        warn(
            f"{data.source} has changed since {run.source} was trained on it; training images"
            " may be among the images of this evaluation"
        )
    return np.arange(len(data)), f"all {len(data):,} images of {data.source}"


def _rows_of_ensemble(run: Ensemble, data: LabeledImages) -> tuple[np.ndarray, str]:
    """Images on which all members of an ensemble may be evaluated.

    Raises:
        DataError: there are none.
    """
    parts = [rows_to_evaluate(member, data) for member in run.members]
    rows: np.ndarray = reduce(np.intersect1d, [part for part, _ in parts])
    if len(rows) == 0:
        raise DataError(
            f"{data.source}: has no image that none of {run.source} was trained on; evaluate them"
            " on other images, or train them on a data set with a test part of its own"
        )
    if all(len(part) == len(rows) for part, _ in parts):
        return rows, parts[0][1]
    return rows, f"the {len(rows):,} images of {data.source} that none of the runs was trained on"


def _rows_after_training_set(run: Run | ExportedRun, data: LabeledImages) -> tuple[np.ndarray, str]:
    """Images of a data set that continues the training set: same preset and seed, more images.

    Raises:
        DataError: there are none, since all of its images are in the training set.
    """
    trained = run.config.data
    rows = np.arange(trained.images, len(data))
    if len(rows) == 0:
        raise DataError(
            f"{data.source}: its images are among those of the training set (preset"
            f" {trained.preset}, seed {trained.seed}); simulate others with another --seed, or give"
            " the preset another name if you changed it"
        )
    return rows, f"the {len(rows):,} images of {data.source} that follow the training set's"
