"""How the reliability of posteriors looks when they are right and when they are not.

    python research/posterior_toy.py docs/images/posterior_toy.png

Masses with a normal prior, seen with normal noise, have normal posteriors in closed form; made too
narrow, or moved to one side, they are wrong in known ways. 3,000 of them, R² = 0.75.
"""

from __future__ import annotations

import sys

import numpy as np
from scipy.stats import norm

from halometry.calibration.posterior import Grid, Posterior
from halometry.evaluation.posterior_checks import posterior_record
from halometry.evaluation.posterior_figures import posterior_figure
from halometry.plotting import save_figure

COUNT, SEED = 3000, 0
SHARE = 0.75  # R²: of the variance, what the mean of the posterior has
GRID = Grid(low=-5.0, high=5.0)


def main() -> None:
    rng = np.random.default_rng(SEED)
    std = np.sqrt(1 - SHARE)
    mean = np.sqrt(SHARE) * rng.normal(size=COUNT)
    truth = mean + std * rng.normal(size=COUNT)
    kinds = {"right": (0.0, 1.0), "too narrow": (0.0, 0.7), "too light": (-0.5, 1.0)}
    records = {}
    for name, (shift, width) in kinds.items():
        means = (mean + shift * std)[:, None]
        density = norm.pdf(GRID.centers, means, width * std)
        records[name] = posterior_record(truth, Posterior(GRID, density))
    save_figure(posterior_figure(records), sys.argv[1])


if __name__ == "__main__":
    main()
