"""Coverage of the intervals of `population`, and their widths.

    python research/population_coverage.py --work runs/population --out results/population.json

Classes: 200 populations with random class fractions. Their lenses are taken from a pool of new
images with predictions of a network; a population contains each image at most once. Masses: 200
populations whose posteriors are exact, from Gaussian measurements; the training set has a gamma
distribution with the mean and the standard deviation of the published mass set. With
`--mass-run RUN`, a run with posteriors, also populations of masses from a pool of that run's
preset, thinned to gamma distributions. `--masses-from FILE` takes the populations of masses from an
earlier result instead. The pool is kept in `--work`, so that the same command continues after an
interruption. `research/population_figures.py` draws an example of each.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from scipy.special import ndtr
from scipy.stats import beta, gamma

import halometry
from halometry.calibration.posterior import CREDIBLE_LEVELS
from halometry.datasets.store import open_store
from halometry.evaluation.bootstrap import binomial_interval
from halometry.evaluation.prediction_table import read_predictions
from halometry.evaluation.predictions import QUANTILE_COLUMNS
from halometry.io import write_json
from halometry.population import PosteriorSummary, fraction_posterior, mass_posterior
from halometry.population.density import density_from_quantiles, label_quantiles
from halometry.population.masses import QUANTILE_SCORES
from halometry.provenance import provenance
from halometry.runs.training_data import labels_of_run, preset_of_run

SIZES = (10, 100, 1000)  # lenses of a population
PART_IMAGES = 480  # simulated and predicted at a time
POOL_SEED = 3_000_000  # far from the seeds of training and evaluation
ERROR = 0.0075  # of the exact masses' measurements: R² 0.74, as good as the best networks
MEANS, STDS = (0.035, 0.05), (0.005, 0.0125)  # of exact populations, within its masses
NETWORK_MEANS, NETWORK_STDS = (0.036, 0.047), (0.008, 0.014)  # of those thinned from a pool
TRAINING = (0.0417, 0.0146)  # mean and std of the published mass set's labels
N_LABELS = 20_000
DRAWS = 2048  # of a posterior


@dataclass(frozen=True)
class Trial:
    """One quantity of a population.

    Attributes:
        true: its true value.
        summary: its posterior.
        certain_width: width of the 68 % interval if the class of each lens were certain.
    """

    true: float
    summary: PosteriorSummary
    certain_width: float | None = None


Trials = dict[int, list[dict[str, Trial]]]  # by number of lenses: populations, and quantities


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for intermediate results")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--run", default="common_test_1/d4net", help="run for classification")
    parser.add_argument("--mass-run", help="run for regression with posteriors")
    parser.add_argument("--masses-from", type=Path, help="earlier result with masses")
    parser.add_argument("--pool", type=int, default=4800, help="images of the pool")
    parser.add_argument("--populations", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    count, seed = options.populations, options.seed
    names, predictions, true = simulate_pool(options.run, options.pool, options.work)
    classes = {n: list(class_trials(names, predictions, true, n, count, seed)) for n in SIZES}
    parts = {f"classes, {options.run}": _part(classes)}
    command = "python research/population_coverage.py --work runs/population"
    earlier: dict[str, Any] = {}
    if options.masses_from:
        earlier = json.loads(options.masses_from.read_text(encoding="utf-8"))
        command += f" --masses-from {options.masses_from}"
        parts |= {name: part for name, part in earlier["parts"].items() if "masses" in name}
    else:
        exact = {n: list(exact_mass_trials(n, count, seed)) for n in SIZES}
        parts["masses, exact posteriors"] = _part(exact)
        if options.mass_run:
            command += f" --mass-run {options.mass_run}"
            masses = {n: list(network_mass_trials(options, n)) for n in SIZES}
            parts[f"masses, {Path(options.mass_run).name}"] = _part(masses)
    if options.pool != parser.get_default("pool"):
        command += f" --pool {options.pool}"
    record = {
        "what": "fraction of populations whose true value lies in the intervals of `population`,"
        " and widths of the intervals",
        "command": f"{command} --out results/population.json",
        **provenance(),
        "threads": 1,
        "run": options.run,
        "pool": options.pool,
        "pool_fractions": dict(zip(names, _class_fractions(true).tolist(), strict=True)),
        "pool_mean_probabilities": dict(zip(names, predictions.mean(axis=0).tolist(), strict=True)),
        "populations": count,
        "seed": seed,
        "masses": {key: earlier[key] for key in ("command", "date", "machine") if key in earlier},
        "rows": _rows(parts),
        "parts": parts,
    }
    write_json(options.out, "measurement", record)
    print("\n".join(" | ".join(row) for row in _rows(parts)))


def _class_fractions(true: np.ndarray) -> np.ndarray:
    return np.bincount(true) / len(true)


def simulate_pool(
    run: str, size: int, work: Path
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Predictions for new images of a run's preset: column names, values (N, k), labels (N,)."""
    trained = halometry.load_run(run)
    preset = preset_of_run(trained)
    file = work / f"{Path(run).as_posix().replace('/', '_')}.jsonl"
    parts = [json.loads(line) for line in file.open()] if file.exists() else []
    with file.open("a") as log:
        while len(parts) * PART_IMAGES < size:
            with TemporaryDirectory() as folder:
                store, table = Path(folder) / "part.h5", Path(folder) / "predictions.csv"
                halometry.simulate(
                    preset, PART_IMAGES, seed=POOL_SEED + len(parts), out=store, device="cpu"
                )
                halometry.predict(trained, store, out=table, device="cpu")
                with open_store(store) as opened:
                    labels = opened["labels"][:].tolist()
                read = read_predictions(table)
                values = read.quantiles if read.probabilities is None else read.probabilities
            assert values is not None
            parts.append({"values": values.tolist(), "labels": labels})
            log.write(json.dumps(parts[-1]) + "\n")
            log.flush()
            print(f"{len(parts) * PART_IMAGES} of {size} predicted", flush=True)
    predictions = np.array([row for part in parts for row in part["values"]])[:size]
    true = np.array([label for part in parts for label in part["labels"]])[:size]
    return trained.config.class_names or QUANTILE_COLUMNS, predictions, true


