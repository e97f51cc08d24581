"""Learning curves of `research/folder_learning_curves.py`: validation AUC against images seen.

    python research/learning_curves_figure.py results/folder_learning_curves.json

One panel per network, one line per way of training. The mark at the right end is the test AUC.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from halometry.plotting import MUTED_COLOR, colors_by_name, create_figure, save_figure, with_style


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("record", type=Path, help="JSON file of the learning curves")
    parser.add_argument("--out", type=Path, default=Path("docs/images/learning_curves.png"))
    options = parser.parse_args()
    record = json.loads(options.record.read_text(encoding="utf-8"))
    save_figure(draw(record["arms"]), options.out)


@with_style
def draw(arms: list[dict[str, Any]]) -> Figure:
    """Draw one panel per network.

    Args:
        arms: each with `name`, `network`, `train_images`, `history` (a list of `images` and
            `val_auc`) and `test_auc` (`value`, `low`, `high`).
    """
    networks = list(dict.fromkeys(arm["network"] for arm in arms))
    color = colors_by_name(dict.fromkeys(arm["name"] for arm in arms))
    figure, axes = create_figure(8.3, 3.7, 1, len(networks), sharex=True, sharey=True)
    for panel, network in zip(axes[0], networks, strict=True):
        panel.axhline(0.5, color=MUTED_COLOR, lw=1, ls=":")
        panel.annotate("random guess", (0.02, 0.5), xycoords=("axes fraction", "data"), fontsize=8,
                       color=MUTED_COLOR, va="top")  # fmt: skip
        for arm in arms:
            if arm["network"] == network:
                _draw_arm(panel, arm, color[arm["name"]])
        panel.set_title(network)
        panel.set_xlabel("training images seen")
        panel.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k")
        panel.set_ylim(0.45, 1.01)
        panel.set_xlim(left=0)
    axes[0, 0].set_ylabel("validation AUC (square: test)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=9)
    return figure


def _draw_arm(panel: Any, arm: dict[str, Any], color: str) -> None:
    images = [step["images"] for step in arm["history"]]
    values = [step["val_auc"] for step in arm["history"]]
    label = f"{arm['name']} ({arm['train_images']:,} images)"
    panel.plot(images, values, color=color, lw=2, marker="o", ms=3.5, label=label)
    test = arm["test_auc"]
    errors = [[test["value"] - test["low"]], [test["high"] - test["value"]]]
    panel.errorbar(images[-1], test["value"], errors, color=color, marker="s", ms=7, mfc="white",
                   mew=1.5, capsize=3, zorder=4)  # fmt: skip


if __name__ == "__main__":
    main()
