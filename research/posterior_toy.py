"""Reliability of posteriors that are calibrated, too narrow, or biased: figure of the docs.

    python research/posterior_toy.py docs/images/posterior_toy.png

For a normal prior and normal noise the posterior is normal. 3,000 such posteriors with R² = 0.75
are shown as they are, too narrow, and shifted.
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
R2 = 0.75  # fraction of the variance that the posterior mean explains
GRID = Grid(low=-5.0, high=5.0)


def main() -> None:
    rng = np.random.default_rng(SEED)
    std = np.sqrt(1 - R2)
    mean = np.sqrt(R2) * rng.normal(size=COUNT)
    truth = mean + std * rng.normal(size=COUNT)
    shifts_and_widths = {"calibrated": (0.0, 1.0), "too narrow": (0.0, 0.7), "biased": (-0.5, 1.0)}
    records = {}
    for name, (shift, width) in shifts_and_widths.items():
        means = (mean + shift * std)[:, None]
        density = norm.pdf(GRID.centers, means, width * std)
        records[name] = posterior_record(truth, Posterior(GRID, density))
    save_figure(posterior_figure(records), sys.argv[1])


if __name__ == "__main__":
    main()
