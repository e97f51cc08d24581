"""Sets and intervals hold the truth as often as they promise; sets, and masses', are mapie's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from mapie.classification import SplitConformalClassifier
from mapie.regression import SplitConformalRegressor
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from halometry.calibration.conformal import Conformal, conformal_of, parse_conformal
from halometry.calibration.posterior import Grid, Posterior
from halometry.errors import RunError, UsageError

LEVELS = (0.5, 0.9, 0.95)


class Given(ClassifierMixin, BaseEstimator):
    """A classifier whose images are the probabilities that it gives."""

    def __init__(self) -> None:
        self.classes_ = np.arange(3)

    def fit(self, X: np.ndarray, y: np.ndarray) -> Given:
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return X.argmax(axis=1)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return X


class Said(RegressorMixin, BaseEstimator):
    """A regressor whose images are the masses that it gives."""

    def __init__(self) -> None:
        self.fitted_ = True

    def fit(self, X: np.ndarray, y: np.ndarray) -> Said:
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return X[:, 0]


def kinds(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes, the second twice as frequent, and probabilities that are too sure."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, count, p=[0.25, 0.5, 0.25])
    outputs = 2 * rng.normal(size=(count, 3))
    outputs[np.arange(count), truth] += 3
    odds = np.exp(1.5 * outputs)
    return truth, odds / odds.sum(axis=1, keepdims=True)


def masses(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Mass fractions, and answers that are off by a skewed error."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.2, 0.6, count)
    return truth, truth + 0.02 * (rng.exponential(size=count) - 1)


def posteriors(count: int, seed: int, too_sure: float = 1.5) -> tuple[np.ndarray, Posterior]:
    """Mass fractions, and normal posteriors of two widths that are too narrow, and off."""
    rng = np.random.default_rng(seed)
    truth, width = rng.uniform(0.2, 0.6, count), rng.choice([0.01, 0.03], count)
    said = truth + width * rng.normal(size=count) + 0.003
    grid = Grid(low=0.0, high=0.8)
    off = (grid.centers - said[:, None]) / (width / too_sure)[:, None]
    return truth, Posterior(grid, np.exp(-0.5 * off**2))


def made(truth: np.ndarray, answers: np.ndarray | Posterior) -> Conformal:
    return conformal_of(truth, answers, "images", "", True)


@pytest.mark.filterwarnings("ignore:.*conformalization dataset has less labels")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("count", [160, 801])
def test_each_class_has_the_sets_that_mapie_makes_of_its_images(level: float, count: int) -> None:
    truth, answers = kinds(count, 1)
    _, new = kinds(500, 2)
    found = made(truth, answers).regions(new, level)
    for k in range(3):
        theirs = SplitConformalClassifier(Given(), level, conformity_score="lac", prefit=True)
        theirs.conformalize(answers[truth == k], truth[truth == k])
        np.testing.assert_array_equal(found[:, k], theirs.predict_set(new)[1][:, k, 0])


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("count", [39, 800])
def test_intervals_are_those_that_mapie_makes(level: float, count: int) -> None:
    truth, answers = masses(count, 1)
    _, new = masses(500, 2)
    theirs = SplitConformalRegressor(Said(), level, prefit=True)
    theirs.conformalize(answers[:, None], truth)
    expected = theirs.predict_interval(new[:, None])[1][..., 0]
    found = made(truth, answers).regions(new, level)
    np.testing.assert_allclose(found, np.clip(expected, 0, 1), atol=1e-6)


def test_nine_in_ten_sets_hold_the_truth_in_each_class_and_any_mixture() -> None:
    shares = np.zeros((200, 3))
    for trial in range(200):
        conformal = made(*kinds(400, 2 * trial))
        truth, answers = kinds(400, 2 * trial + 1)
        held = conformal.regions(answers, 0.9)[np.arange(400), truth]
        shares[trial] = [held[truth == k].mean() for k in range(3)]
    means, errors = shares.mean(axis=0), shares.std(axis=0) / math.sqrt(200)
    assert (errors < 0.006).all()
    # At least nine in ten, and no more than one image in a class of some hundred goes for free.
    assert (means > 0.9 - 3 * errors).all()
    assert (means < 0.92 + 3 * errors).all()


def test_nine_in_ten_intervals_hold_the_truth() -> None:
    shares = []
    for trial in range(200):
        truth, answers = masses(200, 2 * trial + 1)
        ends = made(*masses(100, 2 * trial)).regions(answers, 0.9)
        shares.append(((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean())
    # The 91st of 100 scores: exactly 91 of 101, which is 0.901.
    assert np.mean(shares) == pytest.approx(91 / 101, abs=3 * np.std(shares) / math.sqrt(200))


def test_posteriors_that_are_too_narrow_have_intervals_that_hold_the_truth() -> None:
    shares, narrow = [], []
    for trial in range(100):
        conformal = made(*posteriors(99, 2 * trial))
        truth, said = posteriors(200, 2 * trial + 1)
        ends = conformal.regions(said, 0.8)
        shares.append(((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean())
        narrow.append((said.centrality(truth) <= 0.8).mean())
    assert np.mean(shares) == pytest.approx(0.8, abs=3 * np.std(shares) / math.sqrt(100))
    assert np.mean(narrow) < 0.65  # as they were


def test_intervals_of_posteriors_are_as_wide_as_each_needs_and_hold_its_median() -> None:
    conformal = made(*posteriors(500, 1))
    assert conformal.kind == "credibility"
    _, said = posteriors(300, 2)
    ends = conformal.regions(said, 0.9)
    widths = (ends[:, 1] - ends[:, 0]) / said.std
    assert widths.std() < 0.01 * widths.mean()
    assert ((ends[:, 0] < said.median) & (said.median < ends[:, 1])).all()
    np.testing.assert_allclose(ends, said.interval(conformal.thresholds(0.9)[0]))


def test_a_truth_outside_the_grid_counts_as_beyond_every_interval() -> None:
    _, said = posteriors(3, 1)
    conformal = made(np.array([0.3, 0.4, 0.9]), said)
    assert conformal.scores[0][-1] == 1
    assert conformal.regions(said, 0.75).tolist() == [[0, 1]] * 3


def test_distances_of_earlier_versions_lie_about_the_means_of_posteriors() -> None:
    truth, said = posteriors(200, 1)
    earlier = made(truth, said.mean)
    assert parse_conformal(earlier.to_json().replace('"kind": "distance", ', ""), "") == earlier
    np.testing.assert_array_equal(earlier.regions(said, 0.9), earlier.regions(said.mean, 0.9))


def test_too_few_images_promise_everything() -> None:
    truth, answers = np.array([0, 0, 1]), np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    assert made(truth, answers).regions(answers, 0.9).all()
    assert made(truth, answers).thresholds(0.6).tolist() == [0.2, math.inf]
    ends = made(np.array([0.1]), np.array([0.2])).regions(np.array([0.3]), 0.9)
    assert ends.tolist() == [[0, 1]]


def test_a_higher_level_has_larger_sets_and_intervals() -> None:
    truth, answers = kinds(500, 3)
    conformal = made(truth, answers)
    sets = [conformal.regions(answers, level) for level in (0.6, 0.9, 0.99)]
    assert (sets[0] <= sets[1]).all()
    assert (sets[1] <= sets[2]).all()
    assert sets[0].sum() < sets[1].sum() < sets[2].sum()


def test_scores_come_back_and_say_where_they_are_wrong() -> None:
    conformal = made(*kinds(100, 4))
    assert parse_conformal(conformal.to_json(), "c.json") == conformal
    for text in ("{", "[]", '{"scores": [[0.1]], "image": "x"}'):
        with pytest.raises(RunError, match=r"c\.json: cannot be read .*'halometry calibrate'"):
            parse_conformal(text, "c.json")


@pytest.mark.parametrize("level", [0.0, 1.0, 90])
def test_a_level_is_a_share(level: float) -> None:
    with pytest.raises(UsageError, match=f"level {level:g}: must lie between 0 and 1"):
        made(*masses(9, 0)).thresholds(level)
