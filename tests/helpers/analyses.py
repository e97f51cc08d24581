"""Small results of fits and of the analyses, made without a network, and their files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from halometry.attribution.explain import Attribution
from halometry.attribution.pointing_game import PointingGame
from halometry.attribution.tables import AttributionResult, write_attribution
from halometry.datasets.readers import Image
from halometry.errors import ReadError
from halometry.evaluation.bootstrap import Interval
from halometry.io import write_table
from halometry.lensfit import Fitter
from halometry.lensfit.tables import write_fits
from halometry.population.command import infer_population
from halometry.robustness.core import Robustness, ShiftStep
from halometry.robustness.tables import write_robustness
from halometry.runs.run import load_run
from halometry.sensitivity import (
    BLIND_SEARCH,
    FITTED_LENS,
    FIXED_LENS,
    NETWORK,
    DetectionOutcomes,
    Sensitivity,
    SensitivityMap,
    write_sensitivity,
)
from halometry.simulation import load_preset, sample


def write_robustness_example(folder: Path) -> None:
    metrics = {key: Interval(0.5, 0.4, 0.6) for key in ("auc", "ece", "ood_fraction")}
    unshifted = ShiftStep(None, 1.0, metrics, None)
    shifted = ShiftStep("sky", 2.0, metrics, Interval(-0.1, -0.2, 0.0))
    run, preset = load_run("common_test_1/d4net"), load_preset("common_test_1")
    result = Robustness(run, preset, 1, 30, unshifted, [shifted], "halometry robustness", "cpu")
    write_robustness(result, folder)


def write_fits_example(folder: Path) -> None:
    preset = load_preset("demo_classification")
    image = sample(preset, seed=5, start=0, count=1)[0][0].numpy()
    fit = Fitter(preset, draws=100).fit(Image(image, None, "image.npy"))
    write_fits(folder, [fit, ReadError("damaged.npy", "is truncated")])


def write_attribution_example(folder: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = rng.random((2, 8, 8))
    attributions = [
        Attribution(f"{k}.npy", "no 90%", each, each) for k, each in enumerate(pictures)
    ]
    game = PointingGame("the vortex", rng.random((3, 3)), 0.5)
    result = AttributionResult(
        "runs/classes", "saliency", "common_test_1", 0, attributions, [game], "cpu"
    )
    write_attribution(result, folder)


def write_sensitivity_example(folder: Path) -> None:
    rng, masses = np.random.default_rng(0), np.array([8.0, 9.0, 10.0])
    probabilities = np.tile([[0.1], [0.6], [0.95]], (1, 5))
    ideal = dict.fromkeys((FIXED_LENS, FITTED_LENS, BLIND_SEARCH), probabilities)
    scores = masses[:, None] - 9 + rng.random((3, 5))
    outcomes = DetectionOutcomes(masses, rng.random(20), scores, ideal, 0.1)
    x, y = (axis.ravel() for axis in np.meshgrid([-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0]))
    detectable = dict.fromkeys((NETWORK, FIXED_LENS, FITTED_LENS), 9 + 0.1 * x)
    map_ = SensitivityMap(0, rng.random((8, 8)), 0.1, x, y, detectable, 1.0)
    placements = {"anywhere": outcomes, "on the ring": outcomes}
    result = Sensitivity(
        "runs/classes", "d4net", "common_test_1", 0, 0.5, 3.5, placements, map_, "cpu"
    )
    write_sensitivity(result, folder)


def write_population_example(folder: Path) -> None:
    columns = ["image", "prob_no", "prob_sphere", "prob_vort"]
    rows = [[f"{k}.npy", 0.9, 0.05, 0.05] for k in range(10)]
    write_table(folder / "predictions.csv", "predictions", columns, rows)
    infer_population(folder / "predictions.csv", out=folder)


def write_mass_population_example(folder: Path) -> None:
    columns = ["image", "f_sub_lo95", "f_sub_lo68", "f_sub", "f_sub_hi68", "f_sub_hi95"]
    steps = np.array([-0.01, -0.005, 0, 0.005, 0.01])
    rng = np.random.default_rng(0)
    rows = [[f"{k}.npy", *(rng.normal(0.04, 0.01) + steps)] for k in range(30)]
    write_table(folder / "predictions.csv", "predictions", columns, rows)
    infer_population(folder / "predictions.csv", prior="halo_mass", out=folder)
