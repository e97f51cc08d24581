"""Conformal prediction: sets of classes and intervals of masses with a guaranteed coverage."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from halometry.calibration.posterior import Posterior
from halometry.config import StrictModel, validate
from halometry.errors import ConfigError, FormatError, RunError, UsageError
from halometry.io import HEADER_KEYS, read_json, write_json

DEFAULT_COVERAGE = 0.9
SCORE_DIGITS = 7  # significant digits of a stored score

Score = Literal["class_probability", "absolute_residual", "central_credibility"]


class Conformal(StrictModel):
    """Conformal scores of calibration images, from which prediction sets follow.

    The score of an image measures how badly a prediction fits the true label. For n calibration
    images that are exchangeable with a new image, the score of the new image is at most the
    ceil((n + 1) c)-th smallest score with a probability of at least the coverage c, whatever the
    predictor. No model may have been trained or selected with the calibration images.

    Each class has its own scores, so that the coverage holds for each class and for any mixture of
    classes. A set may be empty.

    Attributes:
        score: `class_probability` is one minus the probability of the class; `absolute_residual`
            is the absolute difference between predicted and true mass fraction;
            `central_credibility` is the credibility of a posterior's central interval that ends at
            the true mass fraction.
        scores: sorted scores; one list for each class, or a single list for masses.
        images: description of the calibration images.
        fingerprint: fingerprint of their dataset.
        held_out: whether the images were used for nothing else.

    References:
        Classes: Sadinle, Lei & Wasserman (2019), https://arxiv.org/abs/1609.00451. With correct
        probabilities these are the smallest sets, on average, with this coverage of each class.
        Masses: Lei et al. (2018), https://arxiv.org/abs/1604.04173, algorithm 2. Posteriors:
        Chernozhukov, Wüthrich & Zhu (2021), https://arxiv.org/abs/1909.07889.
    """

    score: Score
    scores: tuple[tuple[float, ...], ...]
    images: str
    fingerprint: str
    held_out: bool

    @classmethod
    def fit(
        cls,
        truth: np.ndarray,
        predictions: np.ndarray | Posterior,
        *,
        images: str,
        fingerprint: str,
        held_out: bool,
    ) -> Conformal:
        """Compute the scores of calibration images.

        Args:
            truth: true class indices or mass fractions (N,).
            predictions: probabilities (N, K), mass fractions (N,), or N posteriors.
            images, fingerprint, held_out: see `Conformal`.

        Example:
            >>> truth, predictions = np.linspace(0, 0.1, 9), np.full(9, 0.05)
            >>> conformal = Conformal.fit(
            ...     truth, predictions, images="nine", fingerprint="", held_out=True
            ... )
            >>> conformal.predict(np.array([0.06]), 0.8).round(3)
            array([[0.01, 0.11]])
        """
        score: Score
        if isinstance(predictions, Posterior):
            score, groups = "central_credibility", [predictions.central_credibility(truth)]
        elif predictions.ndim == 2:
            true_scores = class_scores(predictions)[np.arange(len(truth)), truth]
            score = "class_probability"
            groups = [true_scores[truth == k] for k in range(predictions.shape[1])]
        else:
            score, groups = "absolute_residual", [np.abs(predictions - truth)]
        scores = tuple(tuple(_rounded(s) for s in np.sort(group)) for group in groups)
        return cls(
            score=score, scores=scores, images=images, fingerprint=fingerprint, held_out=held_out
        )

    def thresholds(self, coverage: float) -> np.ndarray:
        """Scores that new images exceed with a probability of at most 1 - coverage, one a list.

        A threshold is infinite where there are too few calibration images for the coverage.

        Raises:
            UsageError: the coverage is not between 0 and 1.
        """
        if not 0 < coverage < 1:
            raise UsageError(f"coverage {coverage:g}: must lie between 0 and 1, such as 0.9")
        return np.array([_threshold(scores, coverage) for scores in self.scores])

    def predict(self, predictions: np.ndarray | Posterior, coverage: float) -> np.ndarray:
        """Return the prediction set or interval of each prediction.

        Args:
            predictions: probabilities (N, K), mass fractions (N,), or N posteriors.
            coverage: probability that a set contains the true class, or an interval the true mass.

        Returns:
            Whether each class is in the set, boolean (N, K); or the ends of the interval (N, 2),
            clipped to the range of mass fractions, 0 to 1.
        """
        thresholds = self.thresholds(coverage)
        if isinstance(predictions, Posterior):
            return _central_intervals(predictions, thresholds[0])
        if predictions.ndim == 2:
            inside: np.ndarray = class_scores(predictions) <= thresholds
            return inside
        ends = predictions[:, None] + np.array([-1.0, 1.0]) * thresholds[0]
        return np.clip(ends, 0.0, 1.0)


def _rounded(score: float) -> float:
    return float(f"{score:.{SCORE_DIGITS}g}")


def _threshold(scores: tuple[float, ...], coverage: float) -> float:
    count = len(scores)
    rank = math.ceil(round((count + 1) * coverage, 9))  # 0.28 * 25 is more than 7 by rounding
    return scores[rank - 1] if rank <= count else math.inf


def _central_intervals(posterior: Posterior, credibility: float) -> np.ndarray:
    """Central intervals of a credibility (N, 2); from 0 to 1 where it is 1 or more."""
    if credibility >= 1:  # a true mass lay outside its grid, or there were too few images
        return np.tile([0.0, 1.0], (len(posterior), 1))
    return np.clip(posterior.interval(credibility), 0.0, 1.0)


def class_scores(probabilities: np.ndarray) -> np.ndarray:
    """Score of each class (N, K): one minus its probability."""
    return np.round(1 - probabilities.astype(np.float64), SCORE_DIGITS)


def write_conformal(path: Path, conformal: Conformal) -> None:
    """Write conformal scores as JSON.

    Raises:
        StorageError: no room or no permission.
    """
    write_json(path, "conformal", conformal.model_dump(mode="json"))


def read_conformal(path: Path) -> Conformal:
    """Read conformal scores that `write_conformal` wrote.

    Raises:
        RunError: the file is missing or damaged.
    """
    try:
        return validate_conformal(read_json(path, "conformal"), path)
    except FormatError as error:
        raise RunError(f"{error}; make it again with 'halometry calibrate'") from error


def validate_conformal(content: Mapping[str, Any], where: str | Path) -> Conformal:
    """Check the keys of a `Conformal`, with or without the header of its file.

    Raises:
        RunError: a key is missing, unknown or wrong.
    """
    keys = {key: value for key, value in content.items() if key not in HEADER_KEYS}
    try:
        return validate(Conformal, keys, str(where))
    except ConfigError as error:
        raise RunError(
            f"{where}: cannot be read ({error}); make it again with 'halometry calibrate'"
        ) from error
