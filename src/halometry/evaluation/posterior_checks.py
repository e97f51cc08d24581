"""Checks of posteriors: proper scores and coverage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from halometry.calibration.posterior import CREDIBLE_LEVELS, Posterior
from halometry.evaluation.bootstrap import Interval, binomial_interval, bootstrap
from halometry.evaluation.records import ExpectedCoverage, PosteriorCoverage, PosteriorRecord

PIT_BINS = 20
CREDIBILITY_LEVELS = np.linspace(0, 1, 41)  # of the expected coverage
Third = Literal["lightest", "middle", "heaviest"]
THIRD_NAMES: tuple[Third, ...] = ("lightest", "middle", "heaviest")


def posterior_metrics(
    truth: np.ndarray, posterior: Posterior, *, resamples: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Metrics of posteriors.

    Args:
        truth: mass fractions (N,).
        posterior: of these images.
        resamples: of the bootstrap.
        seed: of the resampling.

    Returns:
        `nll`, the mean negative log-likelihood in nats, for densities of the mass fraction;
        `crps`, in units of the mass fraction; and `coverage_68` and `coverage_95`, the fractions
        of images whose true mass lies in the central interval, with binomial intervals.

    Reference:
        Gneiting & Raftery (2007), JASA 102, 359: NLL and CRPS are proper scores, whose expectation
        is lowest for the true posterior.
    """
    metrics = {}
    for name, losses in (("nll", -posterior.log_density(truth)), ("crps", posterior.crps(truth))):
        mean = float(losses.mean())
        groups = [np.arange(len(truth))]
        metrics[name] = bootstrap(_mean_of(losses), groups, mean, resamples=resamples, seed=seed)
    covered = interval_contains(truth, posterior)
    return metrics | {
        f"coverage_{name}": binomial_interval(int(hits.sum()), len(truth))
        for name, hits in covered.items()
    }


def _mean_of(losses: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return lambda rows: losses[rows].mean(axis=1)


def interval_contains(truth: np.ndarray, posterior: Posterior) -> dict[str, np.ndarray]:
    """Whether the true mass lies in the central 68 and 95 % intervals, boolean (N,) each."""
    centrality = posterior.central_credibility(truth)
    return {name: centrality <= level for name, level in CREDIBLE_LEVELS.items()}


def coverage_rows(truth: np.ndarray, posterior: Posterior) -> list[PosteriorCoverage]:
    """Coverage of the central intervals for all images, and for each third of them.

    Thirds have equal numbers of images, sorted by the true mass or by the median of the posterior.
    A correct posterior has the nominal coverage in each third by median, but not in each third by
    true mass: regression to the mean lowers the coverage of the lightest and the heaviest third.
    """
    covered = interval_contains(truth, posterior)

    def row(
        by: Literal["all", "truth", "median"], third: Literal["all"] | Third, rows: np.ndarray
    ) -> PosteriorCoverage:
        coverage_68, coverage_95 = (
            binomial_interval(int(covered[name][rows].sum()), len(rows)) for name in CREDIBLE_LEVELS
        )
        return PosteriorCoverage(
            by=by, third=third, count=len(rows), coverage_68=coverage_68, coverage_95=coverage_95
        )

    sorted_by: dict[Literal["truth", "median"], np.ndarray] = {
        "truth": truth,
        "median": posterior.median,
    }
    rows = [row("all", "all", np.arange(len(truth)))]
    for by, values in sorted_by.items():
        parts = np.array_split(np.argsort(values), 3)
        rows += [
            row(by, third, part)
            for third, part in zip(THIRD_NAMES, parts, strict=True)
            if len(part)
        ]
    return rows


def posterior_record(truth: np.ndarray, posterior: Posterior) -> PosteriorRecord:
    """Checks of posteriors: histogram of the PIT, expected coverage, and `coverage_rows`.

    Args:
        truth: mass fractions (N,).
        posterior: of these images.
    """
    pit, _ = np.histogram(posterior.pit(truth), PIT_BINS, (0, 1))
    credibility = np.sort(posterior.highest_density_credibility(truth))
    covered = np.searchsorted(credibility, CREDIBILITY_LEVELS, side="right") / len(truth)
    return PosteriorRecord(
        count=len(truth),
        pit=tuple(pit.tolist()),
        expected_coverage=ExpectedCoverage(
            level=tuple(CREDIBILITY_LEVELS.round(4).tolist()),
            fraction=tuple(covered.round(6).tolist()),
        ),
        coverage=tuple(coverage_rows(truth, posterior)),
    )
