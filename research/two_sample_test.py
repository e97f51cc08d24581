"""Classifiers that distinguish published images from simulated ones.

    python research/two_sample_test.py --data ../shared/data/hackathon_2020/no_sub \
        --preset hackathon_2020 --out results/hackathon_two_sample.json \
        --figure docs/images/hackathon_2020.jpg

Trains a small network on published and simulated images, keeps the epoch with the best validation
AUC, and evaluates it on a test set. An AUC of 0.5 means that it cannot distinguish them. A random
forest on summary statistics does the same, and ranks the statistics. Two checks of the test:
published against other published images must give about 0.5, and against images of a wrong preset
about 1.

All images are JPEG files, the simulated ones as part of the preset. The published images of the
test set are the last by name; fits for the preset use the first.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hackathon_images import read, simulate
from image_statistics import statistics
from matplotlib.figure import Figure
from scipy.stats import ks_2samp
from sklearn.ensemble import RandomForestClassifier
from torch import Tensor, nn

from halometry.evaluation.bootstrap import Interval, bootstrap
from halometry.evaluation.metrics import area_under_roc
from halometry.io import write_json
from halometry.plotting import (
    COLORS,
    IMAGE_COLORMAP,
    create_figure,
    hide_axes,
    save_figure,
    with_style,
)
from halometry.provenance import machine, versions

BATCH_SIZE = 50
IMAGES_PER_ROW = 6  # of the figure


@dataclass(frozen=True)
class Sample:
    """Images (N, H, W) and their summary statistics, each (N,)."""

    images: np.ndarray
    numbers: dict[str, np.ndarray]

    @classmethod
    def from_images(cls, images: np.ndarray) -> Sample:
        """Images and their statistics."""
        return cls(images, statistics(images))

    def __getitem__(self, rows: slice) -> Sample:
        return Sample(self.images[rows], {k: v[rows] for k, v in self.numbers.items()})

    def table(self) -> np.ndarray:
        """Statistics of all images (N, S)."""
        return np.stack(list(self.numbers.values()), axis=1)


@dataclass(frozen=True)
class Sizes:
    """Number of images of each kind in the training, validation and test set."""

    training: int
    validation: int
    test: int

    @property
    def total(self) -> int:
        return self.training + self.validation + self.test

    def parts(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        first, second = self.training, self.training + self.validation
        return images[:first], images[first:second], images[len(images) - self.test :]


class Network(nn.Module):
    """Convolutions without padding, and a linear layer on mean, std and maximum of 96 maps."""

    def __init__(self) -> None:
        super().__init__()
        widths = (2, 24, 48, 96, 96)
        layers: list[nn.Module] = []
        for k, (before, after) in enumerate(itertools.pairwise(widths)):
            size, stride = (5, 2) if k == 0 else (3, 1)
            layers += [nn.Conv2d(before, after, size, stride), nn.BatchNorm2d(after), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if k < 2 else []
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(3 * widths[-1], 1))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B,) of gray levels (B, H, W); positive for simulated images."""
        x = torch.stack([images / 64 - 0.3, torch.log1p(images) / 2 - 0.5], dim=1)
        maps = self.features(x.contiguous(memory_format=torch.channels_last)).flatten(2)
        summary = torch.cat([maps.mean(2), maps.std(2), maps.amax(2)], dim=1)
        return self.head(summary)[:, 0]


