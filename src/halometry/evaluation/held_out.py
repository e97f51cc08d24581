"""The images of a set that a run can and may be judged on: those that it has not learnt from."""

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
    """Which images of a set the run may be judged on.

    Raises:
        DataError: none.
    """
    if isinstance(run, Ensemble):
        return _common_rows(run, data)
    rows, what = _rows_apart(run, data)
    left = exclude_seen_rows(run.lineage(), data, rows)
    if len(left) == 0:
        raise DataError(
            f"{data.source}: the weights that {run.source} was begun from have learnt from all the"
            " images that it could be judged on; give others"
        )
    if len(left) < len(rows):
        what = f"the {len(left):,} images of {data.source} that no weights had learnt from"
    conformal = run.conformal()
    its_own = data.fingerprint == run.config.data.fingerprint  # calibrated on those kept for that
    if conformal is not None and conformal.fingerprint == data.fingerprint and not its_own:
        warn(f"{run.source} was calibrated on images of {data.source}; judge it on others")
    return left, what


def _rows_apart(run: Run | ExportedRun, data: LabeledImages) -> tuple[np.ndarray, str]:
    """Images of a set that the run itself has not learnt from, and what they are."""
    trained = run.config.data
    if data.fingerprint == trained.fingerprint:
        test = np.sort(run.split().test)
        return test, f"{len(test):,} test images kept aside in training"
    if trained.shares_images_with(data):
        return _following(run, data)
    if data.roles is not None and (data.roles == "test").any():
        rows = np.flatnonzero(data.roles == "test")
        return rows, f"the {len(rows):,} test images of {data.source}"
    if Path(data.source).resolve() == Path(trained.path).resolve():
        warn(
            f"{data.source} has changed since {run.source} was trained on it; images it"
            " was trained on are among those it is judged on now"
        )
    return np.arange(len(data)), f"all {len(data):,} images of {data.source}"


def _common_rows(run: Ensemble, data: LabeledImages) -> tuple[np.ndarray, str]:
    """The images that all runs of an ensemble may be judged on.

    Raises:
        DataError: there are none.
    """
    found = [rows_to_evaluate(member, data) for member in run.members]
    rows: np.ndarray = reduce(np.intersect1d, [rows for rows, _ in found])
    if len(rows) == 0:
        raise DataError(
            f"{data.source}: has no image that all of {run.source} were kept from in training;"
            " judge them on other images, or train them on a set with a test part of its own"
        )
    if all(len(part) == len(rows) for part, _ in found):
        return rows, found[0][1]
    return rows, f"the {len(rows):,} images of {data.source} that none of the runs has seen"


def _following(run: Run | ExportedRun, data: LabeledImages) -> tuple[np.ndarray, str]:
    """The new images of a set that was simulated from the preset and seed of the training set.

    Raises:
        DataError: there are none, since a larger set begins with the smaller one's images.
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
