"""Posteriors of class fractions and of mass distributions: exact references and coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator
from scipy.special import ndtri
from scipy.stats import beta, binomtest, lognorm, norm

from halometry.calibration.posterior import CREDIBLE_LEVELS
from halometry.errors import DataError, HalometryWarning
from halometry.population import fraction_posterior, mass_posterior
from halometry.population.density import density_from_quantiles, label_quantiles
from halometry.population.fractions import effective_sample_size
from halometry.population.masses import QUANTILE_SCORES
from halometry.population.summary import PosteriorSummary, summarize

EQUAL = np.full(3, 1 / 3)
MEAN, STD = 0.5, 0.05  # of the training set's masses in these tests
LABELS = MEAN + STD * ndtri((np.arange(20_000) + 0.5) / 20_000)


def toy_probabilities(
    fractions: np.ndarray, lenses: int, rng: np.random.Generator, separation: float = 2.0
) -> np.ndarray:
    """Exact class probabilities, under equal fractions, of points around a triangle's corners."""
    centers = separation * np.array([[0, 0], [1, 0], [0.5, 0.75**0.5]])
    classes = rng.choice(3, lenses, p=fractions)
    points = centers[classes] + rng.standard_normal((lenses, 2))
    likelihood = np.exp(-0.5 * ((points[:, None] - centers) ** 2).sum(axis=2))
    return likelihood / likelihood.sum(axis=1, keepdims=True)


def toy_quantiles(masses: np.ndarray, error: float, rng: np.random.Generator) -> np.ndarray:
    """Exact posteriors of masses measured with an error; the prior is the training set's."""
    measured = masses + error * rng.standard_normal(len(masses))
    variance = 1 / (error**-2 + STD**-2)
    mean = variance * (measured / error**2 + MEAN / STD**2)
    return mean[:, None] + variance**0.5 * QUANTILE_SCORES


def contains(summary: PosteriorSummary, true: float, level: str) -> bool:
    low, high = summary.interval(level)
    return low <= true <= high


def assert_nominal_coverage(inside: dict[str, int], count: int) -> None:
    """Assert that coverage agrees with the nominal one, at a significance of 0.001."""
    for level, coverage in CREDIBLE_LEVELS.items():
        assert binomtest(inside[level], count, coverage).pvalue > 1e-3, (level, inside[level])


def test_density_of_a_normal_distribution_is_exact_for_any_quantiles() -> None:
    positions = np.linspace(-3, 9, 50)
    for scores in (QUANTILE_SCORES, np.array([-0.3, 0.1, 2.0])):
        values = np.array([3 + 1.7 * scores, 2 + 0.5 * scores])
        density = density_from_quantiles(values, scores, positions)
        np.testing.assert_allclose(density[0], norm(3, 1.7).pdf(positions), rtol=1e-9)
        np.testing.assert_allclose(density[1], norm(2, 0.5).pdf(positions), rtol=1e-9)


def test_density_of_a_skewed_distribution_is_close_and_normalized() -> None:
    distribution = lognorm(0.4, scale=0.04)
    values = distribution.ppf(norm.cdf(QUANTILE_SCORES))
    positions = np.linspace(1e-4, 0.2, 4001)
    (density,) = density_from_quantiles(values[None], QUANTILE_SCORES, positions)
    assert np.trapezoid(density, positions) == pytest.approx(1, abs=0.01)
    assert np.trapezoid(np.abs(density - distribution.pdf(positions)), positions) < 0.06
    # The slopes at the outermost quantiles differ from those of scipy.
    inner = positions[(positions > values[1]) & (positions < values[-2])]
    score = PchipInterpolator(values, QUANTILE_SCORES)
    expected = norm.pdf(score(inner)) * score.derivative()(inner)
    density = density_from_quantiles(values[None], QUANTILE_SCORES, inner)[0]
    np.testing.assert_allclose(density, expected, rtol=1e-9)


