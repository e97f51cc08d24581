"""The verb `population`: what many lenses say together, from the answers of `predict`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from halometry import __version__
from halometry.errors import UsageError, did_you_mean
from halometry.io import check_writable, write_table, write_text
from halometry.log import logger, warn
from halometry.plotting import save_figure
from halometry.population.figure import fractions_figure, masses_figure
from halometry.population.fractions import Fractions, class_fractions
from halometry.population.masses import LAWS, MassPopulation, mass_population
from halometry.population.prior import class_shares, mass_labels
from halometry.population.reading import MASS, QUANTILES, Answers, read_answers
from halometry.population.summary import Summary

MUCH = 0.05  # of a population beyond what the training set tells of, worth a word


@dataclass(frozen=True)
class Population:
    """What many lenses say together.

    Attributes:
        predictions: the file with what a network said of each.
        lenses: how many of them count.
        left_out: rows without an answer, or whose mass is none of the training set's.
        prior: what the network had been trained on, in words.
        summaries: of each class's fraction; or of the `mean` and the `spread` of the masses.
        called: share of lenses called each class, for comparison; None of masses.
        posterior: of fractions as weighted draws, or of masses on a grid.
    """

    predictions: str
    lenses: int
    left_out: int
    prior: str
    summaries: dict[str, Summary]
    called: dict[str, float] | None
    posterior: Fractions | MassPopulation


def infer_population(
    predictions: str | Path,
    prior: str | Path | Mapping[str, float] | None = None,
    out: str | Path | None = None,
    law: str = "gamma",
    seed: int = 0,
) -> Population:
    """Infer a population from what a network said of its lenses one by one.

    Args:
        predictions: a CSV file that `predict` wrote: class probabilities, or masses with
            intervals.
        prior: what the network was trained on, which is divided out: a run, a preset, a labeled
            set, or a CSV file with a column `f_sub`. For classes also their shares, as
            `no=1,sphere=1,vort=1` or a mapping; equal ones if not given.
        out: a folder for `population.json`, `population.csv` and `population.png`.
        law: of the masses, `gamma` or `log_normal`.
        seed: of the draws, for classes.

    Raises:
        DataError: the predictions cannot be used.
        UsageError: masses without `prior`; a prior or a law that is not known.

    Example:
        >>> found = population("predictions.csv", "common_test_1/d4net")  # doctest: +SKIP
        >>> found.summaries["sphere"].median  # doctest: +SKIP
        0.41
    """
    if law not in LAWS:
        raise UsageError(f"--law {law}: {did_you_mean(law, LAWS)}")
    answers = read_answers(Path(predictions))
    if answers.unusual:
        warn(
            f"{answers.unusual} of {len(answers.values)} lenses are unlike the training"
            " set; what they say counts all the same (take them out of the file if it should not)"
        )
    if out is not None:
        check_writable(Path(out) / "population.json")
    if answers.names is not None:
        found = _classes(str(predictions), answers, answers.names, prior, seed)
    else:
        found = _masses(str(predictions), answers, prior, law)
    if out is not None:
        write_population(found, Path(out), answers)
    return found


def _classes(
    path: str,
    answers: Answers,
    names: tuple[str, ...],
    prior: str | Path | Mapping[str, float] | None,
    seed: int,
) -> Population:
    shares, told = class_shares(prior, names)
    fractions = class_fractions(answers.values, shares, seed=seed)
    best = answers.values.argmax(axis=1)
    called = {name: float((best == k).mean()) for k, name in enumerate(names)}
    summaries = dict(zip(names, fractions.summaries(), strict=True))
    count = len(answers.values)
    return Population(path, count, answers.left_out, told, summaries, called, fractions)


def _masses(
    path: str, answers: Answers, prior: str | Path | Mapping[str, float] | None, law: str
) -> Population:
    if prior is None or isinstance(prior, Mapping):
        raise UsageError(
            f"{path}: masses need --prior, which is divided out of them: the run that gave them, or"
            " its preset, its training set, or a CSV file with a column f_sub"
        )
    labels, told = mass_labels(prior)
    masses = mass_population(answers.values, labels, str(prior), law)
    count, outside = int(masses.used.sum()), int((~masses.used).sum())
    if outside:
        low, high = masses.known
        lenses = "lens" if outside == 1 else "lenses"
        logger.info(
            f"{outside} {lenses} left out: the training set tells of {low:.3g} to {high:.3g} only"
        )
    for end in masses.cut():
        warn(f"only {end} were possible beforehand, and the posterior ends there too")
    if (beyond := masses.beyond()) > MUCH:
        warn(f"{100 * beyond:.0f} % of the population is beyond what the training set"
            " tells of; its law there is the assumed one")  # fmt: skip
    summaries = dict(zip(("mean", "spread"), masses.summaries(), strict=True))
    return Population(path, count, answers.left_out + outside, told, summaries, None, masses)


def write_population(found: Population, out: Path, answers: Answers) -> None:
    """Write `population.json`, `population.csv` and `population.png`.

    Raises:
        StorageError: no room or no permission.
    """
    write_text(out / "population.json", json.dumps(record_of(found), indent=1) + "\n")
    columns = ["quantity", *next(iter(found.summaries.values())).to_dict()]
    rows = [
        [name, *(f"{value:.6g}" for value in summary.to_dict().values())]
        for name, summary in found.summaries.items()
    ]
    write_table(out / "population.csv", "population", columns, rows)
    if isinstance(found.posterior, Fractions):
        drawn = fractions_figure(
            found.posterior.draws, found.posterior.weights, list(found.summaries)
        )
    else:
        medians = answers.values[found.posterior.used, QUANTILES.index(MASS)]
        masses, density = found.posterior, LAWS[found.posterior.law].density
        drawn = masses_figure(
            masses.mean, masses.spread, masses.posterior, density, masses.known, medians
        )
    save_figure(drawn, out / "population.png")


def record_of(found: Population) -> dict[str, object]:
    """What `population.json` holds."""
    posterior = found.posterior
    if isinstance(posterior, Fractions):
        kind: dict[str, object] = {
            "of": "classes",
            "called": found.called,
            "effective_draws": posterior.effective,
        }
    else:
        kind = {"of": "masses", "law": posterior.law, "known": list(posterior.known)}
        kind["widest"] = posterior.widest
    return {
        "format": "halometry-population",
        "version": 1,
        "predictions": found.predictions,
        "lenses": found.lenses,
        "left_out": found.left_out,
        "prior": found.prior,
        **kind,
        "posterior": {name: one.to_dict() for name, one in found.summaries.items()},
        "halometry": __version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
