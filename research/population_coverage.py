"""Whether `population` holds the truth as often as it says, and how its intervals shrink.

    python research/population_coverage.py --work runs/population --out results/population.json

200 populations with class fractions drawn at random, their lenses taken from a pool of fresh
images that a network has answered (each once in a population, so that every population is one of
independent lenses); and 200 populations of masses whose posteriors are exact: Gaussian
measurements under a gamma law with the mean and spread of the published mass set's labels. With
`--mass-run RUN`, whose head gives posteriors, also populations of masses from a pool of that run's
preset, thinned to gamma laws.
`--figures FOLDER` has the program draw an example of each. Repeat the command to go on after a
stop.
"""

from __future__ import annotations

import argparse
import csv
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
from halometry.calibration.posterior import LEVELS
from halometry.datasets.store import open_store
from halometry.evaluation.bootstrap import binomial_interval
from halometry.population import Summary, class_fractions, mass_population
from halometry.population.density import density, quantiles_of
from halometry.population.masses import SCORES
from halometry.population.reading import QUANTILES, read_answers
from halometry.provenance import provenance
from halometry.runs.training_data import labels_of_run, preset_of_run

SIZES = (10, 100, 1000)
PART = 480  # images made and answered at a time
POOL_SEED = 3_000_000  # far from those that networks are trained and judged with
ERROR = 0.0075  # of the exact masses' measurements: R² 0.74, as good as the best networks
MEANS, SPREADS = (0.035, 0.05), (0.005, 0.0125)  # of exact populations, within its masses
NETWORK_MEANS, NETWORK_SPREADS = (0.036, 0.047), (0.008, 0.014)  # of those thinned from a pool
TRAINING = (0.0417, 0.0146)  # mean and spread of the published mass set's labels
LABELS = 20_000
DRAWS = 2048  # of a posterior; enough for shares of 200


@dataclass(frozen=True)
class Trial:
    """A quantity of a population: its truth and its posterior.

    Attributes:
        certain: width of the 68 % interval were each lens's class certain.
    """

    truth: float
    found: Summary
    certain: float | None = None


