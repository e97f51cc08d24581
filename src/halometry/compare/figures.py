"""Accuracy against latency: which network to choose at which cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from halometry.plotting import MUTED_COLOR, colors_by_name, create_figure, with_style

# Where a label may stand, in points from its point, the best place first.
Place = tuple[float, float]
PLACES: tuple[Place, ...] = ((10, -4), (10, 4), (-10, -4), (-10, 4))


@with_style
def pareto_figure(points: Sequence[Mapping[str, Any]], quality_name: str) -> Figure:
    """Accuracy against latency, with the front of those that no other beats in both.

    Args:
        points: `name`, `latency_ms`, `quality`, `low`, `high`, `parameters`, `on_front`.
        quality_name: of the vertical axis.
    """
    made, axes = create_figure(7.2, 4.2)
    panel = axes[0, 0]
    color = colors_by_name(point["name"] for point in points)
    front = sorted((p for p in points if p["on_front"]), key=lambda p: p["latency_ms"])
    times = [p["latency_ms"] for p in points]
    right_end = 3.0 * max(times)
    steps = [(p["latency_ms"], p["quality"]) for p in front] + [(right_end, front[-1]["quality"])]
    panel.step(*zip(*steps, strict=True), where="post", color=MUTED_COLOR, lw=1.2, zorder=1)
    for point in points:
        low, high = point["quality"] - point["low"], point["high"] - point["quality"]
        panel.errorbar(
            point["latency_ms"],
            point["quality"],
            [[max(low, 0)], [max(high, 0)]],
            fmt="o",
            ms=9,
            color=color[point["name"]],
            mfc=None if point["on_front"] else "white",
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
    low_end, high_end = panel.get_ylim()
    panel.set_ylim(low_end - 0.12 * (high_end - low_end), high_end)
    panel.set_xlabel("latency of one image, ms")
    panel.set_ylabel(f"{quality_name} on test images, 95 % interval")
    panel.set_title("Accuracy against latency; the line is the Pareto front")
    _name(panel, points, color)
    return made


def _name(panel: Axes, points: Sequence[Mapping[str, Any]], color: Mapping[str, str]) -> None:
    """Write the name and size of each network beside its point, where no other's stands."""
    taken: list[Bbox] = []
    for point in points:
        for place in PLACES:
            label = _label(panel, point, place, color[point["name"]])
            box = label.get_window_extent()
            if not any(box.overlaps(other) for other in taken):
                break
            label.remove()
        else:
            _label(panel, point, PLACES[0], color[point["name"]])
        taken.append(box)


def _label(panel: Axes, point: Mapping[str, Any], place: Place, color: str) -> Annotation:
    x, y = place
    return panel.annotate(
        f"{point['name']}\n{point['parameters'] / 1e6:.2f} M",
        (point["latency_ms"], point["quality"]),
        xytext=place,
        textcoords="offset points",
        ha="left" if x > 0 else "right",
        va="bottom" if y > 0 else "top",
        fontsize=9,
        color=color,
    )
