"""Figures of a comparison: accuracy against latency, and learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from halometry.compare.ranking import pareto_front
from halometry.compare.schema import HistoryRow, ModelRecord
from halometry.evaluation.metrics import METRIC_TITLES
from halometry.plotting import MUTED_COLOR, colors_by_name, create_figure, with_style

# Offsets of a label from its point, in points; the first that overlaps no other label is used.
Offset = tuple[float, float]
LABEL_OFFSETS: tuple[Offset, ...] = ((10, -4), (10, 4), (-10, -4), (-10, 4))


@with_style
def pareto_figure(models: Sequence[ModelRecord], key: str) -> Figure:
    """Accuracy against latency with the Pareto front; networks behind it are hollow.

    Args:
        models: the networks.
        key: metric of the vertical axis.
    """
    drawn, axes = create_figure(5.6, 4.2)
    panel = axes[0, 0]
    color = colors_by_name(model.name for model in models)
    front = pareto_front(models, key)
    times = [model.latency for model in models]
    right_end = 3.0 * max(times)
    steps = [(model.latency, model.metrics[key].value) for model in front]
    steps.append((right_end, front[-1].metrics[key].value))
    panel.step(*zip(*steps, strict=True), where="post", color=MUTED_COLOR, lw=1.2, zorder=1)
    for model in models:
        interval = model.metrics[key]
        low, high = interval.value - interval.low, interval.high - interval.value
        panel.errorbar(
            model.latency,
            interval.value,
            [[max(low, 0)], [max(high, 0)]],
            fmt="o",
            ms=9,
            color=color[model.name],
            mfc=None if model in front else "white",
            mew=2,
            capsize=0,
            zorder=3,
        )
    panel.set_xscale("log")
    panel.set_xlim(0.45 * min(times), right_end)
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    panel.xaxis.set_minor_formatter(
        lambda value, _: f"{value:g}" if f"{value:g}"[0] in "25" else ""
    )
    panel.tick_params(axis="x", which="minor", labelsize=8, labelcolor=MUTED_COLOR)
    bottom, top = panel.get_ylim()
    panel.set_ylim(bottom - 0.12 * (top - bottom), top)
    panel.set_xlabel("latency of one image, ms")
    panel.set_ylabel(f"{METRIC_TITLES[key]} on test images, 95 % interval")
    panel.set_title("Accuracy against latency; the line is the Pareto front")
    _label_points(panel, models, key, color)
    return drawn


def _label_points(
    panel: Axes, models: Sequence[ModelRecord], key: str, color: Mapping[str, str]
) -> None:
    """Write name and size of each network beside its point, without overlaps."""
    taken: list[Bbox] = []
    for model in models:
        for offset in LABEL_OFFSETS:
            label = _label(panel, model, key, offset, color[model.name])
            box = label.get_window_extent()
            if not any(box.overlaps(other) for other in taken):
                break
            label.remove()
        else:
            _label(panel, model, key, LABEL_OFFSETS[0], color[model.name])
        taken.append(box)


def _label(panel: Axes, model: ModelRecord, key: str, offset: Offset, color: str) -> Annotation:
    x, y = offset
    return panel.annotate(
        f"{model.name}\n{model.cost.parameters / 1e6:.2f} M",
        (model.latency, model.metrics[key].value),
        xytext=offset,
        textcoords="offset points",
        ha="left" if x > 0 else "right",
        va="bottom" if y > 0 else "top",
        fontsize=9,
        color=color,
    )


@with_style
def loss_figure(histories: Mapping[str, Sequence[HistoryRow]]) -> Figure:
    """Training and validation losses against the number of training images.

    Args:
        histories: for each network, the rows of its `history.csv`.
    """
    drawn, panel = _learning_panel()
    color = colors_by_name(histories)
    for name, rows in histories.items():
        images = [row.images / 1000 for row in rows]
        panel.plot(images, [row.loss for row in rows], color=color[name], lw=1.2, ls="--")
        panel.plot(images, [row.val_loss for row in rows], **_line(name, rows, color))
    losses = np.array([row.val_loss for rows in histories.values() for row in rows])
    losses = losses[np.isfinite(losses)]
    if len(losses):
        top = float(np.quantile(losses, 0.95))  # losses of densities may be negative
        panel.set_ylim(min(0.0, 1.15 * losses.min()), top + 0.15 * abs(top))
    panel.set_title("Loss: validation (line), training (dashed)")
    panel.legend(fontsize=9)
    return drawn


@with_style
def validation_figure(histories: Mapping[str, Sequence[HistoryRow]], metric: str) -> Figure:
    """Validation metric against the number of training images.

    Args:
        histories: for each network, the rows of its `history.csv`.
        metric: title of the validation metric.
    """
    drawn, panel = _learning_panel()
    color = colors_by_name(histories)
    for name, rows in histories.items():
        images = [row.images / 1000 for row in rows]
        panel.plot(images, [row.val_metric for row in rows], **_line(name, rows, color))
    if metric == "R²":
        panel.set_ylim(-0.3, 1)
    panel.set_title(f"{metric} on the validation set")
    panel.legend(fontsize=9)
    return drawn


def _learning_panel() -> tuple[Figure, Axes]:
    drawn, axes = create_figure(4.8, 3.6)
    axes[0, 0].set_xlabel("training images, thousands")
    return drawn, axes[0, 0]


def _line(name: str, rows: Sequence[HistoryRow], color: Mapping[str, str]) -> dict[str, Any]:
    """Style of a learning curve; a few points are marked."""
    marker = "o" if len(rows) < 12 else None
    return {"color": color[name], "lw": 2, "label": name, "marker": marker, "ms": 4}
