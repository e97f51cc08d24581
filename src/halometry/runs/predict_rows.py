"""Predictions of a run for rows of a dataset."""

from __future__ import annotations

import numpy as np

from halometry.calibration.posterior import Posterior
from halometry.datasets.dataset import LabeledImages
from halometry.log import track
from halometry.parallel import Workers
from halometry.runs.mapped_inputs import input_rows
from halometry.runs.open import AnyRun


def predict_rows(
    run: AnyRun,
    data: LabeledImages,
    rows: np.ndarray,
    *,
    device: str = "auto",
    batch_size: int = 64,
    point: bool = False,
    workers: Workers = "auto",
    description: str | None = None,
) -> np.ndarray:
    """Predict some images of a dataset; a run on mass maps gets these from the cache.

    Args:
        run: the run.
        data: dataset whose images fit the run.
        rows: rows of the images (N,), in any order, at least one.
        device: `auto`, `cpu`, or as PyTorch names it.
        batch_size: images in a batch.
        point: replace each posterior by its mean.
        workers: processes that compute mass maps; `auto` takes one a core.
        description: text of the progress bar; `predicting with NAME` if None.

    Returns:
        Probabilities (N, K), mass fractions (N,) or densities of these (N, G), float64, in the
        order of `rows`.

    Raises:
        RunError, UsageError: see `Run.predict_fn`.
        DataError, StorageError, UnavailableError: mass maps cannot be computed.
    """
    predict = run.predict_fn(device)
    images, rows = input_rows(run, data, rows, workers)
    order = np.argsort(rows, kind="stable")  # files are read in order
    batches = []
    with track(description or f"predicting with {run.name}", len(rows)) as progress:
        for part in np.array_split(rows[order], -(-len(rows) // batch_size)):
            batches.append(predict(np.ascontiguousarray(images[part])).astype(np.float64))
            progress.advance(len(part))
    predictions = np.concatenate(batches)[np.argsort(order)]
    return point_predictions(run, predictions) if point else predictions


def posterior_of(run: AnyRun, predictions: np.ndarray) -> Posterior | None:
    """Return a run's predictions (N, G) as posteriors; None where the run predicts none."""
    grid = run.config.grid
    return None if grid is None else Posterior(grid, predictions)


def point_predictions(run: AnyRun, predictions: np.ndarray) -> np.ndarray:
    """Replace posteriors (N, G) by their means (N,); return other predictions as they are."""
    posterior = posterior_of(run, predictions)
    return predictions if posterior is None else posterior.mean
