"""The command `population`: properties of a population from the prediction table of its lenses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from halometry.errors import DataError, UsageError, did_you_mean
from halometry.evaluation.prediction_table import PredictionTable, read_predictions
from halometry.io import check_writable, write_json, write_table
from halometry.log import logger, warn
from halometry.plotting import save_figure
from halometry.population.figure import fractions_figure, masses_figure
from halometry.population.fractions import FractionPosterior, fraction_posterior
from halometry.population.masses import MASS_DISTRIBUTIONS, MassPosterior, mass_posterior
from halometry.population.prior import prior_class_fractions, prior_masses
from halometry.population.summary import PosteriorSummary
from halometry.provenance import command, provenance

MAX_FRACTION_OUTSIDE = 0.05  # of a population outside the prior's support, without a warning


@dataclass(frozen=True)
class Population:
    """Inferred properties of a population of lenses.

    Attributes:
        predictions: path of the prediction table.
        n_lenses: number of lenses used.
        n_excluded: rows without a prediction, or with a mass outside the prior's support.
        prior: description of the training set's labels.
        summaries: of each class's fraction; or of `mean` and `std` of the masses.
        argmax_fraction: fraction of lenses whose most probable class is each class, for
            comparison; None for masses.
        posterior: of the fractions as draws, or of mean and standard deviation on a grid.
        medians: predicted mass of each lens used (N,); None for classes.
        truth: true values of the summarized quantities, if the table has true labels, as that of
            `evaluate`.
    """

    predictions: str
    n_lenses: int
    n_excluded: int
    prior: str
    summaries: dict[str, PosteriorSummary]
    argmax_fraction: dict[str, float] | None
    posterior: FractionPosterior | MassPosterior
    medians: np.ndarray | None = None
    truth: dict[str, float] | None = None


def infer_population(
    predictions: str | Path,
    *,
    prior: str | Path | Mapping[str, float] | None = None,
    out: str | Path | None = None,
    mass_distribution: str = "gamma",
    seed: int = 0,
) -> Population:
    """Infer class fractions, or mean and standard deviation of the masses, of a population.

    Args:
        predictions: prediction table that `predict` or `evaluate` wrote, with class
            probabilities, or with masses and their intervals.
        prior: training set of the network; its label distribution is divided out. A run, a
            preset, a labeled dataset, or a CSV file with a column `f_sub`. For classes also
            their fractions, as `no=1,sphere=1,vort=1` or a mapping; None for equal fractions.
        out: folder for `population.json`, `population.csv` and `population.png`.
        mass_distribution: assumed distribution of the masses, `gamma` or `log_normal`.
        seed: of the Markov chain, for classes.

    Raises:
        DataError: the predictions cannot be used.
        UsageError: masses without `prior`; an unknown prior or mass distribution.

    Example:
        >>> population = infer_population(
        ...     "predictions.csv", prior="common_test_1/d4net")  # doctest: +SKIP
        >>> population.summaries["sphere"].median  # doctest: +SKIP
        0.41
    """
    if mass_distribution not in MASS_DISTRIBUTIONS:
        hint = did_you_mean(mass_distribution, MASS_DISTRIBUTIONS)
        raise UsageError(f"--mass-distribution {mass_distribution}: {hint}")
    path = Path(predictions)
    table = read_predictions(path)
    is_used = table.has_prediction
    if not is_used.any():
        raise DataError(f"{path}: none of its rows has a prediction")
    _warn_about_ood(table, is_used)
    if out is not None:
        check_writable(Path(out) / "population.json")
    if table.probabilities is not None:
        population = _infer_fractions(path, table, is_used, prior, seed)
    else:
        population = _infer_masses(path, table, is_used, prior, mass_distribution)
    if out is not None:
        write_population(population, Path(out))
    return population


def _warn_about_ood(table: PredictionTable, is_used: np.ndarray) -> None:
    reasons = np.array(table.ood_reasons or [""] * len(table)) != ""
    if count := int((reasons & is_used).sum()):
        warn(
            f"{count} of {int(is_used.sum())} lenses are out of distribution; they are included"
            " (remove their rows from the table to exclude them)"
        )


def _infer_fractions(
    path: Path,
    table: PredictionTable,
    is_used: np.ndarray,
    prior: str | Path | Mapping[str, float] | None,
    seed: int,
) -> Population:
    assert table.class_names is not None
    assert table.probabilities is not None
    names, probabilities = table.class_names, table.probabilities[is_used]
    training_fractions, description = prior_class_fractions(prior, names)
    posterior = fraction_posterior(probabilities, training_fractions, seed=seed)
    best = probabilities.argmax(axis=1)
    return Population(
        str(path),
        len(probabilities),
        len(table) - len(probabilities),
        description,
        dict(zip(names, posterior.summaries(), strict=True)),
        {name: float((best == k).mean()) for k, name in enumerate(names)},
        posterior,
        truth=_true_fractions(table, is_used),
    )


def _true_fractions(table: PredictionTable, is_used: np.ndarray) -> dict[str, float] | None:
    """Fraction of the used lenses in each true class; None if a true class is missing."""
    names = table.class_names or ()
    true = np.array(table.true or [""] * len(table))[is_used]
    fractions = {name: float((true == name).mean()) for name in names}
    return fractions if np.isin(true, names).all() else None


def _infer_masses(
    path: Path,
    table: PredictionTable,
    is_used: np.ndarray,
    prior: str | Path | Mapping[str, float] | None,
    mass_distribution: str,
) -> Population:
    if table.quantiles is None:
        raise DataError(
            f"{path}: has masses without intervals; 'halometry population' needs predictions of a"
            " run with posteriors"
        )
    if prior is None or isinstance(prior, Mapping):
        raise UsageError(
            f"{path}: masses need --prior, the training set of the network: the run that made the"
            " predictions, its preset, a labeled dataset, or a CSV file with a column f_sub"
        )
    quantiles = table.quantiles[is_used]
    labels, description = prior_masses(prior)
    posterior = mass_posterior(quantiles, labels, str(prior), mass_distribution)
    quantiles = quantiles[posterior.is_used]
    truth = None
    if table.true_masses is not None and not np.isnan(table.true_masses[is_used]).any():
        true = table.true_masses[is_used][posterior.is_used]
        truth = {"mean": float(true.mean()), "std": float(true.std())}
    if outside := int((~posterior.is_used).sum()):
        low, high = posterior.prior_support
        logger.info(
            f"{outside} {'lens' if outside == 1 else 'lenses'} excluded: outside the masses of the"
            f" training set, {low:.3g} to {high:.3g}"
        )
    for end in posterior.truncations():
        warn(f"the posterior is truncated by the prior, {end}")
    if (fraction := posterior.fraction_outside_support()) > MAX_FRACTION_OUTSIDE:
        warn(
            f"{100 * fraction:.0f} % of the population is outside the masses of the training set;"
            " this part rests on the assumed mass distribution alone"
        )
    return Population(
        str(path),
        len(quantiles),
        len(table) - len(quantiles),
        description,
        dict(zip(("mean", "std"), posterior.summaries(), strict=True)),
        None,
        posterior,
        quantiles[:, quantiles.shape[1] // 2],
        truth,
    )


def write_population(population: Population, out: Path) -> None:
    """Write `population.json`, `population.csv` and `population.png`.

    Raises:
        StorageError: no room or no permission.
    """
    write_json(out / "population.json", "population", population_record(population))
    columns = ["quantity", *next(iter(population.summaries.values())).to_dict()]
    rows = [
        [name, *(f"{value:.6g}" for value in summary.to_dict().values())]
        for name, summary in population.summaries.items()
    ]
    write_table(out / "population.csv", "population", columns, rows)
    truth = tuple(population.truth.values()) if population.truth else None
    if isinstance(population.posterior, FractionPosterior):
        figure = fractions_figure(population.posterior.draws, list(population.summaries), truth)
    else:
        assert population.medians is not None
        figure = masses_figure(population.posterior, population.medians, truth)
    save_figure(figure, out / "population.png")


def population_record(population: Population) -> dict[str, Any]:
    """Return the content of `population.json` without its header."""
    posterior = population.posterior
    if isinstance(posterior, FractionPosterior):
        details: dict[str, Any] = {
            "task": "classification",
            "argmax_fraction": population.argmax_fraction,
            "effective_sample_size": posterior.effective_sample_size,
        }
    else:
        details = {
            "task": "regression",
            "mass_distribution": posterior.mass_distribution,
            "prior_support": list(posterior.prior_support),
            "max_std": posterior.max_std,
        }
    return {
        "command": command(),
        **provenance(),
        "predictions": population.predictions,
        "n_lenses": population.n_lenses,
        "n_excluded": population.n_excluded,
        "prior": population.prior,
        **details,
        "posterior": {name: summary.to_dict() for name, summary in population.summaries.items()},
        "truth": population.truth,
    }