def test_label_quantiles_reach_as_far_as_there_are_labels() -> None:
    values, scores = label_quantiles(LABELS, "set")
    np.testing.assert_allclose(values, MEAN + STD * scores, atol=5e-4)
    assert scores[-1] == 3
    assert label_quantiles(LABELS[::100], "set")[1][-1] == pytest.approx(-ndtri(0.05))
    with pytest.raises(DataError, match="set: has 99 masses; at least 100 are needed"):
        label_quantiles(LABELS[:99], "set")
    with pytest.raises(DataError, match="set: many of its masses are equal"):
        label_quantiles(np.repeat([0.1, 0.2], 100), "set")


def test_summary_of_weighted_draws_is_that_of_their_distribution() -> None:
    values = np.random.default_rng(0).uniform(-5, 5, 200_000)
    summary = summarize(values, norm.pdf(values))
    expected = [0, *norm.interval(0.68), *norm.interval(0.95)]
    np.testing.assert_allclose(list(summary.to_dict().values()), expected, atol=0.02)


def test_fractions_of_certain_classes_are_dirichlet_distributed() -> None:
    counts = np.array([60, 25, 0])
    posterior = fraction_posterior(np.repeat(np.eye(3), counts, axis=0), EQUAL)
    for summary, count in zip(posterior.summaries(), counts, strict=True):
        exact = beta(count + 1, counts.sum() - count + 2)
        expected = exact.ppf([0.5, 0.16, 0.84, 0.025, 0.975])
        values = list(summary.to_dict().values())
        np.testing.assert_allclose(values, expected, atol=0.15 * exact.std())


def test_uninformative_predictions_return_the_prior() -> None:
    training_fractions = np.array([0.2, 0.3, 0.5])
    probabilities = np.tile(training_fractions, (20, 1))
    posterior = fraction_posterior(probabilities, training_fractions, draws=20_000)
    for summary in posterior.summaries():
        np.testing.assert_allclose(
            [summary.median, summary.lo95, summary.hi95],
            beta(1, 2).ppf([0.5, 0.025, 0.975]),
            atol=0.04,
        )


def test_fractions_of_two_classes_agree_with_a_grid() -> None:
    rng = np.random.default_rng(1)
    first = rng.random(40) < 0.3
    likelihood = norm.pdf(np.where(first, 0.0, 1.5)[:, None] + rng.standard_normal((40, 1)),
                          [0.0, 1.5])  # fmt: skip
    training_fractions = np.array([0.7, 0.3])
    probabilities = likelihood * training_fractions
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    grid = (np.arange(4000) + 0.5) / 4000
    log_likelihood = np.log(
        grid[:, None] * likelihood[:, 0] + (1 - grid[:, None]) * likelihood[:, 1]
    )
    weights = log_likelihood.sum(axis=1)
    exact = summarize(grid, np.exp(weights - weights.max()))
    posterior = fraction_posterior(probabilities, training_fractions, draws=20_000)
    np.testing.assert_allclose(
        list(posterior.summaries()[0].to_dict().values()),
        list(exact.to_dict().values()),
        atol=0.1 * (exact.hi68 - exact.lo68) / 2,
    )


def test_fractions_of_three_classes_agree_with_a_grid() -> None:
    probabilities = toy_probabilities(np.array([0.1, 0.2, 0.7]), 60, np.random.default_rng(1), 1.0)
    steps = 300
    first, second = np.meshgrid(np.arange(steps) + 0.5, np.arange(steps) + 0.5, indexing="ij")
    inside = first + second < steps
    grid = np.stack([first[inside], second[inside], (steps - first - second)[inside]], axis=1)
    log_likelihood = np.log(grid / steps @ probabilities.T).sum(axis=1)
    weights = np.exp(log_likelihood - log_likelihood.max())
    summaries = fraction_posterior(probabilities, EQUAL, draws=20_000).summaries()
    for k in range(3):
        exact = list(summarize(grid[:, k] / steps, weights).to_dict().values())
        np.testing.assert_allclose(list(summaries[k].to_dict().values()), exact, atol=0.015)


