"""How well the OOD detector of a run recognizes images that differ from its training images.

    python research/out_of_distribution.py common_test_1/d4net --shared ../shared/data

The images are those of `research/ood_sets.py`, compared with new images of the run's preset.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from ood_sets import ood_sets, simulate_images
from scipy.stats import binomtest
from torch import Tensor

import halometry
from halometry.evaluation.bootstrap import Interval, bootstrap
from halometry.evaluation.metrics import area_under_roc
from halometry.evaluation.predict import predict
from halometry.io import write_json
from halometry.ood.detector import OODResult
from halometry.plotting import (
    IMAGE_COLORMAP,
    create_figure,
    hide_axes,
    save_figure,
    stretch,
    with_style,
)
from halometry.provenance import command, provenance
from halometry.runs.ood import predict_with_ood, read_detector
from halometry.simulation import load_preset

BATCH_SIZE = 50


@dataclass(frozen=True)
class DetectedSet:
    """OOD results of a set of images, and its first image (H, W)."""

    results: list[OODResult]
    example: np.ndarray

    @property
    def scores(self) -> np.ndarray:
        """OOD scores (N,)."""
        return np.array([result.score for result in self.results])

    @property
    def n_flagged(self) -> int:
        """Number of images that are flagged as out of distribution."""
        return sum(result.reason is not None for result in self.results)

    @property
    def reasons(self) -> Counter[str]:
        """Number of flagged images by reason."""
        return Counter(result.reason for result in self.results if result.reason)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="a run on images of common_test_1")
    parser.add_argument("--shared", type=Path, required=True, help="folder of published images")
    parser.add_argument("--n-in-distribution", type=int, default=2000, help="new images")
    parser.add_argument("--n-each", type=int, default=200, help="largest number of each set")
    parser.add_argument("--seed", type=int, default=1001, help="seed of all simulated images")
    parser.add_argument("--out", type=Path, default=Path("results/out_of_distribution.json"))
    parser.add_argument("--figure", type=Path, default=Path("docs/images/ood.jpg"))
    options = parser.parse_args()
    run = halometry.load_run(options.run)
    detector, predict_fn = read_detector(run.path), predict_with_ood(run, "cpu")
    assert detector is not None, "the run has no OOD detector"

    def detect(images: Tensor) -> DetectedSet:
        results: list[OODResult] = []
        for batch in images.split(BATCH_SIZE):
            results += predict_fn(batch.numpy())[1] or []
        return DetectedSet(results, images[0, 0].numpy())

    preset = load_preset(str(run.config.data.preset))
    own = detect(simulate_images(preset, options.n_in_distribution, options.seed))
    sets = {}
    for name, make in ood_sets(options.shared).items():
        sets[name] = detect(make(options.n_each, options.seed + 1))
        print(name, table_row(own, sets[name])[1:], flush=True)
    published = detect_published(options.run, options.shared / "common_test_1")
    save_figure(examples_figure({"in distribution": own} | sets), options.figure)
    record = {
        "what": "OOD detection: images that differ from the training images of a run, against new"
        " in-distribution images",
        "command": command(),
        **provenance(),
        "run": options.run,
        "trained_on": run.config.data.description,
        "seed": options.seed,
        "false_positive_rate": detector.false_positive_rate,
        "n_reference": len(detector.reference_scores),
        "in_distribution": set_record(own),
        "sets": {
            name: set_record(detected) | {"auroc": auroc(own, detected).to_dict()}
            for name, detected in sets.items()
        },
        "published": published,
        "rows": [
            ["images", "number", "AUROC", "flagged", "most frequent reason"],
            ["new, in distribution", f"{options.n_in_distribution:,}", "", flagged_cell(own), ""],
            *([name, *table_row(own, detected)] for name, detected in sets.items()),
        ],
    }
    write_json(options.out, "measurement", record)
    flagged = published["flagged"]
    print(f"flagged published images: {flagged} -> {options.out}, {options.figure}")


def detect_published(run: str, folder: Path) -> dict[str, Any]:
    """OOD results of the published images of the run's own kind."""
    images = {}
    for prediction in predict(run, folder):
        path = Path(prediction.image)
        assert prediction.ood is not None
        images[f"{path.parent.name}/{path.name}"] = asdict(prediction.ood)
    flagged = [name for name, result in images.items() if result["reason"]]
    return {"count": len(images), "flagged": flagged, "images": images}


def set_record(detected: DetectedSet) -> dict[str, Any]:
    """Record of one set."""
    count = len(detected.results)
    low, high = binomtest(detected.n_flagged, count).proportion_ci(method="wilson")
    return {
        "count": count,
        "flagged": {"value": detected.n_flagged / count, "low": low, "high": high},
        "median_score": float(np.median(detected.scores)),
        "reasons": detected.reasons,
    }


def auroc(own: DetectedSet, other: DetectedSet) -> Interval:
    """Probability that an image of another set has a higher score than an in-distribution image."""
    scores = np.concatenate([own.scores, other.scores])
    positive = np.arange(len(scores)) >= len(own.results)
    groups = [np.flatnonzero(~positive), np.flatnonzero(positive)]

    def statistic(rows: np.ndarray) -> np.ndarray:
        return area_under_roc(scores[rows], positive[rows])

    everything = np.arange(len(scores))[None]
    return bootstrap(statistic, groups, float(statistic(everything)[0]))


def table_row(own: DetectedSet, other: DetectedSet) -> list[str]:
    """Row of the table without the name: number, AUROC, flagged, most frequent reason."""
    reasons = [reason for reason, _ in other.reasons.most_common(1)]
    return [str(len(other.results)), str(auroc(own, other)), flagged_cell(other), *reasons]


def flagged_cell(detected: DetectedSet) -> str:
    """Fraction of flagged images in percent, with its interval."""
    flagged = set_record(detected)["flagged"]
    return "{:.1f} % [{:.1f}, {:.1f}]".format(*(100 * flagged[k] for k in ("value", "low", "high")))


@with_style
def examples_figure(sets: dict[str, DetectedSet], columns: int = 7) -> Figure:
    """First image of each set with its score and reason, flagged ones in red."""
    rows = -(-len(sets) // columns)
    figure, axes = create_figure(1.19 * columns, 1.5 * rows + 0.2, rows, columns)
    for ax in axes.flat:
        hide_axes(ax)
        ax.set_visible(False)
    for ax, (name, detected) in zip(axes.flat, sets.items(), strict=False):
        ax.set_visible(True)
        result = detected.results[0]
        ax.imshow(stretch(detected.example), cmap=IMAGE_COLORMAP, origin="lower")
        ax.set_title(name, fontsize=6, fontweight="normal")
        ax.set_xlabel(
            f"{result.score:.2g}" + (f", {result.reason}" if result.reason else ""),
            fontsize=7.5,
            color="tab:red" if result.reason else "black",
        )
    note = "below each image: OOD score, and the reason where it is above 1 (flagged)"
    figure.supxlabel(note, fontsize=8)
    return figure


if __name__ == "__main__":
    main()
