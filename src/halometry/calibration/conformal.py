"""Sets of classes and intervals of masses that hold the truth as often as they promise."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Literal

import numpy as np

from halometry.calibration.posterior import Posterior
from halometry.config import StrictModel, validate
from halometry.errors import ConfigError, RunError, UsageError

LEVEL = 0.9  # where none is asked for
DIGITS = 7  # of a score that are kept


class Conformal(StrictModel):
    """What images that nothing was learnt from say of how wrong a predictor can be.

    The score of an image is how badly an answer fits its truth: one minus the probability of its
    class; the distance between predicted and true mass; or, of a posterior, the credibility of the
    central interval that reaches as far as the true mass. Of n images that are exchangeable
    with a new one, and of which nothing was learnt, the ceil((n + 1) L)-th smallest score is not
    exceeded by the new one's with a probability of at least L, whatever the predictor.

    Classes have scores of their own, so that the promise holds for each class, and for any mixture
    of them: lenses need not have the frequencies of the training set. A set may be empty, where no
    class is as credible as L of its own images have it.

    Attributes:
        scores: sorted; a list for each class, or a single one of masses.
        kind: what the scores of masses are. Runs of earlier versions have distances from the means
            of their posteriors, too, and keep them.
        images: what they are of, in words.
        fingerprint: of the set they are from.
        untouched: whether nothing else was chosen or fitted with these images.

    Reference:
        Classes: Sadinle, Lei & Wasserman (2019), https://arxiv.org/abs/1609.00451: of all with
        this coverage of each class the smallest sets on average, if the probabilities are right.
        Masses: Lei et al. (2018), https://arxiv.org/abs/1604.04173, algorithm 2. Posteriors:
        Chernozhukov, Wüthrich & Zhu (2021), https://arxiv.org/abs/1909.07889.
    """

    format: Literal["halometry-conformal"] = "halometry-conformal"
    scores: tuple[tuple[float, ...], ...]
    kind: Literal["distance", "credibility"] = "distance"
    images: str
    fingerprint: str
    untouched: bool

    def thresholds(self, level: float) -> np.ndarray:
        """The scores that are not exceeded with a probability of at least `level`, one a list.

        Infinite where there are too few images to promise as much.

        Raises:
            UsageError: the level is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise UsageError(f"level {level:g}: must lie between 0 and 1, such as 0.9")
        return np.array([_threshold(scores, level) for scores in self.scores])

    def regions(self, answers: np.ndarray | Posterior, level: float) -> np.ndarray:
        """The set of classes, or the interval of masses, of each answer.

        Args:
            answers: probabilities (N, K), mass fractions (N,), or N posteriors.
            level: how often the truth is to be in it.

        Returns:
            Whether each class is in the set, boolean (N, K); or the interval's ends (N, 2), within
            0 to 1, where mass fractions are.
        """
        thresholds = self.thresholds(level)
        if isinstance(answers, Posterior):
            if self.kind == "credibility":
                return _central(answers, thresholds[0])
            answers = answers.mean
        if answers.ndim == 2:
            inside: np.ndarray = class_scores(answers) <= thresholds
            return inside
        ends = answers[:, None] + np.array([-1.0, 1.0]) * thresholds[0]
        return np.clip(ends, 0.0, 1.0)

    def to_json(self) -> str:
        """As a run folder keeps it."""
        return json.dumps(self.model_dump(mode="json")) + "\n"


def _threshold(scores: tuple[float, ...], level: float) -> float:
    count = len(scores)
    place = math.ceil(round((count + 1) * level, 9))  # 0.28 * 25 is more than 7 by rounding
    return scores[place - 1] if place <= count else math.inf


def _central(posterior: Posterior, credibility: float) -> np.ndarray:
    """The central intervals of a credibility (N, 2); all masses where it is 1 or more."""
    if credibility >= 1:  # where the truth was outside a grid, or there were too few images
        return np.tile([0.0, 1.0], (len(posterior), 1))
    return np.clip(posterior.interval(credibility), 0.0, 1.0)


def class_scores(probabilities: np.ndarray) -> np.ndarray:
    """How badly each class fits (N, K): one minus its probability."""
    return np.round(1 - probabilities.astype(np.float64), DIGITS)


def conformal_of(
    truth: np.ndarray,
    answers: np.ndarray | Posterior,
    images: str,
    fingerprint: str,
    untouched: bool,
) -> Conformal:
    """Take the scores of images whose truth is known.

    Args:
        truth: class indices or mass fractions (N,).
        answers: probabilities (N, K), mass fractions (N,), or N posteriors.
        images, fingerprint, untouched: see `Conformal`.

    Example:
        >>> made = conformal_of(np.linspace(0, 0.1, 9), np.full(9, 0.05), "nine", "", True)
        >>> made.regions(np.array([0.06]), 0.8).round(3)
        array([[0.01, 0.11]])
    """
    kind: Literal["distance", "credibility"] = "distance"
    if isinstance(answers, Posterior):
        kind, groups = "credibility", [answers.centrality(truth)]
    elif answers.ndim == 2:
        of_truth = class_scores(answers)[np.arange(len(truth)), truth]
        groups = [of_truth[truth == k] for k in range(answers.shape[1])]
    else:
        groups = [np.abs(answers - truth)]
    scores = tuple(tuple(float(f"{s:.{DIGITS}g}") for s in np.sort(group)) for group in groups)
    return Conformal(
        scores=scores, kind=kind, images=images, fingerprint=fingerprint, untouched=untouched
    )


def parse_conformal(text: str, where: str | Path) -> Conformal:
    """The scores that `to_json` wrote.

    Raises:
        RunError: it is not that.
    """
    try:
        return validate(Conformal, json.loads(text), str(where))
    except (ConfigError, ValueError, TypeError) as error:
        raise RunError(
            f"{where}: cannot be read ({error}); make it again with 'halometry calibrate'"
        ) from error
