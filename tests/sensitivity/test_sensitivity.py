"""Detection of single subhalos: ideal observers, thresholds, curves, maps and files."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom
from sklearn.isotonic import isotonic_regression

from halometry.errors import RunError, UsageError
from halometry.evaluation.bootstrap import Interval
from halometry.lensfit.likelihood import Model, PoissonLikelihood
from halometry.lensfit.linear import project_out
from halometry.lensfit.optimize import maximize_likelihood
from halometry.lensfit.parametrization import build_parametrization
from halometry.log import track
from halometry.runs.run import PredictFn, Run, load_run
from halometry.sensitivity import (
    BLIND_SEARCH,
    FITTED_LENS,
    FIXED_LENS,
    NETWORK,
    DetectionOutcomes,
    Detector,
    SensitivityMap,
    SmoothLenses,
    detect_subhalos,
    score_smooth_lenses,
    score_threshold,
)
from halometry.sensitivity.command import measure_sensitivity
from halometry.sensitivity.core import ideal_probabilities
from halometry.sensitivity.curves import first_crossing, isotonic
from halometry.sensitivity.figure import OBSERVER_TITLES, completeness_figure, map_figure
from halometry.sensitivity.lenses import (
    add_subhalo,
    expected_counts,
    grid_positions,
    move_to_ring,
    smooth_scenes,
)
from halometry.sensitivity.tables import Sensitivity, format_log10_mass, format_mass_ratio
from halometry.simulation import Preset, load_preset, sample
from halometry.simulation.distributions import Quantity

PRESET = load_preset("demo_classification")
FALSE_POSITIVES = 0.1


@pytest.fixture(scope="module")
def smooth() -> SmoothLenses:
    return SmoothLenses.draw(PRESET, 7, 0, 6)


def with_subhalos_on_ring(smooth: SmoothLenses, mass: float) -> torch.Tensor:
    scene = move_to_ring(add_subhalo(smooth.scene, smooth.preset, mass, 7, 0))
    return expected_counts(scene, smooth.preset)


@pytest.mark.parametrize("preset", ["common_test_1_broad", "halo_mass_broad", "euclid"])
def test_all_free_parameters_of_a_preset_are_fitted(preset: str) -> None:
    lenses = SmoothLenses.draw(load_preset(preset), 7, 0, 1)
    assert lenses.derivatives.shape[1] > 10
    assert bool(lenses.derivatives.abs().amax(dim=(0, 2)).gt(0).all())


def test_added_subhalo_has_its_mass_and_a_position_independent_of_it(smooth: SmoothLenses) -> None:
    light, heavy = (add_subhalo(smooth.scene, PRESET, m, 7, 0) for m in (1e9, 1e10))
    torch.testing.assert_close(light.subhalo_mass, torch.full_like(light.subhalo_mass, 1e9))
    torch.testing.assert_close(light.subhalo_x, heavy.subhalo_x)
    torch.testing.assert_close(heavy.f_sub, 10 * light.f_sub)
    radius = torch.hypot(light.subhalo_x, light.subhalo_y)
    assert float(radius.max()) < 2
    assert len(radius.unique()) == len(smooth.scene)
    ring = move_to_ring(light)
    ring_radius = torch.hypot(ring.subhalo_x, ring.subhalo_y)[:, 0]
    torch.testing.assert_close(ring_radius, smooth.scene.einstein_radius)


def test_added_subhalo_of_a_truncated_population_is_truncated() -> None:
    preset = load_preset("euclid")
    scene = add_subhalo(smooth_scenes(preset, 1, 0, 2, "cpu"), preset, 1e9, 1, 0)
    assert (scene.subhalo_truncation_radius > scene.subhalo_scale_radius).all()
    assert (scene.subhalo_scale_radius > 0).all()


def test_larger_einstein_radius_is_not_detected_if_the_lens_is_fitted(
    smooth: SmoothLenses,
) -> None:
    wider = replace(smooth.scene, einstein_radius=smooth.scene.einstein_radius + 2e-3)
    perturbed = expected_counts(wider, PRESET)
    probabilities = ideal_probabilities(smooth, perturbed, FALSE_POSITIVES, 2.5)
    assert (probabilities[FIXED_LENS] > 0.5).all()
    expected = torch.full_like(probabilities[FITTED_LENS], FALSE_POSITIVES)
    torch.testing.assert_close(probabilities[FITTED_LENS], expected, atol=0.03, rtol=0)


def test_probability_rises_with_mass_and_with_prior_knowledge(smooth: SmoothLenses) -> None:
    light, heavy = (
        ideal_probabilities(smooth, with_subhalos_on_ring(smooth, m), FALSE_POSITIVES, 2.5)
        for m in (3e8, 1e9)
    )
    for probabilities in (light, heavy):
        assert (probabilities[FIXED_LENS] >= probabilities[FITTED_LENS] - 1e-3).all()
        assert (probabilities[FITTED_LENS] > probabilities[BLIND_SEARCH]).all()
    for name in (FIXED_LENS, FITTED_LENS, BLIND_SEARCH):
        assert (heavy[name] > light[name]).all()


def test_linear_detectability_agrees_with_a_fit(smooth: SmoothLenses) -> None:
    perturbed = with_subhalos_on_ring(smooth, 3e9)
    differences = smooth.normalized_differences(perturbed)[:, None]
    linear = project_out(differences, smooth.derivatives)[:, 0].square().sum(dim=-1)
    layout = build_parametrization(PRESET, smooth.scene.rows(slice(0, 1)))
    theta = layout.coordinates(lambda name: getattr(smooth.scene, name))
    with torch.no_grad():
        for k in range(3):  # the deviance of an image without noise is the expected one
            likelihood = PoissonLikelihood(perturbed[k])
            fit = maximize_likelihood(Model(PRESET, layout), likelihood, theta[k : k + 1])
            assert float(fit.deviance) == pytest.approx(float(linear[k]), rel=0.1)


def fixed_preset(radius: float) -> Preset:
    """A preset with one lens and one position of a subhalo."""
    lens = PRESET.lens.model_copy(
        update={
            "z_lens": Quantity(value=0.5),
            "z_source": Quantity(value=1.0),
            "shear": Quantity(value=0.1),
            "shear_angle": Quantity(value=0.0),
        }
    )
    source = PRESET.source.model_copy(
        update={
            "axis_ratio": Quantity(value=0.7),
            "position_angle": Quantity(value=0.0),
            "offset": Quantity(value=0.2),
            "offset_angle": Quantity(value=1.0),
        }
    )
    assert PRESET.subhalos is not None
    subhalos = PRESET.subhalos.model_copy(
        update={"radius": Quantity(value=radius), "angle": Quantity(value=0.3)}
    )
    return PRESET.model_copy(update={"lens": lens, "source": source, "subhalos": subhalos})


class LikelihoodRatio:
    """The ideal classifier for one lens and one subhalo."""

    def __init__(self, smooth: torch.Tensor, perturbed: torch.Tensor) -> None:
        self.log = (perturbed / smooth).log().numpy().ravel()
        self.middle = float((smooth + perturbed).numpy().ravel() @ self.log / 2)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        ratio = images.reshape(len(images), -1).astype(np.float64) @ self.log - self.middle
        probability = 1 / (1 + np.exp(-ratio))
        return np.stack([1 - probability, probability / 3, probability * 2 / 3], axis=1)


def ideal_classifier(preset: Preset, mass: float) -> LikelihoodRatio:
    smooth = SmoothLenses.draw(preset, 3, 0, 1)
    scene = add_subhalo(smooth.scene, preset, mass, 3, 0)
    return LikelihoodRatio(smooth.expected, expected_counts(scene, preset))


def score(predict_fn: PredictFn, preset: Preset, seed: int, count: int) -> np.ndarray:
    with torch.no_grad(), track("", 1) as progress:
        detector = Detector(predict_fn, 0, preset, seed, FALSE_POSITIVES)
        return score_smooth_lenses(detector, count, progress)


def test_ideal_classifier_reaches_the_completeness_of_the_ideal_observer() -> None:
    preset, log10_mass = fixed_preset(1.2), 8.9
    predict_fn = ideal_classifier(preset, 10**log10_mass)
    detector = Detector(predict_fn, 0, preset, 3, FALSE_POSITIVES)
    smooth_scores = score(predict_fn, preset, 3, 600)
    with torch.no_grad(), track("", 1) as progress:
        outcomes = detect_subhalos(
            detector, smooth_scores, np.array([log10_mass]), count=250, trials_threshold=2.5,
            progress=progress,
        )["anywhere"]  # fmt: skip
    (network,), (limit,) = outcomes.completeness(NETWORK), outcomes.completeness(FIXED_LENS)
    assert 0.2 < limit.value < 0.95
    assert network.value == pytest.approx(limit.value, abs=0.1)


def test_threshold_gives_the_false_positive_rate_for_other_lenses() -> None:
    preset, rate = fixed_preset(1.2), 0.05
    predict_fn = ideal_classifier(preset, 2e9)
    first, other = (score(predict_fn, preset, seed, 800) for seed in (3, 4))
    threshold = score_threshold(first, rate)
    assert (first > threshold).mean() == pytest.approx(rate, abs=2 / 800)
    low, high = binom.interval(0.9999, 800, rate)
    # The factor allows for the error of the threshold itself.
    assert low / 1.6 < (other > threshold).sum() < high * 1.6


def by_brightness(images: np.ndarray) -> np.ndarray:
    light = images.mean(axis=(1, 2, 3)) / 200
    return np.stack([1 - light, light / 2, light / 2], axis=1)


def test_scores_depend_on_the_seed_alone() -> None:
    first, repeated, other = (score(by_brightness, PRESET, seed, 10) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, repeated)
    assert not np.isin(other, first).any()


def toy_outcomes(offset: float, count: int = 400) -> DetectionOutcomes:
    """Scores that are a normal deviate plus twice log10 of the mass above 9 and an offset."""
    rng, masses = np.random.default_rng(0), np.arange(8, 10.01, 0.25)
    scores = rng.normal(size=(len(masses), count)) + 2 * (masses[:, None] - 9 - offset)
    ideal = np.clip((masses[:, None] - 8.5 + np.zeros(count)), 0, 1)
    return DetectionOutcomes(masses, rng.normal(size=4000), scores, {FITTED_LENS: ideal}, 0.1)


def test_mass_at_a_completeness_is_that_of_the_curve() -> None:
    outcomes = toy_outcomes(0.0)
    mass = outcomes.log10_mass(NETWORK, 0.5, 200)  # where the mean is the threshold, 1.2816
    assert mass.low < 9 + 1.2816 / 2 < mass.high
    assert mass.high - mass.low < 0.2
    assert outcomes.log10_mass(FITTED_LENS, 0.5, 10).value == pytest.approx(9.0)
    delta = outcomes.delta_log10_mass(NETWORK, FITTED_LENS, 0.5, 200)
    assert delta.low < 1.2816 / 2 < delta.high
    assert outcomes.is_reached(NETWORK, 0.5)


def test_mass_that_is_not_reached_is_formatted_as_a_lower_limit() -> None:
    outcomes = toy_outcomes(3.0)
    assert not outcomes.is_reached(NETWORK, 0.5)
    assert outcomes.log10_mass(NETWORK, 0.5, 20).value == 10.0
    assert format_log10_mass(outcomes, NETWORK, 0.5) == "above 10.00"
    assert format_mass_ratio(outcomes, FITTED_LENS) == "above 10.000"


def test_interval_that_reaches_the_largest_mass_has_no_upper_end() -> None:
    assert format_log10_mass(toy_outcomes(0.0, 40), NETWORK, 0.5).endswith("]")
    cut_off = toy_outcomes(0.3, 40)
    assert re.fullmatch(r"9\.\d\d, above 9\.\d\d", format_log10_mass(cut_off, NETWORK, 0.5))
    assert re.fullmatch(r"[\d.]+, above [\d.]+", format_mass_ratio(cut_off, FITTED_LENS))
    assert format_mass_ratio(cut_off, NETWORK) == ""


def test_isotonic_fit_agrees_with_scikit_learn() -> None:
    values = np.random.default_rng(0).random((20, 9))
    expected = [isotonic_regression(row) for row in values]
    np.testing.assert_allclose(isotonic(values), expected, atol=1e-12)


def test_first_crossing_is_interpolated() -> None:
    positions = np.array([8.0, 9.0, 10.0])
    values = np.array([[0.2, 0.4, 0.9], [0.7, 0.8, 0.9]])
    np.testing.assert_allclose(first_crossing(0.65, positions, values), [9.5, 8.0])
    assert np.isinf(first_crossing(0.95, positions, values)).all()


def test_map_figure_shows_each_mass_at_its_position() -> None:
    x, y = (axis.numpy() for axis in grid_positions(PRESET, 5))
    masses = 8 + 0.1 * x + 0.3 * y
    masses[(x > 0) & (np.abs(y) < 1e-6)] = np.inf
    map_ = SensitivityMap(0, np.random.default_rng(0).random((48, 48)), 0.1, x, y,
                          {NETWORK: masses, FITTED_LENS: masses - 1}, 1.2)  # fmt: skip
    figure = map_figure(map_, {NETWORK: "d4net"}, (6.0, 10.0))
    lens, network, fitted = figure.axes[:3]
    np.testing.assert_allclose(lens.patches[0].radius, 1.2)
    titles = [panel.get_title(loc="left") for panel in (network, fitted)]
    assert titles == ["d4net", OBSERVER_TITLES[FITTED_LENS]]
    picture = network.images[0]
    left, right, bottom, top = picture.get_extent()
    shown = np.ma.filled(picture.get_array(), np.nan)
    assert picture.origin == "lower"
    step = (right - left) / shown.shape[1]
    for xi, yi, mass in zip(x, y, masses, strict=True):
        row, column = int((yi - bottom) / step), int((xi - left) / step)
        expected = mass if np.isfinite(mass) else 11.0  # above the color scale
        assert shown[row, column] == pytest.approx(expected)
    assert top - bottom == right - left
    assert np.isnan(shown).sum() == shown.size - len(x)
    finite = fitted.images[0].get_array()
    assert float(np.nanmin(finite)) == pytest.approx(masses.min() - 1)


def test_completeness_figure_shows_each_observer_in_its_panel() -> None:
    def curve(*values: float) -> list[Interval]:
        return [Interval(value, value - 0.1, value + 0.2) for value in values]

    panels = {
        "anywhere": {"d4net": curve(0.1, 0.3), FITTED_LENS: curve(0.2, 0.5)},
        "on the ring": {"d4net": curve(0.4, 0.6), FITTED_LENS: curve(0.5, 0.7)},
    }
    figure = completeness_figure(np.array([8.0, 9.0]), panels, 0.02)
    for panel, (placement, curves) in zip(figure.axes, panels.items(), strict=True):
        assert panel.get_title(loc="left") == f"one subhalo {placement}"
        lines = {line.get_label(): line for line in panel.get_lines()}
        for observer, intervals in curves.items():
            label = OBSERVER_TITLES.get(observer, observer)
            assert lines[label].get_xdata().tolist() == [8, 9]
            assert lines[label].get_ydata().tolist() == [each.value for each in intervals]
        band = panel.collections[0].get_paths()[0].vertices
        first = curves["d4net"][0]
        ends = band[band[:, 0] == 8, 1]
        assert (ends.min(), ends.max()) == pytest.approx((first.low, first.high))


@pytest.fixture(scope="module")
def measured(
    published: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Sensitivity, Path, list[np.ndarray]]:
    """Result of a tiny run, its folder, and the images that the run predicted."""
    seen: list[np.ndarray] = []
    run = load_run(published / "runs" / "demo_classification")

    class SeeingRun(Run):
        def predict_fn(self, *args: Any, **options: Any) -> PredictFn:
            predict_fn = run.predict_fn(*args, **options)

            def predict(images: np.ndarray) -> np.ndarray:
                seen.append(images)
                return predict_fn(images)

            return predict

    out = tmp_path_factory.mktemp("sensitivity") / "out"
    seeing = SeeingRun(run.path, run.config, run.source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("halometry.sensitivity.core.SEARCH_GRID", 9)
        result = measure_sensitivity(
            seeing, out=out, count=2, false_positives=0.49, grid=3, device="cpu"
        )
    return result, out, seen


def test_result_is_written(measured: tuple[Sensitivity, Path, list[np.ndarray]]) -> None:
    result, out, _ = measured
    record = json.loads((out / "sensitivity.json").read_text())
    assert record["format"] == "halometry-sensitivity"
    assert record["preset"] == "demo_classification"
    assert (record["lenses"], record["smooth_lenses"]) == (2, 41)
    assert record["false_positives"] == 0.49
    observers = [row[1] for row in record["rows"][1:5]]
    assert observers == ["test_resnet", FIXED_LENS, FITTED_LENS, BLIND_SEARCH]
    assert len(record["map"]["x_arcsec"]) == len(result.map.x) == 5
    for observer in (FIXED_LENS, FITTED_LENS):
        assert result.map.fraction_detected(observer, 12.0) > 0.5
    with (out / "sensitivity.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 4 * len(record["log10_masses"])
    assert set(rows[0]) == {"placement", "observer", "log10_mass", "completeness", "low", "high"}
    for name in ("completeness.png", "map.png"):
        assert (out / name).stat().st_size > 10_000


def test_images_are_not_those_of_a_training_set(
    measured: tuple[Sensitivity, Path, list[np.ndarray]],
) -> None:
    result, _, seen = measured
    training, _ = sample(PRESET, seed=result.seed, start=0, count=45)
    evaluation = np.concatenate(seen)[:45]
    # Lenses of the class 'no' are the same with and without removing their substructure.
    distances = np.abs(evaluation[:, None] - training.numpy()[None]).max(axis=(2, 3, 4))
    assert distances.min() > 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"false_positives": 0.0}, "--false-positives 0: must be from 0.001 to below 0.5"),
        ({"count": 1}, "--count 1: must be at least 2"),
        ({"lens_index": -1}, "--lens-index -1: must be at least 0"),
        ({"grid": 2}, "--grid 2: must be from 3 to 101"),
        ({"preset": "demo_clasification"}, "did you mean 'demo_classification'?"),
        ({"preset": "model_2_as_run"}, "noise whose distribution is not known"),
    ],
)
def test_wrong_options_are_refused(
    published: Path, options: dict[str, object], message: str
) -> None:
    run = load_run(published / "runs" / "demo_classification")
    if options.get("preset") == "model_2_as_run":
        image = load_preset("model_2_as_run").image.model_copy(update={"pixels": 48})
        options = {"preset": PRESET.model_copy(update={"image": image})}
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        measure_sensitivity(run, **options)  # type: ignore[arg-type]


def test_runs_that_detect_nothing_are_refused(published: Path) -> None:
    with pytest.raises(RunError, match="is a run for regression, which detects nothing"):
        measure_sensitivity(published / "runs" / "demo_mass")
    run = load_run(published / "runs" / "demo_classification")
    with pytest.raises(RunError, match="no, sphere, vort; preset halo_mass has masses"):
        measure_sensitivity(run, preset="halo_mass")
    with pytest.raises(RunError, match=r"150 x 150 pixels.*give another with --preset"):
        measure_sensitivity(run, preset="common_test_1")
    for name, message in ((None, "no known preset"), ("mine", "does not come with halometry")):
        data = run.config.data.model_copy(update={"preset": name})
        other = replace(run, config=run.config.model_copy(update={"data": data}))
        with pytest.raises(RunError, match=f"{message}.*--preset"):
            measure_sensitivity(other)
