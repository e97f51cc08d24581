"""Conformal prediction: coverage as promised, and the same sets and intervals as MAPIE."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from mapie.classification import SplitConformalClassifier
from mapie.regression import SplitConformalRegressor
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from halometry.calibration.conformal import Conformal, read_conformal, write_conformal
from halometry.calibration.posterior import Grid, Posterior
from halometry.errors import RunError, UsageError

COVERAGES = (0.5, 0.9, 0.95)


class IdentityClassifier(ClassifierMixin, BaseEstimator):
    """A classifier whose inputs are its predicted probabilities."""

    def __init__(self) -> None:
        self.classes_ = np.arange(3)

    def fit(self, X: np.ndarray, y: np.ndarray) -> IdentityClassifier:
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return X.argmax(axis=1)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return X


class IdentityRegressor(RegressorMixin, BaseEstimator):
    """A regressor whose inputs are its predicted masses."""

    def __init__(self) -> None:
        self.fitted_ = True

    def fit(self, X: np.ndarray, y: np.ndarray) -> IdentityRegressor:
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return X[:, 0]


def draw_classes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """True classes, the second twice as frequent, and overconfident probabilities."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, count, p=[0.25, 0.5, 0.25])
    logits = 2 * rng.normal(size=(count, 3))
    logits[np.arange(count), truth] += 3
    odds = np.exp(1.5 * logits)
    return truth, odds / odds.sum(axis=1, keepdims=True)