def class_trials(
    names: tuple[str, ...],
    predictions: np.ndarray,
    true: np.ndarray,
    size: int,
    count: int,
    seed: int,
) -> Iterator[dict[str, Trial]]:
    """Populations with random class fractions, drawn from a pool without replacement."""
    rng = np.random.default_rng([seed, size])
    members = [np.flatnonzero(true == k) for k in range(len(names))]
    equal = np.full(len(names), 1 / len(names))
    for trial in range(count):
        fractions = rng.dirichlet(np.ones(len(names)))
        numbers = rng.multinomial(size, fractions)
        rows = [
            rng.choice(rows, n, replace=False) for rows, n in zip(members, numbers, strict=True)
        ]
        posterior = fraction_posterior(
            predictions[np.concatenate(rows)], equal, draws=DRAWS, seed=trial
        )
        widths = _certain_widths(numbers)
        trials = map(Trial, fractions.tolist(), posterior.summaries(), widths)
        yield dict(zip(names, trials, strict=True))


def _certain_widths(numbers: np.ndarray) -> list[float]:
    """Widths of the 68 % intervals if the class of each lens is certain."""
    posteriors = beta(numbers + 1, numbers.sum() - numbers + len(numbers) - 1)
    low, high = posteriors.interval(CREDIBLE_LEVELS["68"])
    return list((high - low).tolist())


def gamma_distribution(mean: float, std: float) -> Any:
    """Gamma distribution with a mean and a standard deviation."""
    return gamma((mean / std) ** 2, scale=std**2 / mean)


def exact_labels() -> np.ndarray:
    """Training set of the exact posteriors: equidistant quantiles of its distribution."""
    return gamma_distribution(*TRAINING).ppf((np.arange(N_LABELS) + 0.5) / N_LABELS)


