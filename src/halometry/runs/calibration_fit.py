"""Calibration, at the end of a training: temperature, biases, and the scores behind sets."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from halometry.calibration.conformal import Conformal, conformal_of
from halometry.calibration.posterior import Posterior
from halometry.calibration.temperature import fit_temperature, tempered
from halometry.datasets.dataset import LabeledImages
from halometry.datasets.splits import Split
from halometry.io import write_text
from halometry.runs.predict_rows import answers_to
from halometry.runs.run import CONFORMAL, Run, write_config
from halometry.simulation.rng import CALIBRATION_ENTROPY

MOST = 2000  # images of a training set that either is made from, which bounds the time


@dataclass(frozen=True)
class Reserved:
    """Which images of a set a run is calibrated on; rows, int64.

    Attributes:
        fitted: the temperature and the biases.
        scored: sets and intervals.
        images: what the latter are, in words.
        untouched: whether nothing else was chosen or fitted with them.
    """

    fitted: np.ndarray
    scored: np.ndarray
    images: str
    untouched: bool


def reserved(split: Split) -> Reserved:
    """The images that a split sets aside: those that chose the checkpoint, and untouched ones.

    Splits of earlier versions have none of the latter; the validation images are then halved.
    """
    if len(split.calibration):
        what = "images of the training set, kept aside for this"
        return Reserved(thinned(split.validation), thinned(split.calibration), what, True)
    fitted, scored = halves(split.validation)
    what = "images of the training set, which also chose the checkpoint"
    return Reserved(thinned(fitted), thinned(scored), what, False)


def halves(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A random half of some rows, and the others, each sorted."""
    mixed = np.random.default_rng(CALIBRATION_ENTROPY).permutation(rows)
    first, second = np.array_split(mixed, 2)
    return np.sort(first), np.sort(second)


def calibrate_on(run: Run, data: LabeledImages, parts: Reserved, device: str) -> Conformal:
    """Fit temperature and biases, take the scores, and write all into the run folder.

    Args:
        run: whose weights are in their place.
        data: labeled images that fit it.
        parts: which of them are used.
        device: `auto`, `cpu`, or as PyTorch names it.

    Returns:
        The scores.

    Raises:
        StorageError: the folder cannot be written.
    """
    plain = replace(run, config=run.config.model_copy(update={"temperature": 1.0, "bias": ()}))
    classes = run.config.task == "classification"
    fitted, scored = parts.fitted, parts.scored
    asked = np.concatenate([fitted, scored]) if classes else scored
    outputs = answers_to(plain.answerer(device), data, asked, f"calibrating {run.name}")
    temperature, bias = 1.0, tuple[float, ...]()
    if classes:
        temperature, bias = _fitted(data.labels[fitted], outputs[: len(fitted)])
        outputs = tempered(outputs[len(fitted) :], temperature, bias)
    grid = run.config.grid
    answers = outputs if grid is None else Posterior(grid, outputs)
    images = f"{len(scored):,} {parts.images}"
    truth = data.labels[scored]
    conformal = conformal_of(truth, answers, images, data.fingerprint, parts.untouched)
    # Never scores beside a temperature that they are not of, whatever interrupts this.
    (run.path / CONFORMAL).unlink(missing_ok=True)
    update = {"temperature": temperature, "bias": bias}
    write_config(run.path, run.config.model_copy(update=update))
    write_text(run.path / CONFORMAL, conformal.to_json())
    return conformal


def _fitted(truth: np.ndarray, probabilities: np.ndarray) -> tuple[float, tuple[float, ...]]:
    """Temperature and biases, rounded for people to read."""
    temperature, bias = fit_temperature(truth, probabilities)
    return round(temperature, 4), tuple(round(one, 4) for one in bias)


def thinned(rows: np.ndarray) -> np.ndarray:
    """At most 2,000 of some rows, from all over the set."""
    if len(rows) <= MOST:
        return rows
    return rows[np.linspace(0, len(rows) - 1, MOST).round().astype(int)]
