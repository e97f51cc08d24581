"""Populations whose posterior is known, and how often it holds the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator
from scipy.special import ndtri
from scipy.stats import beta, binomtest, lognorm, norm

from halometry.errors import DataError
from halometry.population import class_fractions, mass_population
from halometry.population.density import density, quantiles_of
from halometry.population.masses import SCORES
from halometry.population.summary import LEVELS, Summary, summarize

EQUAL = np.full(3, 1 / 3)
MIDDLE, WIDTH = 0.5, 0.05  # of the training set's masses in these tests
LABELS = MIDDLE + WIDTH * ndtri((np.arange(20_000) + 0.5) / 20_000)


def toy_probabilities(
    fractions: np.ndarray, lenses: int, rng: np.random.Generator, separation: float = 2.0
) -> np.ndarray:
    """What a perfect network trained on equal shares says: classes are Gaussians on a triangle."""
    centers = separation * np.array([[0, 0], [1, 0], [0.5, 0.75**0.5]])
    which = rng.choice(3, lenses, p=fractions)
    seen = centers[which] + rng.standard_normal((lenses, 2))
    chance = np.exp(-0.5 * ((seen[:, None] - centers) ** 2).sum(axis=2))
    return chance / chance.sum(axis=1, keepdims=True)


def toy_quantiles(masses: np.ndarray, error: float, rng: np.random.Generator) -> np.ndarray:
    """Posteriors of masses measured with an error, under the training set's normal law."""
    measured = masses + error * rng.standard_normal(len(masses))
    variance = 1 / (error**-2 + WIDTH**-2)
    mean = variance * (measured / error**2 + MIDDLE / WIDTH**2)
    return mean[:, None] + variance**0.5 * SCORES


def holds(summary: Summary, truth: float, level: str) -> bool:
    ends = (getattr(summary, f"low_{level}"), getattr(summary, f"high_{level}"))
    return bool(ends[0] <= truth <= ends[1])


def assert_nominal(inside: dict[str, int], count: int) -> None:
    """Within what chance does to a nominal rate in one of a thousand such tests."""
    for level, share in LEVELS.items():
        assert binomtest(inside[level], count, share).pvalue > 1e-3, (level, inside[level] / count)


def test_a_normal_law_comes_back_from_any_of_its_quantiles() -> None:
    at = np.linspace(-3, 9, 50)
    for scores in (SCORES, np.array([-0.3, 0.1, 2.0])):
        found = density(np.array([3 + 1.7 * scores, 2 + 0.5 * scores]), scores, at)
        np.testing.assert_allclose(found[0], norm(3, 1.7).pdf(at), rtol=1e-9)
        np.testing.assert_allclose(found[1], norm(2, 0.5).pdf(at), rtol=1e-9)


def test_a_skewed_density_is_smooth_and_near_and_whole() -> None:
    law = lognorm(0.4, scale=0.04)
    values = law.ppf(norm.cdf(SCORES))
    at = np.linspace(1e-4, 0.2, 4001)
    (found,) = density(values[None], SCORES, at)
    assert np.trapezoid(found, at) == pytest.approx(1, abs=0.01)
    assert np.trapezoid(np.abs(found - law.pdf(at)), at) < 0.06
    inner = at[(at > values[1]) & (at < values[-2])]  # the slopes at the ends are ours
    score = PchipInterpolator(values, SCORES)
    expected = norm.pdf(score(inner)) * score.derivative()(inner)
    np.testing.assert_allclose(density(values[None], SCORES, inner)[0], expected, rtol=1e-9)


def test_labels_tell_their_density_from_enough_of_them() -> None:
    values, scores = quantiles_of(LABELS, "set")
    np.testing.assert_allclose(values, MIDDLE + WIDTH * scores, atol=5e-4)
    assert scores[-1] == 3
    assert quantiles_of(LABELS[::100], "set")[1][-1] == pytest.approx(-ndtri(0.05))
    with pytest.raises(DataError, match="set: has 99 masses; at least 100 tell a distribution"):
        quantiles_of(LABELS[:99], "set")
    with pytest.raises(DataError, match="set: many of its masses are equal"):
        quantiles_of(np.repeat([0.1, 0.2], 100), "set")