def exact_quantiles(masses: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Quantiles (N, 5) of the exact posteriors of measured masses, by sums over a grid."""
    grid = np.linspace(0, 0.15, 1501)[1:]
    measured = masses + ERROR * rng.standard_normal(len(masses))
    likelihood = np.exp(-0.5 * ((measured[:, None] - grid) / ERROR) ** 2)
    posterior = likelihood * gamma_distribution(*TRAINING).pdf(grid)
    cumulative = np.cumsum(posterior, axis=1) - posterior / 2
    cumulative /= posterior.sum(axis=1, keepdims=True)
    return np.array([np.interp(ndtr(QUANTILE_SCORES), row, grid) for row in cumulative])


def exact_mass_trials(size: int, count: int, seed: int) -> Iterator[dict[str, Trial]]:
    """Gamma populations with random mean and std, measured with Gaussian errors."""
    rng, labels = np.random.default_rng([seed, size]), exact_labels()
    for _ in range(count):
        mean, std = rng.uniform(*MEANS), rng.uniform(*STDS)
        masses = gamma_distribution(mean, std).rvs(size, random_state=rng)
        posterior = mass_posterior(exact_quantiles(masses, rng), labels, "the training set")
        yield _mass_trial(mean, std, posterior.summaries())


def network_mass_trials(options: argparse.Namespace, size: int) -> Iterator[dict[str, Trial]]:
    """The same with predictions of a network: a pool thinned to gamma distributions."""
    _, predictions, true = simulate_pool(options.mass_run, options.pool, options.work)
    labels = labels_of_run(halometry.load_run(options.mass_run))
    values, scores = label_quantiles(labels, "the training set")
    (pool_density,) = density_from_quantiles(values[None], scores, true)
    rng = np.random.default_rng([options.seed, size])
    remaining = options.populations
    while remaining:
        mean, std = rng.uniform(*NETWORK_MEANS), rng.uniform(*NETWORK_STDS)
        is_inside = (true > values[0]) & (true < values[-1])
        ratio = np.where(is_inside, gamma_distribution(mean, std).pdf(true) / pool_density, 0)
        accepted = np.flatnonzero(rng.uniform(size=len(true)) < ratio / ratio.max())
        if len(accepted) < size:
            continue
        rows = rng.choice(accepted, size, replace=False)
        posterior = mass_posterior(predictions[rows], labels, "the training set")
        yield _mass_trial(mean, std, posterior.summaries())
        remaining -= 1


def _mass_trial(mean: float, std: float, summaries: list[PosteriorSummary]) -> dict[str, Trial]:
    return {"mean": Trial(mean, summaries[0]), "std": Trial(std, summaries[1])}


def _part(trials: Trials) -> dict[str, Any]:
    """Coverage with binomial 95 % intervals, and median widths, by number and quantity."""
    return {
        str(size): {name: _coverage([trial[name] for trial in each]) for name in each[0]}
        for size, each in trials.items()
    }


def _coverage(trials: list[Trial]) -> dict[str, Any]:
    widths = [trial.summary.hi68 - trial.summary.lo68 for trial in trials]
    certain = [trial.certain_width for trial in trials if trial.certain_width is not None]
    coverage: dict[str, Any] = {}
    for level in CREDIBLE_LEVELS:
        ends = [(*trial.summary.interval(level), trial.true) for trial in trials]
        inside = sum(low <= true <= high for low, high, true in ends)
        coverage[level] = binomial_interval(inside, len(trials)).to_dict()
    return coverage | {
        "width_68": float(np.median(widths)),
        "width_68_certain": float(np.median(certain)) if certain else None,
    }


def _rows(parts: dict[str, dict[str, Any]]) -> list[list[str]]:
    rows = [["population of", "", "lenses", "coverage of 68 % intervals",
             "coverage of 95 % intervals", "width of 68 % intervals",
             "width if classes were certain"]]  # fmt: skip
    for what, part in parts.items():
        for name in next(iter(part.values())):
            for size in SIZES:
                coverage = part[str(size)][name]
                certain = coverage["width_68_certain"]
                cells = [_format_interval(coverage[level]) for level in CREDIBLE_LEVELS]
                cells += [f"{coverage['width_68']:.2g}", f"{certain:.2g}" if certain else ""]
                rows.append([what, name, f"{size:,}", *cells])
    return rows


def _format_interval(interval: dict[str, float]) -> str:
    return f"{interval['value']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"


if __name__ == "__main__":
    main()
