"""Whether posteriors mean what they say: how likely they made the truth, how often they hold it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from halometry.calibration.posterior import CREDIBLE_LEVELS, Posterior
from halometry.evaluation.bootstrap import Interval, binomial_interval, bootstrap

PIT_BINS = 20
CREDIBILITY_LEVELS = np.linspace(0, 1, 41)  # levels of the expected coverage
THIRD_NAMES = ("lightest", "middle", "heaviest")


def posterior_metrics(
    truth: np.ndarray, posterior: Posterior, resamples: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Figures of merit of posteriors.

    Args:
        truth: mass fractions (N,).
        posterior: of these images.
        resamples: of the bootstrap.
        seed: of the resampling.

    Returns:
        `nll`, minus the mean logarithm of the density at the truth, in nats, for densities of the
        mass fraction; `crps`, in mass fractions; and `coverage_68` and `coverage_95`, the shares
        of images whose truth lies in the interval, with Clopper & Pearson's.

    Reference:
        Gneiting & Raftery (2007), JASA 102, 359: the first two are proper scores, which on average
        are best for the posterior that is right.
    """
    estimates = {}
    for name, losses in (("nll", -posterior.log_density(truth)), ("crps", posterior.crps(truth))):
        mean = float(losses.mean())
        groups = [np.arange(len(truth))]
        estimates[name] = bootstrap(_mean_of(losses), groups, mean, resamples, seed)
    held = interval_contains(truth, posterior)
    return estimates | {
        f"coverage_{name}": binomial_interval(int(hits.sum()), len(truth))
        for name, hits in held.items()
    }


def _mean_of(losses: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return lambda rows: losses[rows].mean(axis=1)


def interval_contains(truth: np.ndarray, posterior: Posterior) -> dict[str, np.ndarray]:
    """Whether the truth lies in the intervals of 68 and 95 %, boolean (N,) each."""
    reached = posterior.central_credibility(truth)
    return {name: reached <= level for name, level in CREDIBLE_LEVELS.items()}


def coverage_rows(truth: np.ndarray, posterior: Posterior) -> list[dict[str, Any]]:
    """The coverage of the intervals for all images, and for each third of them.

    Thirds have equally many images, in the order of the true mass, and of the posterior's median.
    Only in the latter a right posterior holds the truth as often as it says: an image of one of
    the heaviest lenses looks, on average, like one of a lighter lens, which is more frequent.

    Returns:
        Rows with `by` (`all`, `truth` or `median`), `third`, `count`, and for each level an
        `Estimate` as a dictionary.
    """
    held = interval_contains(truth, posterior)
    parts = [("all", "all", np.arange(len(truth)))]
    for by, values in (("truth", truth), ("median", posterior.median)):
        for third, rows in zip(THIRD_NAMES, np.array_split(np.argsort(values), 3), strict=True):
            parts.append((by, third, rows))
    return [
        {"by": by, "third": third, "count": len(rows)}
        | {
            name: binomial_interval(int(hits[rows].sum()), len(rows)).to_dict()
            for name, hits in held.items()
        }
        for by, third, rows in parts
        if len(rows)
    ]


def posterior_record(truth: np.ndarray, posterior: Posterior) -> dict[str, Any]:
    """What `metrics.json` and `results.json` hold of posteriors, enough for their figure.

    Returns:
        `count`; `pit`, images in each of 20 equal parts of the probability below the truth;
        `expected_coverage`, for each of the levels `level` the share of images whose truth is in
        the region of highest density; and `coverage`, see `coverage_rows`.
    """
    pit, _ = np.histogram(posterior.pit(truth), PIT_BINS, (0, 1))
    credibility = np.sort(posterior.highest_density_credibility(truth))
    held = np.searchsorted(credibility, CREDIBILITY_LEVELS, side="right") / len(truth)
    return {
        "count": len(truth),
        "pit": pit.tolist(),
        "expected_coverage": {
            "level": CREDIBILITY_LEVELS.round(4).tolist(),
            "share": held.round(6).tolist(),
        },
        "coverage": coverage_rows(truth, posterior),
    }