def test_the_summary_of_weighted_draws_is_that_of_their_law() -> None:
    values = np.random.default_rng(0).uniform(-5, 5, 200_000)  # weighted to a normal law
    found = summarize(values, norm.pdf(values))
    expected = [0, *norm.interval(0.68), *norm.interval(0.95)]
    np.testing.assert_allclose(list(found.to_dict().values()), expected, atol=0.02)


def test_certain_classes_give_a_dirichlet_law() -> None:
    counts = np.array([60, 25, 0])
    found = class_fractions(np.repeat(np.eye(3), counts, axis=0), EQUAL)
    for summary, count in zip(found.summaries(), counts, strict=True):
        law = beta(count + 1, counts.sum() - count + 2)
        width = law.std()
        expected = law.ppf([0.5, 0.16, 0.84, 0.025, 0.975])
        np.testing.assert_allclose(list(summary.to_dict().values()), expected, atol=0.15 * width)


def test_answers_that_say_nothing_leave_the_prior() -> None:
    found = class_fractions(np.tile([0.2, 0.3, 0.5], (500, 1)), np.array([0.2, 0.3, 0.5]))
    for summary in found.summaries():
        np.testing.assert_allclose(
            [summary.median, summary.low_95, summary.high_95],
            beta(1, 2).ppf([0.5, 0.025, 0.975]),
            atol=0.02,
        )


def test_fractions_are_those_of_a_sum_over_the_whole_triangle() -> None:
    probabilities = toy_probabilities(np.array([0.1, 0.2, 0.7]), 60, np.random.default_rng(1), 1.0)
    steps = 300
    first, second = np.meshgrid(np.arange(steps) + 0.5, np.arange(steps) + 0.5, indexing="ij")
    inside = first + second < steps
    grid = np.stack([first[inside], second[inside], (steps - first - second)[inside]], axis=1)
    likelihood = np.log(grid / steps @ probabilities.T).sum(axis=1)
    weights = np.exp(likelihood - likelihood.max())
    found = class_fractions(probabilities, EQUAL).summaries()
    for k in range(3):
        exact = list(summarize(grid[:, k] / steps, weights).to_dict().values())
        np.testing.assert_allclose(list(found[k].to_dict().values()), exact, atol=0.015)


def test_the_training_shares_are_divided_out() -> None:
    equal = toy_probabilities(np.array([0.5, 0.3, 0.2]), 200, np.random.default_rng(2))
    shares = np.array([0.8, 0.15, 0.05])
    skewed = equal * shares
    skewed /= skewed.sum(axis=1, keepdims=True)
    first, second = class_fractions(equal, EQUAL), class_fractions(skewed, shares)
    np.testing.assert_allclose(first.draws, second.draws, atol=1e-6)
    assert class_fractions(skewed, EQUAL).summaries()[0].low_95 > first.summaries()[0].high_95


def test_fractions_hold_the_truth_at_the_nominal_rate() -> None:
    rng = np.random.default_rng(3)
    inside = dict.fromkeys(LEVELS, 0)
    for trial in range(200):
        fractions = rng.dirichlet(np.ones(3))
        answers = toy_probabilities(fractions, 30, rng)
        found = class_fractions(answers, EQUAL, draws=2048, seed=trial).summaries()
        for level in LEVELS:
            inside[level] += holds(found[trial % 3], fractions[trial % 3], level)
    assert_nominal(inside, 200)


def test_intervals_of_fractions_shrink_with_the_root_of_the_number() -> None:
    rng = np.random.default_rng(4)
    widths = []
    for lenses in (10, 100, 1000):
        answers = [toy_probabilities(EQUAL, lenses, rng) for _ in range(8)]
        found = [class_fractions(one, EQUAL, draws=2048).summaries()[0] for one in answers]
        widths.append(np.median([one.high_68 - one.low_68 for one in found]))
    assert widths[1] / widths[2] == pytest.approx(10**0.5, rel=0.1)
    assert 2 < widths[0] / widths[1] < 10**0.5  # ten lenses leave something to the prior


