"""Figure of fits: which array is shown in which panel, and where substructure is drawn."""

from __future__ import annotations

import numpy as np

from halometry.lensfit.figure import RESIDUAL_RANGE_SIGMA, FitPanel, fit_figure


def test_fit_figure_shows_residual_substructure_and_mass_map_in_their_panels() -> None:
    data, model, residual = np.random.default_rng(0).random((3, 6, 6))
    convergence = np.arange(9.0).reshape(3, 3)
    panel = FitPanel(
        title="lens",
        data=data,
        model=model,
        residual=residual,
        pixel_scale=0.5,
        reduced_chi2=1.01,
        lines=[(-1.0, -0.5, 1.0, 0.5)],
        points=[(0.25, -0.75, 0.1)],
        convergence=convergence,
    )
    _, _, residuals, substructure, mass_map = fit_figure([panel]).axes[:5]
    np.testing.assert_array_equal(residuals.images[0].get_array(), residual)
    assert residuals.images[0].get_clim() == (-RESIDUAL_RANGE_SIGMA, RESIDUAL_RANGE_SIGMA)
    np.testing.assert_array_equal(mass_map.images[0].get_array(), convergence)
    assert residuals.images[0].get_extent() == [-1.5, 1.5, -1.5, 1.5]
    assert residuals.images[0].origin == "lower"
    (x, y) = substructure.lines[0].get_data()
    assert ([*x], [*y]) == ([-1.0, 1.0], [-0.5, 0.5])
    assert substructure.patches[0].get_center() == (0.25, -0.75)
