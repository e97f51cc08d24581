"""The figures of an evaluation and a comparison, each from plain arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from halometry.plotting import (
    MUTED_COLOR,
    TEXT_COLOR,
    colors_by_name,
    create_figure,
    montage,
    save_figure,
    to_svg,
    with_style,
)

__all__ = [
    "confusion_figure",
    "learning_figure",
    "montage",
    "regression_figure",
    "roc_figure",
    "save_figure",
    "to_svg",
]

Curve = tuple[np.ndarray, np.ndarray, float]


@with_style
def roc_figure(models: Mapping[str, Mapping[str, Curve]]) -> Figure:
    """ROC curves, a panel a class, a line a network.

    Args:
        models: for each network and class the false and true positive rates and the area.
    """
    classes = list(next(iter(models.values())))
    color = colors_by_name(models)
    made, axes = create_figure(3.5 * len(classes), 4.1, 1, len(classes), sharey=True)
    for panel, name in zip(axes[0], classes, strict=True):
        panel.plot([0, 1], [0, 1], color=MUTED_COLOR, lw=1, ls=":")
        for model, curves in models.items():
            fpr, tpr, area = curves[name]
            panel.plot(fpr, tpr, color=color[model], lw=2, label=f"{model}  {area:.3f}")
        panel.set_title(f"{name} against the rest")
        panel.set_xlabel("false positive rate")
        panel.set_xlim(-0.02, 1.02)
        panel.set_ylim(-0.02, 1.02)
        panel.set_box_aspect(1)
        panel.legend(
            loc="lower right", fontsize=8.5, title="area under the curve", title_fontsize=8
        )
    axes[0, 0].set_ylabel("true positive rate")
    return made


@with_style
def confusion_figure(matrices: Mapping[str, np.ndarray], class_names: Sequence[str]) -> Figure:
    """Confusion matrices, a panel a network; each row adds up to 100 %.

    Args:
        matrices: images of each true class (rows) called each class (columns), (K, K).
        class_names: K names.
    """
    count = len(class_names)
    side = max(2.9, 0.85 * count)
    made, axes = create_figure(
        side * len(matrices) + 0.4, side + 0.5, 1, len(matrices), sharey=True
    )
    for panel, (name, matrix) in zip(axes[0], matrices.items(), strict=True):
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        panel.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for i in range(count):
            for j in range(count):
                panel.text(
                    j,
                    i,
                    f"{shares[i, j]:.0%}\n{matrix[i, j]:,}",
                    ha="center",
                    va="center",
                    fontsize=9,
                    linespacing=1.4,
                    color="white" if shares[i, j] > 0.55 else TEXT_COLOR,
                )
        panel.set_xticks(range(count), class_names)
        panel.set_yticks(range(count), class_names)
        panel.set_title(name)
        panel.set_xlabel("called")
        panel.grid(False)
        panel.tick_params(length=0)
        for spine in panel.spines.values():
            spine.set_visible(False)
    axes[0, 0].set_ylabel("truly")
    return made


@with_style
def regression_figure(models: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """True against predicted masses, residuals below, a column a network.

    Args:
        models: for each network true and predicted mass fractions (N,).
    """
    color = colors_by_name(models)
    values = np.concatenate([np.concatenate(pair) for pair in models.values()])
    low, high = np.quantile(values, (0.001, 0.999))
    margin = 0.05 * (high - low)
    limits = (low - margin, high + margin)
    made, axes = create_figure(
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
            middle, median, spread = _running(truth, shown)
            panel.errorbar(
                middle,
                median,
                spread,
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
    axes[1, 0].set_ylabel("difference")
    return made


def _running(truth: np.ndarray, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Median and quartiles' distances in eight equally full bins of the truth."""
    bins = [part for part in np.array_split(np.argsort(truth), 8) if len(part)]
    middle = np.array([np.median(truth[part]) for part in bins])
    low, median, high = np.array([np.quantile(shown[part], (0.25, 0.5, 0.75)) for part in bins]).T
    return middle, median, np.stack([median - low, high - median])


@with_style
def learning_figure(histories: Mapping[str, Sequence[Mapping[str, float]]], metric: str) -> Figure:
    """Losses and the validation metric against the number of images seen.

    Args:
        histories: for each network the lines of its `history.csv`.
        metric: what the validation metric is called.
    """
    color = colors_by_name(histories)
    made, axes = create_figure(9.6, 3.6, 1, 2)
    left, right = axes[0]
    for name, lines in histories.items():
        seen = [line["images"] / 1000 for line in lines]
        marker = "o" if len(lines) < 12 else None
        left.plot(seen, [line["loss"] for line in lines], color=color[name], lw=1.2, ls="--")
        left.plot(
            seen, [line["val_loss"] for line in lines], color=color[name], lw=2, label=name,
            marker=marker, ms=4,
        )  # fmt: skip
        values = [line["val_metric"] for line in lines]
        right.plot(seen, values, color=color[name], lw=2, label=name, marker=marker, ms=4)
    left.set_title("loss: validation (line), training (dashed)")
    right.set_title(f"{metric} on the validation set")
    losses = np.array([line["val_loss"] for lines in histories.values() for line in lines])
    losses = losses[np.isfinite(losses)]
    if len(losses):
        top = float(np.quantile(losses, 0.95))  # those of densities may be negative
        left.set_ylim(min(0.0, 1.15 * losses.min()), top + 0.15 * abs(top))
    if metric == "R²":
        right.set_ylim(-0.3, 1)
    for panel in (left, right):
        panel.set_xlabel("images seen, thousands")
        panel.legend(fontsize=9)
    return made
