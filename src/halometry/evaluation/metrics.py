"""Metrics of classifications and of mass fractions, with confidence intervals."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.stats import rankdata
from sklearn import metrics as sklearn_metrics

from halometry.config import Task
from halometry.errors import DataError
from halometry.evaluation.bootstrap import Interval, binomial_interval, bootstrap

MIN_PROBABILITY = 1e-7  # smaller probabilities are replaced by this in the cross-entropy
MAX_ROC_POINTS = 400
NEGATION = re.compile(r"no(?:n|t)?(?=$|[-_ ])|non", re.IGNORECASE)  # begins a negative class's name

METRIC_TITLES = {
    "auc": "AUC",
    "accuracy": "accuracy",
    "loss": "cross-entropy",
    "ece": "calibration error",
    "average_precision": "average precision",
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
METRIC_DEFINITIONS = {
    "auc": "Area under the ROC curve, the mean over all classes, each against the rest. Chance is"
    " 0.5, perfect is 1.",
    "accuracy": "Fraction of images whose most probable class is the true class.",
    "loss": "Mean of -log(probability of the true class).",
    "average_precision": "Average precision (AP): precision at the probability of each image of a"
    " class, averaged over these images. Chance is the fraction of the class, perfect is 1.",
    "ece": "Expected calibration error (ECE): mean distance between confidence and accuracy.",
    "mse": "Mean squared error of the mass fraction.",
    "rmse": "Square root of the mean squared error.",
    "mae": "Mean absolute error.",
    "r2": "Coefficient of determination: 1 - MSE / variance of the true values. Perfect is 1; the"
    " mean of the true values as prediction gives 0.",
    "bias": "Mean of predicted minus true mass fraction.",
    "nll": "Mean of -log(posterior density at the true mass fraction).",
    "crps": "Continuous ranked probability score: distance between posterior and true value.",
    "coverage_68": "Fraction of images whose true value is in the central 68 % interval.",
    "coverage_95": "Fraction of images whose true value is in the central 95 % interval.",
}
LOWER_IS_BETTER = {"loss", "ece", "mse", "rmse", "mae", "nll", "crps"}
UNRANKED = {"bias", "coverage_68", "coverage_95"}  # neither the lowest nor the highest is best

Statistic = Callable[[np.ndarray], np.ndarray]  # rows (R, N), one resample per line, to (R,)


def metric_title(key: str) -> str:
    """Name of a metric as it is shown.

    Example:
        >>> metric_title("r2"), metric_title("auc_vort")
        ('R²', 'AUC of vort')
    """
    prefix, _, name = key.partition("_")
    of_class = {"auc": f"AUC of {name}", "ap": f"AP of {name}"}
    return METRIC_TITLES.get(key) or of_class.get(prefix, key)


def key_metric(task: Task) -> str:
    """Metric by which networks are ranked: `auc` or `r2`."""
    return "auc" if task == "classification" else "r2"


def area_under_roc(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Area under the ROC curve, computed from ranks; ties count half.

    Args:
        scores: (..., N).
        positive: boolean (..., N).

    Returns:
        (...): probability that a positive has a higher score than a negative; NaN where there are
        only positives or only negatives.

    Reference:
        Hanley & McNeil (1982), Radiology 143, 29, section on the Wilcoxon statistic.
    """
    ranks = rankdata(scores, axis=-1)
    positives, total = positive.sum(axis=-1), scores.shape[-1]
    negatives = total - positives
    with np.errstate(invalid="ignore", divide="ignore"):
        area: np.ndarray = ((ranks * positive).sum(axis=-1) - positives * (positives + 1) / 2) / (
            positives * negatives
        )
    return area


