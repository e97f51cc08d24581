"""How good answers are: figures of merit of classifications and of masses, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata
from sklearn import metrics as sklearn_metrics

from halometry.errors import DataError
from halometry.evaluation.bootstrap import Interval, binomial_interval, bootstrap

MIN_PROBABILITY = 1e-7  # below it a probability counts as this in the loss
MAX_ROC_POINTS = 400

METRIC_TITLES = {
    "auc": "AUC",
    "accuracy": "accuracy",
    "loss": "cross-entropy",
    "ece": "calibration error",
    "mse": "MSE",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
    "bias": "bias",
    "nll": "NLL",
    "crps": "CRPS",
    "coverage_68": "68 % coverage",
    "coverage_95": "95 % coverage",
}
LOWER_IS_BETTER = {"loss", "ece", "mse", "rmse", "mae", "nll", "crps"}
UNRANKED = {"bias", "coverage_68", "coverage_95"}  # the best is neither the lowest nor the highest

Statistic = Callable[[np.ndarray], np.ndarray]  # rows (R, N), a resample a line, to values (R,)


def metric_title(key: str) -> str:
    """What people call a metric.

    Example:
        >>> metric_title("r2"), metric_title("auc_vort")
        ('R²', 'AUC of vort')
    """
    return METRIC_TITLES.get(key, key.replace("auc_", "AUC of "))


def area_under_roc(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Area under the ROC curve by ranks, ties counted half.

    Args:
        scores: (..., N).
        positive: boolean (..., N).

    Returns:
        (...): the chance that a positive scores above a negative; NaN where one kind is missing.

    Reference:
        Hanley & McNeil (1982), Radiology 143, 29, section on the Wilcoxon statistic.
    """
    ranks = rankdata(scores, axis=-1)
    above, total = positive.sum(axis=-1), scores.shape[-1]
    below = total - above
    with np.errstate(invalid="ignore", divide="ignore"):
        area: np.ndarray = ((ranks * positive).sum(axis=-1) - above * (above + 1) / 2) / (
            above * below
        )
    return area


