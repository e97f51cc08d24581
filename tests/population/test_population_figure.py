"""Figures of populations: they show the posterior at its place."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import gamma

from halometry.population import MassPosterior
from halometry.population.figure import fractions_figure, masses_figure

NAMES = ("no", "sphere", "vort")


def test_fractions_figure_shows_each_class_at_its_fraction() -> None:
    draws = np.random.default_rng(0).dirichlet([200, 500, 300], 1000)
    panel, triangle = fractions_figure(draws, NAMES).axes
    lines = {line.get_label(): line for line in panel.get_lines()}
    for name, expected in zip(NAMES, (0.2, 0.5, 0.3), strict=True):
        x, y = lines[name].get_data()
        assert x[y.argmax()] == pytest.approx(expected, abs=0.02)
    points = triangle.collections[0].get_offsets()
    corners = {text.get_text(): text.get_position() for text in triangle.texts}
    assert corners.keys() == {"all no", "all sphere", "all vort"}
    x = [corners[f"all {name}"][0] for name in NAMES]
    assert np.mean(points[:, 0]) == pytest.approx(np.dot([0.2, 0.5, 0.3], x), abs=0.01)
    assert np.mean(points[:, 1]) == pytest.approx(0.3 * np.sqrt(3) / 2, abs=0.01)


def test_fractions_figure_marks_the_truth() -> None:
    draws = np.random.default_rng(0).dirichlet([200, 500, 300], 1000)
    panel, triangle = fractions_figure(draws, NAMES, (0.2, 0.5, 0.3)).axes
    dashed = [line for line in panel.get_lines() if line.get_linestyle() == "--"]
    assert [line.get_xdata()[0] for line in dashed if len(line.get_xdata())] == [0.2, 0.5, 0.3]
    (star,) = [line for line in triangle.get_lines() if line.get_marker() == "*"]
    assert star.get_xydata()[0] == pytest.approx([0.5 + 0.15, 0.3 * np.sqrt(3) / 2])


def test_fractions_figure_of_two_classes_has_no_triangle() -> None:
    draws = np.random.default_rng(0).dirichlet([20, 50], 1000)
    assert len(fractions_figure(draws, NAMES[:2]).axes) == 1


def test_masses_figure_shows_mean_and_std_on_their_axes() -> None:
    mean, std = np.linspace(0.03, 0.05, 41), np.linspace(0.005, 0.02, 31)
    likelihood = np.exp(
        -0.5 * ((mean[:, None] - 0.04) / 0.001) ** 2 - 0.5 * ((std - 0.01) / 0.001) ** 2
    )
    posterior = likelihood / likelihood.sum()
    result = MassPosterior("gamma", mean, std, posterior, (0.01, 0.1), 0.03, np.ones(9, bool))
    left, right = masses_figure(result, np.linspace(0.02, 0.06, 9), (0.041, 0.011)).axes
    assert left.get_lines()[0].get_xydata()[0] == pytest.approx([0.041, 0.011])
    vertices = np.concatenate([path.vertices for path in left.collections[0].get_paths()])
    assert vertices.mean(axis=0) == pytest.approx([0.04, 0.01], abs=1e-3)
    inner = left.collections[0].get_paths()[1].vertices[:, 0]  # 68 % of two dimensions: 1.51 sigma
    assert np.ptp(inner) / 2 == pytest.approx(0.00151, rel=0.15)
    (line,) = [line for line in right.get_lines() if str(line.get_label()).startswith("population")]
    x, y = line.get_data()
    expected = gamma((0.04 / 0.01) ** 2, scale=0.01**2 / 0.04).pdf(x)
    np.testing.assert_allclose(y, expected, atol=0.1 * expected.max())