def classification_metrics(
    truth: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Metrics of class probabilities.

    Args:
        truth: class indices (N,).
        probabilities: (N, K).
        class_names: K names.
        resamples: of the bootstrap, stratified by class; the interval of the accuracy is binomial.
        seed: of the resampling.

    Returns:
        `auc` (one-vs-rest, mean over classes), `auc_NAME`, `accuracy`, `loss` (cross-entropy in
        nats).

    Raises:
        DataError: a class has no images, so that its AUC is not defined.
    """
    groups = [np.flatnonzero(truth == k) for k in range(len(class_names))]
    for name, group in zip(class_names, groups, strict=True):
        if len(group) == 0:
            raise DataError(f"no test image is of class '{name}', so that no AUC is defined")
    predicted = probabilities.argmax(axis=1)
    losses = -np.log(np.maximum(probabilities[np.arange(len(truth)), truth], MIN_PROBABILITY))

    areas = [_one_vs_rest_auc(truth, probabilities, k) for k in range(len(class_names))]
    statistics: dict[str, Statistic] = {"auc": _mean_statistic(areas)}
    statistics |= {f"auc_{name}": area for name, area in zip(class_names, areas, strict=True)}
    metrics = _intervals(statistics, groups, resamples, seed)
    for name, group in zip(class_names, groups, strict=True):
        if metrics[f"auc_{name}"].value == 1:
            metrics[f"auc_{name}"] = perfect_interval(len(group), len(truth) - len(group))
    if metrics["auc"].value == 1:
        per_class = (metrics[f"auc_{name}"] for name in class_names)
        metrics["auc"] = min(per_class, key=lambda interval: interval.low)
    metrics["accuracy"] = binomial_interval(int((predicted == truth).sum()), len(truth))
    loss = {"loss": lambda rows: losses[rows].mean(axis=1)}
    return metrics | _intervals(loss, groups, resamples, seed)


def perfect_interval(positives: int, negatives: int) -> Interval:
    """Interval of an AUC of one, which is the same in all resamples: as of independent pairs."""
    pairs = min(positives, negatives)
    return binomial_interval(pairs, pairs)


def _one_vs_rest_auc(truth: np.ndarray, probabilities: np.ndarray, k: int) -> Statistic:
    return lambda rows: area_under_roc(probabilities[:, k][rows], truth[rows] == k)


def _mean_statistic(statistics: Sequence[Statistic]) -> Statistic:
    return lambda rows: np.mean([statistic(rows) for statistic in statistics], axis=0)


def _r2(truth: np.ndarray, predicted: np.ndarray) -> Statistic:
    squares = (predicted - truth) ** 2
    return lambda rows: 1 - squares[rows].mean(axis=1) / truth[rows].var(axis=1)


def comparison_statistics(
    truth: np.ndarray, outputs: np.ndarray
) -> tuple[dict[str, Statistic], list[np.ndarray]]:
    """Metrics by which networks are compared, and the groups of rows for their bootstrap.

    Args:
        truth: class indices or mass fractions (N,).
        outputs: probabilities (N, K), or mass fractions (N,).

    Returns:
        `auc`, or `r2` and `mse`, as functions of row numbers; and the rows of each class, or all
        rows in one group.
    """
    if outputs.ndim == 2:
        classes = range(outputs.shape[1])
        auc = _mean_statistic([_one_vs_rest_auc(truth, outputs, k) for k in classes])
        return {"auc": auc}, [np.flatnonzero(truth == k) for k in classes]
    squares = (outputs - truth) ** 2
    statistics = {"r2": _r2(truth, outputs), "mse": lambda rows: squares[rows].mean(axis=1)}
    return statistics, [np.arange(len(truth))]


def regression_metrics(
    truth: np.ndarray, predicted: np.ndarray, *, resamples: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Metrics of mass fractions.

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

    def mean_square(rows: np.ndarray) -> np.ndarray:
        return (errors[rows] ** 2).mean(axis=1)

    statistics: dict[str, Statistic] = {
        "mse": mean_square,
        "rmse": lambda rows: np.sqrt(mean_square(rows)),
        "mae": lambda rows: np.abs(errors[rows]).mean(axis=1),
        "r2": _r2(truth, predicted),
        "bias": lambda rows: errors[rows].mean(axis=1),
    }
    return _intervals(statistics, [np.arange(len(truth))], resamples, seed)


def _intervals(
    statistics: Mapping[str, Statistic],
    groups: list[np.ndarray],
    resamples: int,
    seed: int,
) -> dict[str, Interval]:
    """Value and bootstrap interval of each statistic."""
    rows = np.concatenate(groups)[None]
    return {
        name: bootstrap(
            statistic, groups, float(statistic(rows)[0]), resamples=resamples, seed=seed
        )
        for name, statistic in statistics.items()
    }


def confusion_matrix(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Number of images by true class (rows) and predicted class (columns), (K, K)."""
    labels = np.arange(probabilities.shape[1])
    matrix: np.ndarray = sklearn_metrics.confusion_matrix(
        truth, probabilities.argmax(axis=1), labels=labels
    )
    return matrix


def positive_class(class_names: Sequence[str]) -> int:
    """Index of the positive class of two: the second, unless only its name is a negation.

    Example:
        >>> positive_class(("no_sub", "sub")), positive_class(("lenses", "nonlenses"))
        (1, 0)
    """
    first, second = (bool(NEGATION.match(name)) for name in class_names)
    return 0 if second and not first else 1


def roc_curves(
    truth: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """False and true positive rates of each class against the rest, at no more than 400 points.

    Of two classes only the positive one has a curve, because that of the other is its mirror image.
    """
    curves = {}
    for k, name in enumerate(class_names):
        if len(class_names) == 2 and k != positive_class(class_names):
            continue
        fpr, tpr, _ = sklearn_metrics.roc_curve(truth == k, probabilities[:, k])
        keep = np.unique(np.linspace(0, len(fpr) - 1, MAX_ROC_POINTS).astype(int))
        curves[name] = (fpr[keep], tpr[keep])
    return curves