def classification_metrics(
    truth: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Figures of merit of class probabilities.

    Args:
        truth: class indices (N,).
        probabilities: (N, K).
        class_names: K names.
        resamples: of the bootstrap, class by class; the accuracy's interval is binomial.
        seed: of the resampling.

    Returns:
        `auc` (one against the rest, mean over classes), `auc_NAME`, `accuracy`, `loss`
        (cross-entropy in nats).

    Raises:
        DataError: a class has no images, so that its area is not defined.
    """
    count = len(class_names)
    groups = [np.flatnonzero(truth == k) for k in range(count)]
    for name, group in zip(class_names, groups, strict=True):
        if len(group) == 0:
            raise DataError(f"no test image is of class '{name}', so that no AUC is defined")
    chosen = probabilities.argmax(axis=1)
    losses = -np.log(np.maximum(probabilities[np.arange(len(truth)), truth], MIN_PROBABILITY))

    areas = [_area(truth, probabilities, k) for k in range(count)]
    statistics: dict[str, Statistic] = {"auc": _mean(areas)}
    statistics |= {f"auc_{name}": area for name, area in zip(class_names, areas, strict=True)}
    found = _estimates(statistics, groups, resamples, seed)
    for name, group in zip(class_names, groups, strict=True):
        if found[f"auc_{name}"].value == 1:
            found[f"auc_{name}"] = _all_in_order(len(group), len(truth) - len(group))
    if found["auc"].value == 1:
        found["auc"] = min((found[f"auc_{name}"] for name in class_names), key=lambda one: one.low)
    found["accuracy"] = binomial_interval(int((chosen == truth).sum()), len(truth))
    loss = {"loss": lambda rows: losses[rows].mean(axis=1)}
    return found | _estimates(loss, groups, resamples, seed)


def _all_in_order(positive: int, negative: int) -> Interval:
    """An area of one, which resampling cannot vary: as of so many independent pairs."""
    pairs = min(positive, negative)
    return binomial_interval(pairs, pairs)


def _area(truth: np.ndarray, probabilities: np.ndarray, k: int) -> Statistic:
    return lambda rows: area_under_roc(probabilities[:, k][rows], truth[rows] == k)


def _mean(statistics: Sequence[Statistic]) -> Statistic:
    return lambda rows: np.mean([statistic(rows) for statistic in statistics], axis=0)


def _r2(truth: np.ndarray, predicted: np.ndarray) -> Statistic:
    squares = (predicted - truth) ** 2
    return lambda rows: 1 - squares[rows].mean(axis=1) / truth[rows].var(axis=1)


def comparison_statistics(
    truth: np.ndarray, outputs: np.ndarray
) -> tuple[dict[str, Statistic], list[np.ndarray]]:
    """The metrics that networks are compared by, and which images are resampled together.

    Args:
        truth: class indices or mass fractions (N,).
        outputs: probabilities (N, K), or mass fractions (N,).

    Returns:
        `auc`, or `r2` and `mse`, as functions of row numbers; and the classes' rows, or all.
    """
    if outputs.ndim == 2:
        classes = range(outputs.shape[1])
        area = _mean([_area(truth, outputs, k) for k in classes])
        return {"auc": area}, [np.flatnonzero(truth == k) for k in classes]
    squares = (outputs - truth) ** 2
    statistics = {"r2": _r2(truth, outputs), "mse": lambda rows: squares[rows].mean(axis=1)}
    return statistics, [np.arange(len(truth))]


def regression_metrics(
    truth: np.ndarray, predicted: np.ndarray, resamples: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Figures of merit of masses.

    Args:
        truth, predicted: mass fractions (N,).
        resamples: of the bootstrap.
        seed: of the resampling.

    Returns:
        `mse`, `rmse`, `mae`, `r2` and `bias` (mean of predicted minus true).

    Raises:
        DataError: fewer than two images, or labels that are all equal.
    """
    if len(truth) < 2 or np.ptp(truth) == 0:
        raise DataError("at least two test images with different masses are needed")
    errors = predicted - truth

    def squared(rows: np.ndarray) -> np.ndarray:
        return (errors[rows] ** 2).mean(axis=1)

    statistics: dict[str, Statistic] = {
        "mse": squared,
        "rmse": lambda rows: np.sqrt(squared(rows)),
        "mae": lambda rows: np.abs(errors[rows]).mean(axis=1),
        "r2": _r2(truth, predicted),
        "bias": lambda rows: errors[rows].mean(axis=1),
    }
    return _estimates(statistics, [np.arange(len(truth))], resamples, seed)


def _estimates(
    statistics: Mapping[str, Statistic],
    groups: list[np.ndarray],
    resamples: int,
    seed: int,
) -> dict[str, Interval]:
    everything = np.concatenate(groups)[None]
    return {
        name: bootstrap(statistic, groups, float(statistic(everything)[0]), resamples, seed)
        for name, statistic in statistics.items()
    }


def confusion_matrix(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Images of each true class (rows) called each class (columns), (K, K)."""
    labels = np.arange(probabilities.shape[1])
    matrix: np.ndarray = sklearn_metrics.confusion_matrix(
        truth, probabilities.argmax(axis=1), labels=labels
    )
    return matrix


def roc_curves(
    truth: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """False and true positive rates of each class against the rest, thinned to 400 points."""
    curves = {}
    for k, name in enumerate(class_names):
        fpr, tpr, _ = sklearn_metrics.roc_curve(truth == k, probabilities[:, k])
        keep = np.unique(np.linspace(0, len(fpr) - 1, MAX_ROC_POINTS).astype(int))
        curves[name] = (fpr[keep], tpr[keep])
    return curves


def key_metric(record: dict[str, Any]) -> str:
    """The metric that networks are ranked by: `auc` or `r2`."""
    return "auc" if record["task"] == "classification" else "r2"