def test_fractions_do_not_depend_on_the_training_set() -> None:
    equal = toy_probabilities(np.array([0.5, 0.3, 0.2]), 200, np.random.default_rng(2))
    training_fractions = np.array([0.8, 0.15, 0.05])
    skewed = equal * training_fractions
    skewed /= skewed.sum(axis=1, keepdims=True)
    first, second = fraction_posterior(equal, EQUAL), fraction_posterior(skewed, training_fractions)
    np.testing.assert_allclose(first.draws, second.draws, atol=1e-6)
    not_divided = fraction_posterior(skewed, EQUAL).summaries()[0]
    assert not_divided.lo95 > first.summaries()[0].hi95


@pytest.mark.filterwarnings("ignore:the effective sample size")
def test_intervals_of_fractions_have_nominal_coverage() -> None:
    rng = np.random.default_rng(3)
    inside = dict.fromkeys(CREDIBLE_LEVELS, 0)
    for trial in range(200):
        fractions = rng.dirichlet(np.ones(3))
        probabilities = toy_probabilities(fractions, 30, rng, separation=3.0)
        posterior = fraction_posterior(probabilities, EQUAL, draws=600, burn_in=50, seed=trial)
        for level in CREDIBLE_LEVELS:
            inside[level] += contains(posterior.summaries()[trial % 3], fractions[trial % 3], level)
    assert_nominal_coverage(inside, 200)


@pytest.mark.filterwarnings("ignore:the effective sample size")
def test_intervals_of_fractions_shrink_with_the_root_of_the_number_of_lenses() -> None:
    rng = np.random.default_rng(4)
    widths = []
    for lenses in (10, 100, 1000):
        tables = [toy_probabilities(EQUAL, lenses, rng) for _ in range(8)]
        summaries = [
            fraction_posterior(table, EQUAL, draws=1000).summaries()[0] for table in tables
        ]
        widths.append(np.median([summary.hi68 - summary.lo68 for summary in summaries]))
    assert widths[1] / widths[2] == pytest.approx(10**0.5, rel=0.15)
    assert 2 < widths[0] / widths[1] < 10**0.5  # ten lenses are too few to outweigh the prior


def test_effective_sample_size_of_an_autoregressive_chain() -> None:
    rng, correlation, size = np.random.default_rng(0), 0.8, 100_000
    noise, chain = rng.standard_normal(size), np.zeros(size)
    for k in range(1, size):
        chain[k] = correlation * chain[k - 1] + noise[k]
    expected = size * (1 - correlation) / (1 + correlation)
    assert effective_sample_size(chain) == pytest.approx(expected, rel=0.1)
    assert effective_sample_size(np.ones(100)) == 100


def test_small_effective_sample_size_is_warned_about() -> None:
    probabilities = np.tile([0.5, 0.5], (200, 1))
    with pytest.warns(HalometryWarning, match="effective sample size .* is .* of 1000 draws"):
        fraction_posterior(probabilities, np.array([0.5, 0.5]), draws=1000)


def exact_normal_summaries(measured: np.ndarray, error: float) -> list[PosteriorSummary]:
    """Summaries of mean and std of a normal population, from its likelihood in closed form."""
    mean = np.linspace(0.4, 0.6, 801)
    std = np.linspace(0, 2 * STD, 402)[1:]
    variance = std**2 + error**2
    squares = len(measured) * ((mean - measured.mean()) ** 2 + measured.var())
    log = -0.5 * (squares[:, None] / variance + len(measured) * np.log(variance))
    posterior = np.exp(log - log.max())
    return [summarize(mean, posterior.sum(axis=1)), summarize(std, posterior.sum(axis=0))]