Trials = dict[int, list[dict[str, Trial]]]  # by number of lenses: populations, and quantities


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="a folder for what is done")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file to write")
    parser.add_argument("--run", default="common_test_1/d4net", help="of classes")
    parser.add_argument("--mass-run", help="of masses, with posteriors")
    parser.add_argument("--pool", type=int, default=4800, help="images")
    parser.add_argument("--populations", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--figures", type=Path, help="a folder for two examples")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    count, seed = options.populations, options.seed
    names, answers, truth = pool_of(options.run, options.pool, options.work)
    classes = {n: list(of_classes(names, answers, truth, n, count, seed)) for n in SIZES}
    exact = {n: list(of_exact_masses(n, count, seed)) for n in SIZES}
    parts = {f"classes, {options.run}": classes, "masses, exact posteriors": exact}
    command = "python research/population_coverage.py --work runs/population"
    if options.mass_run:
        command += f" --mass-run {options.mass_run}"
        masses = {n: list(of_network_masses(options, n)) for n in SIZES}
        parts[f"masses, {Path(options.mass_run).name}"] = masses
    if options.pool != parser.get_default("pool"):
        command += f" --pool {options.pool}"
    record = {
        "what": "share of populations whose truth lies in the intervals of `population`, and the"
        " intervals' widths",
        "command": f"{command} --out results/population.json",
        **provenance(),
        "threads": 1,
        "run": options.run,
        "pool": options.pool,
        "pool_shares": dict(zip(names, _shares(truth).tolist(), strict=True)),
        "pool_mean_probabilities": dict(zip(names, answers.mean(axis=0).tolist(), strict=True)),
        "populations": count,
        "seed": seed,
        "rows": _rows(parts),
        "parts": {name: _part(trials) for name, trials in parts.items()},
    }
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print("\n".join(" | ".join(row) for row in record["rows"]))
    if options.figures:
        examples(options, names, answers, truth)


def _shares(truth: np.ndarray) -> np.ndarray:
    return np.bincount(truth) / len(truth)


def pool_of(run: str, size: int, work: Path) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """What `predict` says of fresh images of a run's preset: columns, values (N, k), labels."""
    trained = halometry.load_run(run)
    preset = preset_of_run(trained)
    file = work / f"{Path(run).as_posix().replace('/', '_')}.jsonl"
    done = [json.loads(line) for line in file.open()] if file.exists() else []
    with file.open("a") as kept:
        while len(done) * PART < size:
            with TemporaryDirectory() as folder:
                store, answers = Path(folder) / "part.h5", Path(folder) / "answers.csv"
                halometry.simulate(
                    preset, PART, seed=POOL_SEED + len(done), out=store, device="cpu"
                )
                halometry.predict(trained, store, out=answers, device="cpu")
                with open_store(store) as opened:
                    labels = opened["labels"][:].tolist()
                values = read_answers(answers).values.tolist()
            done.append({"values": values, "labels": labels})
            kept.write(json.dumps(done[-1]) + "\n")
            kept.flush()
            print(f"{len(done) * PART} of {size} answered", flush=True)
    answered = np.array([row for part in done for row in part["values"]])[:size]
    labeled = np.array([label for part in done for label in part["labels"]])[:size]
    return trained.config.class_names or QUANTILES, answered, labeled


def of_classes(
    names: tuple[str, ...], answers: np.ndarray, truth: np.ndarray, size: int, count: int, seed: int
) -> Iterator[dict[str, Trial]]:
    """Populations with random class fractions, taken from a pool without putting back."""
    rng = np.random.default_rng([seed, size])
    of_class = [np.flatnonzero(truth == k) for k in range(len(names))]
    equal = np.full(len(names), 1 / len(names))
    for trial in range(count):
        fractions = rng.dirichlet(np.ones(len(names)))
        numbers = rng.multinomial(size, fractions)
        rows = [
            rng.choice(rows, n, replace=False) for rows, n in zip(of_class, numbers, strict=True)
        ]
        found = class_fractions(answers[np.concatenate(rows)], equal, draws=DRAWS, seed=trial)
        certain = _certain_widths(numbers)
        told = map(Trial, fractions.tolist(), found.summaries(), certain)
        yield dict(zip(names, told, strict=True))


def _certain_widths(numbers: np.ndarray) -> list[float]:
    """Of the 68 % intervals where so many lenses are of each class for certain."""
    laws = beta(numbers + 1, numbers.sum() - numbers + len(numbers) - 1)
    low, high = laws.interval(LEVELS["68"])
    return list((high - low).tolist())


def law_of(mean: float, spread: float) -> Any:
    """The gamma law with a mean and a standard deviation."""
    return gamma((mean / spread) ** 2, scale=spread**2 / mean)


def exact_labels() -> np.ndarray:
    """The training set of exact posteriors: equally likely steps of its law."""
    return law_of(*TRAINING).ppf((np.arange(LABELS) + 0.5) / LABELS)


def exact_quantiles(masses: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Quantiles (N, 5) of the posteriors of measured masses under the training law, by sums."""
    at = np.linspace(0, 0.15, 1501)[1:]
    measured = masses + ERROR * rng.standard_normal(len(masses))
    posterior = np.exp(-0.5 * ((measured[:, None] - at) / ERROR) ** 2) * law_of(*TRAINING).pdf(at)
    reached = np.cumsum(posterior, axis=1) - posterior / 2
    reached /= posterior.sum(axis=1, keepdims=True)
    return np.array([np.interp(ndtr(SCORES), one, at) for one in reached])


def of_exact_masses(size: int, count: int, seed: int) -> Iterator[dict[str, Trial]]:
    """Populations of gamma laws with random mean and spread, measured with Gaussian errors."""
    rng, labels = np.random.default_rng([seed, size]), exact_labels()
    for _ in range(count):
        mean, spread = rng.uniform(*MEANS), rng.uniform(*SPREADS)
        masses = law_of(mean, spread).rvs(size, random_state=rng)
        found = mass_population(exact_quantiles(masses, rng), labels, "the training set")
        yield _truth(mean, spread, found.summaries())


def of_network_masses(options: argparse.Namespace, size: int) -> Iterator[dict[str, Trial]]:
    """The same from a network's answers: a pool thinned to gamma laws."""
    _, answers, truth = pool_of(options.mass_run, options.pool, options.work)
    labels = labels_of_run(halometry.load_run(options.mass_run))
    values, scores = quantiles_of(labels, "the training set")
    (before,) = density(values[None], scores, truth)
    rng = np.random.default_rng([options.seed, size])
    left = options.populations
    while left:
        mean, spread = rng.uniform(*NETWORK_MEANS), rng.uniform(*NETWORK_SPREADS)
        inside = (truth > values[0]) & (truth < values[-1])
        ratio = np.where(inside, law_of(mean, spread).pdf(truth) / before, 0)
        accepted = np.flatnonzero(rng.uniform(size=len(truth)) < ratio / ratio.max())
        if len(accepted) < size:
            continue
        rows = rng.choice(accepted, size, replace=False)
        found = mass_population(answers[rows], labels, "the training set")
        yield _truth(mean, spread, found.summaries())
        left -= 1


def _truth(mean: float, spread: float, found: list[Summary]) -> dict[str, Trial]:
    return {"mean": Trial(mean, found[0]), "spread": Trial(spread, found[1])}


def _part(trials: Trials) -> dict[str, Any]:
    """Coverage with binomial 95 % intervals, and median widths, by number and quantity."""
    return {
        str(size): {name: _told([one[name] for one in each]) for name in each[0]}
        for size, each in trials.items()
    }


def _told(trials: list[Trial]) -> dict[str, Any]:
    widths = [one.found.high_68 - one.found.low_68 for one in trials]
    certain = [one.certain for one in trials if one.certain is not None]
    return {
        **{level: _share(trials, level) for level in LEVELS},
        "width_68": float(np.median(widths)),
        "width_68_certain": float(np.median(certain)) if certain else None,
    }


def _share(trials: list[Trial], level: str) -> dict[str, float]:
    ends = [(getattr(one.found, f"low_{level}"), getattr(one.found, f"high_{level}"), one.truth)
            for one in trials]  # fmt: skip
    inside = sum(low <= truth <= high for low, high, truth in ends)
    return binomial_interval(inside, len(trials)).to_dict()


def _rows(parts: dict[str, Trials]) -> list[list[str]]:
    rows = [["population of", "", "lenses", "within 68 %", "within 95 %", "width of the 68 %",
             "were classes certain"]]  # fmt: skip
    for what, trials in parts.items():
        part = _part(trials)
        for name in next(iter(part.values())):
            for size in SIZES:
                one = part[str(size)][name]
                certain = one["width_68_certain"]
                cells = [_text(one[level]) for level in LEVELS]
                cells += [f"{one['width_68']:.2g}", f"{certain:.2g}" if certain else ""]
                rows.append([what, name, f"{size:,}", *cells])
    return rows


def _text(share: dict[str, float]) -> str:
    return f"{share['value']:.3f} [{share['low']:.3f}, {share['high']:.3f}]"


def examples(
    options: argparse.Namespace, names: tuple[str, ...], answers: np.ndarray, truth: np.ndarray
) -> None:
    """What the verb draws of 300 lenses: a fifth `no`, half `sphere`, and of exact masses."""
    rng = np.random.default_rng(options.seed)
    rows = [np.flatnonzero(truth == k)[:n] for k, n in enumerate((60, 150, 90))]
    masses = law_of(0.05, 0.01).rvs(300, random_state=rng)
    labels = options.work / "labels.csv"
    np.savetxt(labels, exact_labels(), header="f_sub", comments="")
    tables = {
        "classes": (["class", *names], answers[np.concatenate(rows)], None),
        "masses": ([*QUANTILES], exact_quantiles(masses, rng), labels),
    }
    for what, (header, values, prior) in tables.items():
        file = options.work / f"{what}.csv"
        with file.open("w", newline="") as opened:
            writer = csv.writer(opened)
            writer.writerow(header)
            best = [[names[k]] if what == "classes" else [] for k in values.argmax(axis=1) % 3]
            writer.writerows([*one, *row] for one, row in zip(best, values, strict=True))
        found = halometry.infer_population(file, prior, options.work / what)
        print(what, found.summaries)
        drawn = (options.work / what / "population.png").read_bytes()
        (options.figures / f"population_{what}.png").write_bytes(drawn)


if __name__ == "__main__":
    main()
