"""A run's answers for the images in some rows of a set."""

from __future__ import annotations

import numpy as np

from halometry.calibration.posterior import Posterior
from halometry.datasets.dataset import LabeledImages
from halometry.log import track
from halometry.runs.open import AnyRun
from halometry.runs.run import Answerer


def answers_to(
    answerer: Answerer, data: LabeledImages, rows: np.ndarray, doing: str, batch_size: int = 64
) -> np.ndarray:
    """What a network says of some images, as it is.

    Args:
        answerer: maps raw images to answers.
        data: the set.
        rows: positions of the images (N,), in any order, at least one.
        doing: what the progress bar says.
        batch_size: images at a time.

    Returns:
        Probabilities (N, K), mass fractions (N,) or their densities (N, G), float64, in the
        order of the rows.
    """
    order = np.argsort(rows, kind="stable")  # files are read in order
    answers = []
    with track(doing, len(rows)) as progress:
        for part in np.array_split(rows[order], -(-len(rows) // batch_size)):
            images = np.ascontiguousarray(data.images[part])
            answers.append(answerer(images).astype(np.float64))
            progress.advance(len(part))
    back = np.argsort(order)
    return np.concatenate(answers)[back]


def posterior_of(run: AnyRun, answers: np.ndarray) -> Posterior | None:
    """A run's answers (N, G) as posteriors; None where its answers are something else."""
    grid = run.config.grid
    return None if grid is None else Posterior(grid, answers)


def points_of(run: AnyRun, answers: np.ndarray) -> np.ndarray:
    """A run's answers with each posterior replaced by its mean (N,); others as they are."""
    posterior = posterior_of(run, answers)
    return answers if posterior is None else posterior.mean