@pytest.mark.parametrize(
    ("std", "distribution"), [(0.02, "gamma"), (0.02, "log_normal"), (0, "gamma")]
)
def test_posterior_of_a_normal_population_has_its_closed_form(
    std: float, distribution: str
) -> None:
    rng, error, lenses = np.random.default_rng(5), 0.015, 150
    masses = rng.normal(0.47, std, lenses)
    measured = masses + error * np.random.default_rng(6).standard_normal(lenses)
    quantiles = toy_quantiles(masses, error, np.random.default_rng(6))
    summaries = mass_posterior(quantiles, LABELS, "set", distribution).summaries()
    for summary, exact in zip(summaries, exact_normal_summaries(measured, error), strict=True):
        np.testing.assert_allclose(
            list(summary.to_dict().values()),
            list(exact.to_dict().values()),
            atol=0.1 * (exact.hi68 - exact.lo68),  # the distributions are slightly skewed
        )


def test_intervals_of_mean_and_std_have_nominal_coverage() -> None:
    rng = np.random.default_rng(7)
    inside = {name: dict.fromkeys(CREDIBLE_LEVELS, 0) for name in ("mean", "std")}
    for _ in range(200):
        true = {"mean": rng.uniform(0.42, 0.58), "std": rng.uniform(0, 2 * STD)}
        shape = (true["mean"] / true["std"]) ** 2
        masses = rng.gamma(shape, true["mean"] / shape, 30)
        posterior = mass_posterior(toy_quantiles(masses, 0.03, rng), LABELS, "set")
        for (name, value), summary in zip(true.items(), posterior.summaries(), strict=True):
            for level in CREDIBLE_LEVELS:
                inside[name][level] += contains(summary, value, level)
    for counts in inside.values():
        assert_nominal_coverage(counts, 200)


def test_intervals_of_the_mean_shrink_with_the_root_of_the_number_of_lenses() -> None:
    rng, error, std = np.random.default_rng(8), 0.02, 0.03
    for lenses in (10, 100, 1000):
        masses = [rng.normal(MEAN, std, lenses) for _ in range(5)]
        quantiles = [toy_quantiles(sample, error, rng) for sample in masses]
        summaries = [mass_posterior(each, LABELS, "set").summaries()[0] for each in quantiles]
        width = np.median([summary.hi68 - summary.lo68 for summary in summaries])
        expected = 2 * norm.ppf(0.84) * (std**2 + error**2) ** 0.5 / lenses**0.5
        assert width == pytest.approx(expected, rel=0.35 if lenses == 10 else 0.1)


def test_lenses_outside_the_training_set_are_not_used() -> None:
    quantiles = np.array([[0.4], [0.45], [2.0]]) + 0.01 * QUANTILE_SCORES
    assert mass_posterior(quantiles, LABELS, "set").is_used.tolist() == [True, True, False]
    with pytest.raises(DataError, match=r"all lenses lie outside .* training set, 0\.35 to"):
        mass_posterior(quantiles[2:], LABELS, "set")


def test_truncations_name_the_end_of_the_prior() -> None:
    rng = np.random.default_rng(10)
    many, single = (toy_quantiles(rng.normal(MEAN, 0.02, n), 0.02, rng) for n in (300, 1))
    assert mass_posterior(many, LABELS, "set").truncations() == []
    posterior = mass_posterior(single, LABELS, "set")
    assert posterior.truncations() == [f"std <= {posterior.max_std:.3g}"]
    lowest = posterior.prior_support[0]
    edge = mass_posterior(toy_quantiles(np.full(50, lowest), 0.01, rng), LABELS, "set")
    assert f"mean >= {lowest:.3g}" in edge.truncations()


def test_fraction_outside_support_is_large_at_the_edge_of_the_training_set() -> None:
    rng = np.random.default_rng(9)
    central, edge = (
        mass_posterior(toy_quantiles(rng.normal(mean, 0.02, 200), 0.01, rng), LABELS, "set")
        for mean in (0.5, 0.65)
    )
    assert central.fraction_outside_support() < 0.001
    assert edge.fraction_outside_support() > 0.2
