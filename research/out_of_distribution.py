"""How well a run tells images that are none of its kind: of shifted presets, real and broken ones.

python research/out_of_distribution.py common_test_1/d4net --shared ../shared/data
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import binomtest
from torch import Tensor
from unlike_sets import drawn, unlike

import halometry
from halometry.evaluation.bootstrap import Interval, bootstrap
from halometry.evaluation.metrics import area_under_roc
from halometry.evaluation.predict import predict
from halometry.ood.detector import OODResult
from halometry.plotting import (
    IMAGE_COLORMAP,
    create_figure,
    hide_axes,
    save_figure,
    stretch,
    with_style,
)
from halometry.provenance import provenance
from halometry.runs.ood import predict_with_ood, read_detector
from halometry.simulation import load_preset

BATCH = 50  # images at a time


@dataclass(frozen=True)
class Judged:
    """What a run says of a set: of each image how new it is, and the first image."""

    novelty: list[OODResult]
    example: np.ndarray

    @property
    def strangeness(self) -> np.ndarray:
        return np.array([one.score for one in self.novelty])

    @property
    def flagged(self) -> int:
        return sum(one.reason is not None for one in self.novelty)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="of common_test_1")
    parser.add_argument("--shared", type=Path, required=True, help="the folder of real images")
    parser.add_argument("--familiar", type=int, default=2000, help="fresh images of its kind")
    parser.add_argument("--each", type=int, default=200, help="images of each other kind, at most")
    parser.add_argument("--seed", type=int, default=1001, help="of all that is drawn")
    parser.add_argument("--out", type=Path, default=Path("results/out_of_distribution.json"))
    parser.add_argument("--figure", type=Path, default=Path("docs/images/ood.jpg"))
    options = parser.parse_args()
    run = halometry.load_run(options.run)
    detector, predict_fn = read_detector(run.path), predict_with_ood(run, "cpu")
    assert detector is not None, "the run has no OOD detector"

    def judged(images: Tensor) -> Judged:
        novelty: list[OODResult] = []
        for part in images.split(BATCH):
            novelty += predict_fn(part.numpy())[1] or []
        return Judged(novelty, images[0, 0].numpy())

    preset = load_preset(str(run.config.data.preset))
    known = judged(drawn(preset, options.familiar, options.seed))
    found = {}
    for name, make in unlike(options.shared).items():
        found[name] = judged(make(options.each, options.seed + 1))
        print(name, line(known, found[name])[1:], flush=True)
    real = real_ones(options.run, options.shared / "common_test_1")
    save_figure(examples({"familiar": known} | found), options.figure)
    record = {
        "what": "images unlike those a run was trained on, told from fresh ones that are alike",
        "command": f"python research/out_of_distribution.py {options.run} --shared"
        f" {options.shared} --familiar {options.familiar} --each {options.each}"
        f" --seed {options.seed}",
        **provenance(),
        "run": options.run,
        "trained_on": run.config.data.description,
        "seed": options.seed,
        "rate": detector.false_positive_rate,
        "compared_with": len(detector.reference_scores),
        "familiar": described(known),
        "sets": {
            name: described(one) | {"auroc": area(known, one).to_dict()}
            for name, one in found.items()
        },
        "real_familiar": real,
        "rows": [
            ["images", "number", "AUROC", "flagged", "mostly for"],
            ["familiar, fresh", f"{options.familiar:,}", "", share(known), ""],
            *([name, *line(known, one)] for name, one in found.items()),
        ],
    }
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"flagged of the real ones: {real['flagged']} -> {options.out}, {options.figure}")


def real_ones(run: str, folder: Path) -> dict[str, Any]:
    """What is said of real images of the set that the run's are simulations of."""
    answers = predict(run, folder)
    told = {}
    for answer in answers:
        path = Path(answer.image)
        assert answer.ood is not None
        told[f"{path.parent.name}/{path.name}"] = vars(answer.ood)
    flagged = [name for name, one in told.items() if one["unusual"]]
    return {"count": len(told), "flagged": flagged, "images": told}


def described(judged: Judged) -> dict[str, Any]:
    """A set's figures."""
    low, high = binomtest(judged.flagged, len(judged.novelty)).proportion_ci(method="wilson")
    return {
        "count": len(judged.novelty),
        "flagged": {"value": judged.flagged / len(judged.novelty), "low": low, "high": high},
        "median_strangeness": float(np.median(judged.strangeness)),
        "for": Counter(one.reason for one in judged.novelty if one.reason),
    }


def area(known: Judged, other: Judged) -> Interval:
    """The chance that one of the others is stranger than a familiar one."""
    scores = np.concatenate([known.strangeness, other.strangeness])
    positive = np.arange(len(scores)) >= len(known.novelty)
    groups = [np.flatnonzero(~positive), np.flatnonzero(positive)]

    def statistic(rows: np.ndarray) -> np.ndarray:
        return area_under_roc(scores[rows], positive[rows])

    everything = np.arange(len(scores))[None]
    return bootstrap(statistic, groups, float(statistic(everything)[0]))


def line(known: Judged, other: Judged) -> list[str]:
    """A row of the table, without its name."""
    reason = Counter(one.reason for one in other.novelty if one.reason).most_common(1)
    return [str(len(other.novelty)), str(area(known, other)), share(other), *(r for r, _ in reason)]


def share(judged: Judged) -> str:
    """The share that is flagged, in per cent with its interval."""
    found = described(judged)["flagged"]
    return "{:.1f} % [{:.1f}, {:.1f}]".format(*(100 * found[k] for k in ("value", "low", "high")))


@with_style
def examples(sets: dict[str, Judged], columns: int = 7) -> Figure:
    """The first image of each set, with what is said of it; what is unusual in red."""
    rows = -(-len(sets) // columns)
    drawn, axes = create_figure(1.35 * columns, 1.65 * rows, rows, columns)
    for ax in axes.flat:
        hide_axes(ax)
        ax.set_visible(False)
    for ax, (name, one) in zip(axes.flat, sets.items(), strict=False):
        ax.set_visible(True)
        new = one.novelty[0]
        ax.imshow(stretch(one.example), cmap=IMAGE_COLORMAP)
        ax.set_title(name, fontsize=5.7)
        ax.set_xlabel(
            f"{new.score:.2g}" + (f", {new.reason}" if new.reason else ""),
            fontsize=7.5,
            color="tab:red" if new.reason else "black",
        )
    return drawn


if __name__ == "__main__":
    main()