def normal_answer(measured: np.ndarray, error: float) -> list[Summary]:
    """Mean and spread of a normal population, by its likelihood in closed form."""
    mean = np.linspace(0.4, 0.6, 801)
    spread = np.linspace(0, 2 * WIDTH, 402)[1:]
    variance = spread**2 + error**2
    squares = len(measured) * ((mean - measured.mean()) ** 2 + measured.var())
    log = -0.5 * (squares[:, None] / variance + len(measured) * np.log(variance))
    posterior = np.exp(log - log.max())
    return [summarize(mean, posterior.sum(axis=1)), summarize(spread, posterior.sum(axis=0))]


@pytest.mark.parametrize(("spread", "law"), [(0.02, "gamma"), (0.02, "log_normal"), (0, "gamma")])
def test_a_normal_population_has_its_closed_form(spread: float, law: str) -> None:
    rng, error, lenses = np.random.default_rng(5), 0.015, 150
    masses = rng.normal(0.47, spread, lenses)
    again = np.random.default_rng(6)
    measured = masses + error * again.standard_normal(lenses)
    answers = toy_quantiles(masses, error, np.random.default_rng(6))
    found = mass_population(answers, LABELS, "set", law)
    for ours, exact in zip(found.summaries(), normal_answer(measured, error), strict=True):
        np.testing.assert_allclose(
            list(ours.to_dict().values()),
            list(exact.to_dict().values()),
            atol=0.1 * (exact.high_68 - exact.low_68),  # the laws are skewed a little
        )


def test_masses_hold_the_truth_at_the_nominal_rate() -> None:
    rng = np.random.default_rng(7)
    inside = {name: dict.fromkeys(LEVELS, 0) for name in ("mean", "spread")}
    for _ in range(200):
        truth = {"mean": rng.uniform(0.42, 0.58), "spread": rng.uniform(0, 2 * WIDTH)}
        shape = (truth["mean"] / truth["spread"]) ** 2
        masses = rng.gamma(shape, truth["mean"] / shape, 30)
        found = mass_population(toy_quantiles(masses, 0.03, rng), LABELS, "set")
        for (name, value), summary in zip(truth.items(), found.summaries(), strict=True):
            for level in LEVELS:
                inside[name][level] += holds(summary, value, level)
    for counts in inside.values():
        assert_nominal(counts, 200)


def test_intervals_of_the_mean_shrink_with_the_root_of_the_number() -> None:
    rng, error, spread = np.random.default_rng(8), 0.02, 0.03
    for lenses in (10, 100, 1000):
        masses = [rng.normal(MIDDLE, spread, lenses) for _ in range(5)]
        found = [
            mass_population(toy_quantiles(one, error, rng), LABELS, "set").summaries()[0]
            for one in masses
        ]
        width = np.median([one.high_68 - one.low_68 for one in found])
        expected = 2 * norm.ppf(0.84) * (spread**2 + error**2) ** 0.5 / lenses**0.5
        assert width == pytest.approx(expected, rel=0.35 if lenses == 10 else 0.1)


def test_a_lens_beyond_the_training_set_is_left_out() -> None:
    answers = np.array([[0.4], [0.45], [2.0]]) + 0.01 * SCORES
    assert mass_population(answers, LABELS, "set").used.tolist() == [True, True, False]
    with pytest.raises(DataError, match=r"none of the training set's, which tells of 0\.35 to"):
        mass_population(answers[2:], LABELS, "set")


def test_where_the_prior_ends_before_the_posterior_is_said() -> None:
    rng = np.random.default_rng(10)
    many, one = (toy_quantiles(rng.normal(MIDDLE, 0.02, n), 0.02, rng) for n in (300, 1))
    assert mass_population(many, LABELS, "set").cut() == []
    found = mass_population(one, LABELS, "set")
    assert found.cut() == [f"spreads of at most {found.widest:.3g}"]
    low = mass_population(toy_quantiles(np.full(50, found.known[0]), 0.01, rng), LABELS, "set")
    assert f"means of at least {found.known[0]:.3g}" in low.cut()


def test_a_population_at_the_edge_of_the_training_set_is_known_to_be_there() -> None:
    rng = np.random.default_rng(9)
    near, far = (mass_population(toy_quantiles(rng.normal(mean, 0.02, 200), 0.01, rng), LABELS, "s")
                 for mean in (0.5, 0.65))  # fmt: skip
    assert near.beyond() < 0.001
    assert far.beyond() > 0.2
