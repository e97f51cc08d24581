"""What a network sees of one subhalo beside what could be seen."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binom
from sklearn.isotonic import isotonic_regression

from halometry.errors import RunError, UsageError
from halometry.lensfit.likelihood import Model, PoissonLikelihood
from halometry.lensfit.linear import project_out
from halometry.lensfit.optimize import maximize_likelihood
from halometry.lensfit.parametrization import build_parametrization
from halometry.log import track
from halometry.runs.run import load_run
from halometry.sensitivity import (
    BLIND_SEARCH,
    FITTED_LENS,
    FIXED_LENS,
    NETWORK,
    DetectionOutcomes,
    Detector,
    SmoothLenses,
    detect_subhalos,
    score_smooth_lenses,
    score_threshold,
)
from halometry.sensitivity.command import measure_sensitivity
from halometry.sensitivity.core import ideal_probabilities
from halometry.sensitivity.curves import first_crossing, isotonic
from halometry.sensitivity.lenses import (
    add_subhalo,
    expected_counts,
    move_to_ring,
    smooth_scenes,
)
from halometry.sensitivity.tables import format_log10_mass, format_mass_ratio
from halometry.simulation import Preset, load_preset
from halometry.simulation.distributions import Quantity

PRESET = load_preset("demo_classification")
ALPHA = 0.1


@pytest.fixture(scope="module")
def some() -> SmoothLenses:
    return SmoothLenses.draw(PRESET, 7, 0, 6)


def on_the_ring(some: SmoothLenses, mass: float) -> torch.Tensor:
    scene = move_to_ring(add_subhalo(some.scene, some.preset, mass, 7, 0))
    return expected_counts(scene, some.preset)


@pytest.mark.parametrize("preset", ["common_test_1_broad", "halo_mass_broad", "euclid"])
def test_what_a_preset_leaves_open_is_fitted_too(preset: str) -> None:
    lenses = SmoothLenses.draw(load_preset(preset), 7, 0, 1)
    assert lenses.derivatives.shape[1] > 10
    assert bool(lenses.derivatives.abs().amax(dim=(0, 2)).gt(0).all())


def test_a_subhalo_has_its_mass_and_for_all_masses_one_place(some: SmoothLenses) -> None:
    light, heavy = (add_subhalo(some.scene, PRESET, m, 7, 0) for m in (1e9, 1e10))
    torch.testing.assert_close(light.subhalo_mass, torch.full_like(light.subhalo_mass, 1e9))
    torch.testing.assert_close(light.subhalo_x, heavy.subhalo_x)
    torch.testing.assert_close(heavy.f_sub, 10 * light.f_sub)
    radius = torch.hypot(light.subhalo_x, light.subhalo_y)
    assert float(radius.max()) < 2
    assert len(radius.unique()) == len(some.scene)
    ring = move_to_ring(light)
    at = torch.hypot(ring.subhalo_x, ring.subhalo_y)[:, 0]
    torch.testing.assert_close(at, some.scene.einstein_radius)


def test_one_of_truncated_halos_has_their_profile() -> None:
    preset = load_preset("euclid")
    scene = smooth_scenes(preset, 1, 0, 2, "cpu")
    one = add_subhalo(scene, preset, 1e9, 1, 0)
    assert (one.subhalo_truncation_radius > one.subhalo_scale_radius).all()
    assert (one.subhalo_scale_radius > 0).all()


def test_what_a_larger_ring_explains_is_no_subhalo(some: SmoothLenses) -> None:
    wider = replace(some.scene, einstein_radius=some.scene.einstein_radius + 2e-3)
    chances = ideal_probabilities(some, expected_counts(wider, PRESET), ALPHA, 2.5)
    assert (chances[FIXED_LENS] > 0.5).all()
    torch.testing.assert_close(
        chances[FITTED_LENS], torch.full_like(chances[FITTED_LENS], ALPHA), atol=0.03, rtol=0
    )


def test_who_knows_less_finds_less_and_heavier_ones_more(some: SmoothLenses) -> None:
    light, heavy = (ideal_probabilities(some, on_the_ring(some, m), ALPHA, 2.5) for m in (3e8, 1e9))
    for chances in (light, heavy):
        assert (chances[FIXED_LENS] >= chances[FITTED_LENS] - 1e-3).all()
        assert (chances[FITTED_LENS] > chances[BLIND_SEARCH]).all()
    for name in (FIXED_LENS, FITTED_LENS, BLIND_SEARCH):
        assert (heavy[name] > light[name]).all()


def test_the_gain_with_the_lens_fitted_is_that_of_a_fit(some: SmoothLenses) -> None:
    lumpy = on_the_ring(some, 3e9)
    left = project_out(some.normalized_differences(lumpy)[:, None], some.derivatives)[:, 0]
    linear = left.square().sum(dim=-1)
    layout = build_parametrization(PRESET, some.scene.rows(slice(0, 1)))
    theta = layout.coordinates(lambda name: getattr(some.scene, name))
    with torch.no_grad():
        for k in range(3):  # an image without noise, whose deviance is the gain that is expected
            likelihood = PoissonLikelihood(lumpy[k])
            found = maximize_likelihood(Model(PRESET, layout), likelihood, theta[k : k + 1])
            assert float(found.deviance) == pytest.approx(float(linear[k]), rel=0.1)


def fixed(radius: float) -> Preset:
    """One lens, and one place for a subhalo."""
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
    """The best of all networks for one lens and one subhalo."""

    def __init__(self, smooth: torch.Tensor, lumpy: torch.Tensor) -> None:
        self.log = (lumpy / smooth).log().numpy().ravel()
        self.middle = float((smooth + lumpy).numpy().ravel() @ self.log / 2)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        ratio = images.reshape(len(images), -1).astype(np.float64) @ self.log - self.middle
        lumpy = 1 / (1 + np.exp(-ratio))
        return np.stack([1 - lumpy, lumpy / 3, lumpy * 2 / 3], axis=1)


def test_a_network_that_is_the_ideal_observer_reaches_its_limit() -> None:
    preset, mass, count = fixed(1.2), 8.9, 250
    one = SmoothLenses.draw(preset, 3, 0, 1)
    lumpy = expected_counts(add_subhalo(one.scene, preset, 10**mass, 3, 0), preset)
    judge = Detector(LikelihoodRatio(one.expected, lumpy), 0, preset, 3)
    with torch.no_grad(), track("", 1) as progress:
        smooth = score_smooth_lenses(judge, 600, "cpu", progress)
        outcomes = detect_subhalos(
            judge, smooth, np.array([mass]), count, ALPHA, 2.5, "cpu", progress
        )["anywhere"]
    (found,), (limit,) = outcomes.completeness(NETWORK), outcomes.completeness(FIXED_LENS)
    assert 0.2 < limit.value < 0.95
    assert found.value == pytest.approx(limit.value, abs=0.1)


def test_fresh_smooth_lenses_are_called_lumpy_as_often_as_asked() -> None:
    preset, asked = fixed(1.2), 0.05
    one = SmoothLenses.draw(preset, 3, 0, 1)
    lumpy = expected_counts(add_subhalo(one.scene, preset, 2e9, 3, 0), preset)
    answerer = LikelihoodRatio(one.expected, lumpy)
    with torch.no_grad(), track("", 1) as progress:
        first, fresh = (
            score_smooth_lenses(Detector(answerer, 0, preset, seed), 800, "cpu", progress)
            for seed in (3, 4)
        )
    assert (first > score_threshold(first, asked)).mean() == pytest.approx(asked, abs=2 / 800)
    low, high = binom.interval(0.9999, 800, asked)
    assert (
        low / 1.6 < (fresh > score_threshold(first, asked)).sum() < high * 1.6
    )  # the cut has its own error


def test_the_same_seed_gives_the_same_and_another_something_else() -> None:
    def answerer(images: np.ndarray) -> np.ndarray:
        light = images.mean(axis=(1, 2, 3)) / 200
        return np.stack([1 - light, light / 2, light / 2], axis=1)

    with torch.no_grad(), track("", 1) as progress:
        first, again, other = (
            score_smooth_lenses(Detector(answerer, 0, PRESET, seed), 10, "cpu", progress)
            for seed in (3, 3, 4)
        )
    np.testing.assert_array_equal(first, again)
    assert not np.isin(other, first).any()


def outcomes(offset: float, count: int = 400) -> DetectionOutcomes:
    """A network whose scores are a normal deviate plus twice the mass above 9 and an offset."""
    rng, masses = np.random.default_rng(0), np.arange(8, 10.01, 0.25)
    scores = rng.normal(size=(len(masses), count)) + 2 * (masses[:, None] - 9 - offset)
    limit = np.clip((masses[:, None] - 8.5 + np.zeros(count)), 0, 1)
    return DetectionOutcomes(masses, rng.normal(size=4000), scores, {FITTED_LENS: limit}, 0.1)


def test_masses_at_a_completeness_are_those_of_the_curve() -> None:
    one = outcomes(0.0)
    mass = one.log10_mass(NETWORK, 0.5, 200)  # where the mean is the threshold, 1.2816
    assert mass.low < 9 + 1.2816 / 2 < mass.high
    assert mass.high - mass.low < 0.2
    assert one.log10_mass(FITTED_LENS, 0.5, 10).value == pytest.approx(9.0)
    behind = one.delta_log10_mass(NETWORK, FITTED_LENS, 0.5, 200)
    assert behind.low < 1.2816 / 2 < behind.high
    assert one.is_reached(NETWORK, 0.5)


def test_a_mass_that_is_not_reached_is_the_heaviest_and_said_so() -> None:
    one = outcomes(3.0)
    assert not one.is_reached(NETWORK, 0.5)
    assert one.log10_mass(NETWORK, 0.5, 20).value == 10.0
    assert format_log10_mass(one, NETWORK, 0.5) == "above 10.00"


def test_an_interval_that_the_heaviest_cuts_off_has_no_upper_end() -> None:
    assert format_log10_mass(outcomes(0.0, 40), NETWORK, 0.5).endswith("]")
    cut_off = outcomes(0.3, 40)
    assert re.fullmatch(r"9\.\d\d, above 9\.\d\d", format_log10_mass(cut_off, NETWORK, 0.5))
    assert re.fullmatch(r"[\d.]+, above [\d.]+", format_mass_ratio(cut_off, FITTED_LENS))


def test_a_curve_is_made_to_rise_as_scikit_learn_does() -> None:
    values = np.random.default_rng(0).random((20, 9))
    expected = [isotonic_regression(one) for one in values]
    np.testing.assert_allclose(isotonic(values), expected, atol=1e-12)


def test_a_crossing_is_on_the_line_between_two_points() -> None:
    at, values = np.array([8.0, 9.0, 10.0]), np.array([[0.2, 0.4, 0.9], [0.7, 0.8, 0.9]])
    np.testing.assert_allclose(first_crossing(0.65, at, values), [9.5, 8.0])
    assert np.isinf(first_crossing(0.95, at, values)).all()


def test_a_run_is_measured_and_written(published: Path, tmp_path: Path) -> None:
    run = published / "runs" / "demo_classification"
    seen = measure_sensitivity(
        run, tmp_path / "out", count=3, false_positives=0.4, grid=5, device="cpu"
    )
    record = json.loads((tmp_path / "out" / "sensitivity.json").read_text())
    assert record["preset"] == "demo_classification"
    assert (record["lenses"], record["smooth_lenses"]) == (3, 50)
    assert [row[1] for row in record["rows"][1:5]] == [
        "test_resnet",
        FIXED_LENS,
        FITTED_LENS,
        BLIND_SEARCH,
    ]
    assert len(record["map"]["x_arcsec"]) == len(seen.map.x) == 13
    assert "false alarms" in record["conclusion"][0]
    for observer in (FIXED_LENS, FITTED_LENS):
        assert seen.map.fraction_detected(observer, 12.0) > 0.5
    with (tmp_path / "out" / "sensitivity.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 4 * len(record["log10_masses"])
    for name in ("completeness.png", "map.png"):
        assert (tmp_path / "out" / name).stat().st_size > 10_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"false_positives": 0.0}, "--false-positives 0: must be from 0.001 to below 0.5"),
        ({"count": 1}, "--count 1: must be at least 2"),
        ({"grid": 2}, "--grid 2: must be from 3 to 101"),
        ({"preset": "demo_clasification"}, "did you mean 'demo_classification'?"),
        ({"preset": "model_2_as_run"}, "noise whose law is not known"),
    ],
)
def test_options_that_cannot_work(
    published: Path, options: dict[str, object], message: str
) -> None:
    run = load_run(published / "runs" / "demo_classification")
    if options.get("preset") == "model_2_as_run":
        image = load_preset("model_2_as_run").image.model_copy(update={"pixels": 48})
        options = {"preset": PRESET.model_copy(update={"image": image})}
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        measure_sensitivity(run, **options)  # type: ignore[arg-type]


def test_runs_that_find_nothing(published: Path) -> None:
    with pytest.raises(RunError, match="is a run for regression, which finds nothing"):
        measure_sensitivity(published / "runs" / "demo_mass")
    run = load_run(published / "runs" / "demo_classification")
    with pytest.raises(RunError, match="answers for no, sphere, vort; preset halo_mass has masses"):
        measure_sensitivity(run, preset="halo_mass")
    with pytest.raises(RunError, match=r"150 x 150 pixels.*give another with --preset"):
        measure_sensitivity(run, preset="common_test_1")
    for name, message in ((None, "was not simulated"), ("mine", "none of the package's")):
        data = run.config.data.model_copy(update={"preset": name})
        other = replace(run, config=run.config.model_copy(update={"data": data}))
        with pytest.raises(RunError, match=f"{message}.*--preset"):
            measure_sensitivity(other)
