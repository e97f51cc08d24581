"""Figures of two simulated populations, with their true values.

    python research/population_figures.py --work runs/population

Classes: 300 new images, a fifth `no` and half `sphere`, predicted by a network. Masses: 300 masses
from a gamma distribution, measured with Gaussian errors.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from population_coverage import (
    PART_IMAGES,
    exact_labels,
    exact_quantiles,
    gamma_distribution,
    simulate_pool,
)

import halometry
from halometry.evaluation.predictions import PROBABILITY_PREFIX, QUANTILE_COLUMNS
from halometry.io import write_table
from halometry.plotting import save_figure
from halometry.population import FractionPosterior, MassPosterior
from halometry.population.command import Population
from halometry.population.figure import fractions_figure, masses_figure

COUNTS = (60, 150, 90)  # lenses of each class
MASSES = (0.05, 0.01)  # mean and standard deviation


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for intermediate results")
    parser.add_argument("--run", default="common_test_1/d4net", help="run for classification")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--figures", type=Path, default=Path("docs/images"), help="a folder")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    names, predictions, true = simulate_pool(options.run, PART_IMAGES, options.work)
    rows = [np.flatnonzero(true == k)[:n] for k, n in enumerate(COUNTS)]
    columns = [PROBABILITY_PREFIX + name for name in names]
    population = infer(options.work / "classes.csv", columns, predictions[np.concatenate(rows)])
    assert isinstance(population.posterior, FractionPosterior)
    fractions = [count / sum(COUNTS) for count in COUNTS]
    figure = fractions_figure(population.posterior.draws, names, fractions)
    save_figure(figure, options.figures / "population_classes.png")

    rng = np.random.default_rng(options.seed)
    masses = gamma_distribution(*MASSES).rvs(sum(COUNTS), random_state=rng)
    labels = options.work / "labels.csv"
    np.savetxt(labels, exact_labels(), header="f_sub", comments="")
    quantiles = exact_quantiles(masses, rng)
    population = infer(options.work / "masses.csv", [*QUANTILE_COLUMNS], quantiles, labels)
    assert isinstance(population.posterior, MassPosterior)
    assert population.medians is not None
    figure = masses_figure(population.posterior, population.medians, MASSES)
    save_figure(figure, options.figures / "population_masses.png")


def infer(
    file: Path, columns: list[str], values: np.ndarray, prior: Path | None = None
) -> Population:
    """Write a prediction table and infer its population."""
    cells = [[f"lenses.h5#{k}", *row] for k, row in enumerate(values.tolist())]
    write_table(file, "predictions", ["image", *columns], cells)
    population = halometry.infer_population(file, prior=prior)
    print(file.stem, population.summaries)
    return population


if __name__ == "__main__":
    main()