def draw_masses(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """True mass fractions, and predictions with a skewed error."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.2, 0.6, count)
    return truth, truth + 0.02 * (rng.exponential(size=count) - 1)


def draw_posteriors(
    count: int, seed: int, overconfidence: float = 1.5
) -> tuple[np.ndarray, Posterior]:
    """True mass fractions, and biased normal posteriors of two widths that are too narrow."""
    rng = np.random.default_rng(seed)
    truth, width = rng.uniform(0.2, 0.6, count), rng.choice([0.01, 0.03], count)
    center = truth + width * rng.normal(size=count) + 0.003
    grid = Grid(low=0.0, high=0.8)
    scaled = (grid.centers - center[:, None]) / (width / overconfidence)[:, None]
    return truth, Posterior(grid, np.exp(-0.5 * scaled**2))


def fit(truth: np.ndarray, predictions: np.ndarray | Posterior) -> Conformal:
    return Conformal.fit(truth, predictions, images="images", fingerprint="", held_out=True)


@pytest.mark.filterwarnings("ignore:.*conformalization dataset has less labels")
@pytest.mark.parametrize("coverage", COVERAGES)
@pytest.mark.parametrize("count", [160, 801])
def test_sets_of_each_class_equal_those_of_mapie(coverage: float, count: int) -> None:
    truth, probabilities = draw_classes(count, 1)
    _, new = draw_classes(500, 2)
    sets = fit(truth, probabilities).predict(new, coverage)
    for k in range(3):
        mapie = SplitConformalClassifier(
            IdentityClassifier(), coverage, conformity_score="lac", prefit=True
        )
        mapie.conformalize(probabilities[truth == k], truth[truth == k])
        np.testing.assert_array_equal(sets[:, k], mapie.predict_set(new)[1][:, k, 0])


@pytest.mark.parametrize("coverage", COVERAGES)
@pytest.mark.parametrize("count", [39, 800])
def test_intervals_equal_those_of_mapie(coverage: float, count: int) -> None:
    truth, masses = draw_masses(count, 1)
    _, new = draw_masses(500, 2)
    mapie = SplitConformalRegressor(IdentityRegressor(), coverage, prefit=True)
    mapie.conformalize(masses[:, None], truth)
    expected = mapie.predict_interval(new[:, None])[1][..., 0]
    intervals = fit(truth, masses).predict(new, coverage)
    np.testing.assert_allclose(intervals, np.clip(expected, 0, 1), atol=1e-6)


def test_sets_have_the_coverage_in_each_class() -> None:
    fractions = np.zeros((200, 3))
    for trial in range(200):
        conformal = fit(*draw_classes(400, 2 * trial))
        truth, probabilities = draw_classes(400, 2 * trial + 1)
        inside = conformal.predict(probabilities, 0.9)[np.arange(400), truth]
        fractions[trial] = [inside[truth == k].mean() for k in range(3)]
    means, errors = fractions.mean(axis=0), fractions.std(axis=0) / math.sqrt(200)
    assert (errors < 0.006).all()
    # At least 0.9; and at most 1 / (n + 1) more, of some hundred images in a class.
    assert (means > 0.9 - 3 * errors).all()
    assert (means < 0.92 + 3 * errors).all()


def test_intervals_have_the_coverage() -> None:
    fractions = []
    for trial in range(200):
        truth, masses = draw_masses(200, 2 * trial + 1)
        ends = fit(*draw_masses(100, 2 * trial)).predict(masses, 0.9)
        fractions.append(((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean())
    # The threshold is the 91st of 100 scores, so the coverage is exactly 91 / 101.
    error = np.std(fractions) / math.sqrt(200)
    assert np.mean(fractions) == pytest.approx(91 / 101, abs=3 * error)


def test_intervals_of_overconfident_posteriors_have_the_coverage() -> None:
    conformal_fractions, central_fractions = [], []
    for trial in range(100):
        conformal = fit(*draw_posteriors(99, 2 * trial))
        truth, posterior = draw_posteriors(200, 2 * trial + 1)
        ends = conformal.predict(posterior, 0.8)
        conformal_fractions.append(((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean())
        central_fractions.append((posterior.central_credibility(truth) <= 0.8).mean())
    error = np.std(conformal_fractions) / math.sqrt(100)
    assert np.mean(conformal_fractions) == pytest.approx(0.8, abs=3 * error)
    assert np.mean(central_fractions) < 0.65


def test_intervals_of_posteriors_scale_with_their_width_and_contain_the_median() -> None:
    conformal = fit(*draw_posteriors(500, 1))
    assert conformal.score == "central_credibility"
    _, posterior = draw_posteriors(300, 2)
    ends = conformal.predict(posterior, 0.9)
    widths = (ends[:, 1] - ends[:, 0]) / posterior.std
    assert widths.std() < 0.01 * widths.mean()
    assert ((ends[:, 0] < posterior.median) & (posterior.median < ends[:, 1])).all()
    np.testing.assert_allclose(ends, posterior.interval(conformal.thresholds(0.9)[0]))


def test_true_mass_outside_the_grid_is_outside_every_interval() -> None:
    _, posterior = draw_posteriors(3, 1)
    conformal = fit(np.array([0.3, 0.4, 0.9]), posterior)
    assert conformal.scores[0][-1] == 1
    assert conformal.predict(posterior, 0.75).tolist() == [[0, 1]] * 3


def test_too_few_calibration_images_give_full_sets_and_intervals() -> None:
    truth, probabilities = np.array([0, 0, 1]), np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    conformal = fit(truth, probabilities)
    assert conformal.score == "class_probability"
    assert conformal.predict(probabilities, 0.9).all()
    assert conformal.thresholds(0.6).tolist() == [0.2, math.inf]
    masses = fit(np.array([0.1]), np.array([0.2]))
    assert masses.score == "absolute_residual"
    assert masses.predict(np.array([0.3]), 0.9).tolist() == [[0, 1]]


def test_higher_coverage_gives_larger_sets() -> None:
    truth, probabilities = draw_classes(500, 3)
    conformal = fit(truth, probabilities)
    sets = [conformal.predict(probabilities, coverage) for coverage in (0.6, 0.9, 0.99)]
    assert (sets[0] <= sets[1]).all()
    assert (sets[1] <= sets[2]).all()
    assert sets[0].sum() < sets[1].sum() < sets[2].sum()


def test_scores_are_read_as_written(tmp_path: Path) -> None:
    conformal, path = fit(*draw_classes(100, 4)), tmp_path / "c.json"
    write_conformal(path, conformal)
    assert read_conformal(path) == conformal


@pytest.mark.parametrize("text", ["{", "[]", '{"scores": [[0.1]], "image": "x"}', "without scores"])
def test_damaged_scores_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    if text == "without scores":
        write_conformal(path, fit(*draw_classes(100, 4)))
        content = json.loads(path.read_text())
        del content["scores"]
        text = json.dumps(content)
    path.write_text(text)
    with pytest.raises(RunError, match=r"c\.json: .*make it again with 'halometry calibrate'"):
        read_conformal(path)


@pytest.mark.parametrize("coverage", [0.0, 1.0, 90])
def test_coverage_outside_zero_to_one_is_refused(coverage: float) -> None:
    with pytest.raises(UsageError, match=f"coverage {coverage:g}: must lie between 0 and 1"):
        fit(*draw_masses(9, 0)).thresholds(coverage)
