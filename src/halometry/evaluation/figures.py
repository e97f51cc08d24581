"""Figures of an evaluation: ROC curves, confusion matrices, true against predicted masses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from halometry.evaluation.precision_recall import PrecisionRecallCurve
from halometry.plotting import MUTED_COLOR, TEXT_COLOR, colors_by_name, create_figure, with_style

RocCurve = tuple[np.ndarray, np.ndarray, float]  # false and true positive rates, AUC


@with_style
def roc_figure(
    models: Mapping[str, Mapping[str, RocCurve]], *, two_classes: bool = False
) -> Figure:
    """ROC curves: one panel per class, one line per network.

    Args:
        models: for each network and class, false positive rates, true positive rates and the AUC.
        two_classes: whether the only class is the positive one of two.
    """
    classes = list(next(iter(models.values())))
    color = colors_by_name(models)
    drawn, axes = create_figure(3.5 * len(classes), 4.1, 1, len(classes), sharey=True)
    for panel, name in zip(axes[0], classes, strict=True):
        panel.plot([0, 1], [0, 1], color=MUTED_COLOR, lw=1, ls=":")
        for model, curves in models.items():
            fpr, tpr, area = curves[name]
            panel.plot(fpr, tpr, color=color[model], lw=2, label=f"{model}  {area:.3f}")
        panel.set_title(f"positive class: {name}" if two_classes else f"{name} against the rest")
        _rate_axes(panel, "false positive rate", legend="AUC", location="lower right")
    axes[0, 0].set_ylabel("true positive rate")
    return drawn


def _rate_axes(panel: Axes, label: str, *, legend: str, location: str) -> None:
    """Square axes from 0 to 1, with the title and the location of the legend."""
    panel.set_xlabel(label)
    panel.set_xlim(-0.02, 1.02)
    panel.set_ylim(-0.02, 1.02)
    panel.set_box_aspect(1)
    panel.legend(loc=location, fontsize=8.5, title=legend, title_fontsize=8)


@with_style
def precision_recall_figure(
    models: Mapping[str, Mapping[str, PrecisionRecallCurve]], frequencies: Mapping[str, float]
) -> Figure:
    """Precision against recall: one panel per class, one line per network.

    Args:
        models: for each network and class, recall, precision and the average precision.
        frequencies: fraction of images of each class, which is the precision of random scores.
    """
    color = colors_by_name(models)
    drawn, axes = create_figure(3.5 * len(frequencies), 4.1, 1, len(frequencies), sharey=True)
    for panel, (name, frequency) in zip(axes[0], frequencies.items(), strict=True):
        panel.axhline(frequency, color=MUTED_COLOR, lw=1, ls=":")
        for model, curves in models.items():
            recall, precision, mean = curves[name]
            label = f"{model}  {mean:.3f}"
            panel.step(recall, precision, where="post", color=color[model], lw=2, label=label)
        panel.set_title(f"{name}: {100 * frequency:.2g} % of the images")
        _rate_axes(panel, "recall", legend="average precision", location="lower left")
    axes[0, 0].set_ylabel("precision")
    return drawn


@with_style
def confusion_figure(matrices: Mapping[str, np.ndarray], class_names: Sequence[str]) -> Figure:
    """Confusion matrices, one panel per network; each row adds up to 100 %.

    Args:
        matrices: number of images by true class (rows) and predicted class (columns), (K, K).
        class_names: K names.
    """
    count = len(class_names)
    side = max(2.9, 0.85 * count)
    drawn, axes = create_figure(
        side * len(matrices) + 0.4, side + 0.5, 1, len(matrices), sharey=True
    )
    for panel, (name, matrix) in zip(axes[0], matrices.items(), strict=True):
        fractions = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        panel.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
        for i in range(count):
            for j in range(count):
                panel.text(
                    j,
                    i,
                    f"{fractions[i, j]:.0%}\n{matrix[i, j]:,}",
                    ha="center",
                    va="center",
                    fontsize=9,
                    linespacing=1.4,
                    color="white" if fractions[i, j] > 0.55 else TEXT_COLOR,
                )
        panel.set_xticks(range(count), class_names)
        panel.set_yticks(range(count), class_names)
        panel.set_title(name)
        panel.set_xlabel("predicted class")
        panel.grid(False)
        panel.tick_params(length=0)
        for spine in panel.spines.values():
            spine.set_visible(False)
    axes[0, 0].set_ylabel("true class")
    return drawn


@with_style
def regression_figure(
    models: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    colors: Mapping[str, str] | None = None,
    limits: tuple[float, float] | None = None,
) -> Figure:
    """Predicted against true mass fractions, and residuals below; one column per network.

    Args:
        models: for each network, true and predicted mass fractions (N,).
        colors: for each network; those of `colors_by_name` if not given.
        limits: of both axes; those of `regression_limits` if not given.
    """
    color = colors or colors_by_name(models)
    limits = limits or regression_limits([array for pair in models.values() for array in pair])
    drawn, axes = create_figure(
        3.6 * len(models),
        5.2,
        2,
        len(models),
        sharex=True,
        sharey="row",
        gridspec_kw={"height_ratios": [3, 1.3]},
    )
    for column, (name, (truth, predicted)) in enumerate(models.items()):
        above, below = axes[:, column]
        r2 = 1 - np.mean((predicted - truth) ** 2) / np.var(truth)
        above.plot(limits, limits, color=MUTED_COLOR, lw=1, ls=":")
        above.scatter(truth, predicted, s=7, alpha=0.35, color=color[name], lw=0)
        below.axhline(0, color=MUTED_COLOR, lw=1, ls=":")
        below.scatter(truth, predicted - truth, s=7, alpha=0.35, color=color[name], lw=0)
        for panel, shown in ((above, predicted), (below, predicted - truth)):
            center, median, errors = _binned_median(truth, shown)
            panel.errorbar(
                center,
                median,
                errors,
                color=TEXT_COLOR,
                lw=1.2,
                marker="o",
                ms=3.5,
                capsize=0,
                zorder=3,
            )
        above.set_title(f"{name}   R² {r2:.3f}")
        above.set_ylim(limits)
        above.set_xlim(limits)
        below.set_xlabel("true mass fraction")
    axes[0, 0].set_ylabel("predicted mass fraction")
    axes[1, 0].set_ylabel("predicted − true")
    return drawn


def regression_limits(values: Sequence[np.ndarray]) -> tuple[float, float]:
    """Limits of axes that show nearly all of some mass fractions, with a margin."""
    low, high = np.quantile(np.concatenate(values), (0.001, 0.999))
    margin = 0.05 * (high - low)
    return float(low - margin), float(high + margin)


def _binned_median(
    truth: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Median true value, median value, and distances to its quartiles (2, 8).

    The eight bins have equal numbers of images, sorted by the true value.
    """
    bins = [part for part in np.array_split(np.argsort(truth), 8) if len(part)]
    center = np.array([np.median(truth[part]) for part in bins])
    low, median, high = np.array([np.quantile(values[part], (0.25, 0.5, 0.75)) for part in bins]).T
    return center, median, np.stack([median - low, high - median])