def network_scores(
    published: np.ndarray, other: np.ndarray, sizes: Sizes, seed: int, epochs: int
) -> np.ndarray:
    """Train a network, and return its scores of the test images, the published ones first."""
    torch.manual_seed(seed)
    pairs = list(zip(sizes.parts(published), sizes.parts(other), strict=True))
    (train, truth), (validation, kinds), (test, _) = (_joined(*pair) for pair in pairs)
    network = Network().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.02)
    steps = epochs * (len(train) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    loss_of = nn.BCEWithLogitsLoss()
    best, weights = -1.0, network.state_dict()
    for epoch in range(epochs):
        network.train()
        for rows in torch.randperm(len(train))[: len(train) // BATCH_SIZE * BATCH_SIZE].split(
            BATCH_SIZE
        ):
            optimizer.zero_grad()
            loss_of(network(train[rows]), truth[rows]).backward()
            optimizer.step()
            schedule.step()
        auc = float(area_under_roc(_scores(network, validation), kinds.numpy() > 0.5))
        if auc > best:
            best, weights = auc, {k: v.clone() for k, v in network.state_dict().items()}
        print(f"  epoch {epoch + 1}: validation AUC {auc:.3f}", file=sys.stderr)
    network.load_state_dict(weights)
    return _scores(network, test)


def _joined(published: np.ndarray, other: np.ndarray) -> tuple[Tensor, Tensor]:
    images = torch.from_numpy(np.concatenate([published, other])).float()
    return images, torch.cat([torch.zeros(len(published)), torch.ones(len(other))])


def _scores(network: Network, images: Tensor) -> np.ndarray:
    network.eval()
    with torch.no_grad():
        return torch.cat([network(part) for part in images.split(250)]).numpy()


def forest_scores(
    published: Sample, other: Sample, sizes: Sizes, seed: int
) -> tuple[np.ndarray, dict[str, float]]:
    """Scores of the test images by a random forest, and the importance of each statistic."""
    pairs = zip(sizes.parts(published.table()), sizes.parts(other.table()), strict=True)
    train, more, test = map(np.concatenate, pairs)
    truth = np.repeat([0, 1, 0, 1], np.repeat([sizes.training, sizes.validation], 2))
    forest = RandomForestClassifier(400, min_samples_leaf=3, random_state=seed)
    forest.fit(np.concatenate([train, more]), truth)
    weights = dict(zip(published.numbers, forest.feature_importances_.tolist(), strict=True))
    return forest.predict_proba(test)[:, 1], weights


def area(scores: np.ndarray, seed: int) -> Interval:
    """AUC of scores with its interval; the first half of the scores is of published images."""
    half = len(scores) // 2
    truth = np.arange(len(scores)) >= half
    groups = [np.flatnonzero(~truth), np.flatnonzero(truth)]
    value = float(area_under_roc(scores, truth))
    return bootstrap(
        lambda rows: area_under_roc(scores[rows], truth[rows]), groups, value, seed=seed
    )


def distances(published: Sample, other: Sample) -> dict[str, dict[str, float]]:
    """Kolmogorov-Smirnov distance and medians of each statistic; the largest distance first."""
    first, second = published.numbers, other.numbers
    found = {}
    for name in first:
        test = ks_2samp(first[name], second[name])
        found[name] = {
            "ks": float(test.statistic),
            "p": float(test.pvalue),
            "median_published": float(np.median(first[name])),
            "median_simulated": float(np.median(second[name])),
        }
    return dict(sorted(found.items(), key=lambda item: -item[1]["ks"]))


def evaluate_pair(
    published: Sample, other: Sample, sizes: Sizes, seed: int, epochs: int
) -> dict[str, Any]:
    """AUC of both classifiers for one pair of sets."""
    started = time.perf_counter()
    by_forest, importances = forest_scores(published, other, sizes, seed)
    by_network = network_scores(published.images, other.images, sizes, seed, epochs)
    most_important = sorted(importances.items(), key=lambda item: -item[1])[:10]
    return {
        "images_of_each": {
            "training": sizes.training,
            "validation": sizes.validation,
            "test": sizes.test,
        },
        "epochs": epochs,
        "network_auc": area(by_network, seed).to_dict(),
        "forest_auc": area(by_forest, seed).to_dict(),
        "forest_weights": {name: round(weight, 4) for name, weight in most_important},
        "seconds": round(time.perf_counter() - started, 1),
    }


@with_style
def draw_montage(published: np.ndarray, other: np.ndarray) -> Figure:
    """Draw published images above simulated ones, with a stretch that shows faint light."""
    figure, axes = create_figure(8.3, 5.4, 4, IMAGES_PER_ROW)
    for row, label in enumerate(("published", "published", "simulated", "simulated")):
        images = (published if row < 2 else other)[(row % 2) * IMAGES_PER_ROW :]
        for panel, image in zip(axes[row], images, strict=False):
            hide_axes(panel)
            panel.imshow((image / 255) ** 0.4, cmap=IMAGE_COLORMAP, vmin=0, vmax=1, origin="lower")
        axes[row, 0].set_ylabel(label, color=COLORS[0] if row < 2 else COLORS[1])
    return figure


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    sizes, kind = Sizes(*options.sizes), Path(options.data).name
    published = read(sorted(Path(options.data).glob("*.jpg")))
    if len(published) < sizes.total:
        raise SystemExit(
            f"{options.data}: {sizes.total} images are needed, there are {len(published)}"
        )
    simulated = simulate(options.preset, sizes.total, options.seed, {}, kind)
    known, drawn = Sample.from_images(published), Sample.from_images(simulated)
    record: dict[str, Any] = {
        "against_simulated": _compare("simulated", known, drawn, sizes, options),
        "statistics": distances(known[-sizes.test :], drawn[-sizes.test :]),
    }
    if options.figure:
        figure = draw_montage(published[-sizes.test :], simulated[-sizes.test :])
        save_figure(figure, options.figure)
    _write(record, options)
    if not options.no_checks:
        fewer = Sizes(*options.check_sizes)
        record["published_against_published"] = _compare(
            "published", known[::2], known[1::2], fewer, options
        )
        wrong = simulate(options.preset, fewer.total, options.seed + 1, WRONG, kind)
        found = _compare("wrong preset", known, Sample.from_images(wrong), fewer, options)
        record["against_wrong"] = {"changed": WRONG} | found
        _write(record, options)


WRONG = {"psf_sigma": 0.1}  # one seventh wider than that of the published images


def _compare(
    name: str, published: Sample, other: Sample, sizes: Sizes, options: argparse.Namespace
) -> dict[str, Any]:
    print(f"published against {name}", file=sys.stderr)
    found = evaluate_pair(published, other, sizes, options.seed, options.epochs)
    for kind in ("network", "forest"):
        print(f"  {kind}: AUC {Interval(**found[f'{kind}_auc'])}", file=sys.stderr)
    return found


def _write(record: dict[str, Any], options: argparse.Namespace) -> None:
    folder = Path(options.data)
    about = {
        "what": "AUC of classifiers that tell published images from others; 0.5 is chance",
        "data": f"{folder.parent.name}/{folder.name}",
        "preset": Path(options.preset).stem,
        "seed": options.seed,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": f"python research/two_sample_test.py --data {options.data}"
        f" --preset {options.preset} --sizes {' '.join(map(str, options.sizes))}"
        f" --check-sizes {' '.join(map(str, options.check_sizes))}"
        f" --epochs {options.epochs} --seed {options.seed}",
        "versions": versions(),
        "machine": machine(),
    }
    write_json(Path(options.out), "measurement", about | record)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--data",
        required=True,
        help="a folder of published JPEG images, named like their class in the preset",
    )
    parser.add_argument("--preset", default="hackathon_2020")
    parser.add_argument("--out", default="results/hackathon_two_sample.json")
    parser.add_argument("--figure", help="a picture of published above simulated images")
    parser.add_argument("--sizes", type=int, nargs=3, default=(1500, 400, 1000))
    parser.add_argument("--check-sizes", type=int, nargs=3, default=(900, 200, 600))
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-checks", action="store_true", help="leave out both checks")
    return parser.parse_args()


if __name__ == "__main__":
    main()
