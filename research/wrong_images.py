"""Draw the test images with the lowest probability of their true class.

    python research/wrong_images.py runs/hackathon_2020/evaluations/d4net/predictions.csv \
        --out docs/images/hackathon_wrong.jpg
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from halometry.datasets.readers import read_image
from halometry.evaluation.prediction_table import read_predictions
from halometry.plotting import montage, save_figure


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("predictions", type=Path, help="predictions.csv of `halometry evaluate`")
    parser.add_argument("--out", type=Path, required=True, help="the picture to write")
    parser.add_argument("--count", type=int, default=8)
    options = parser.parse_args()
    table = read_predictions(options.predictions)
    if table.true is None or table.probabilities is None or table.class_names is None:
        parser.error(f"{options.predictions}: has no true classes and probabilities")
    true_class = [table.class_names.index(name) for name in table.true]
    probability = table.probabilities[np.arange(len(table)), true_class]
    chosen = np.argsort(probability, kind="stable")[: options.count]
    images = [read_image(Path(table.images[i])).pixels[0] for i in chosen]
    titles = [f"true: {table.true[i]}, {probability[i]:.2f}" for i in chosen]
    save_figure(montage(images, titles), options.out)
    wrong = int((probability < 0.5).sum())
    print(f"{wrong} of {len(table)} have less than one half for their class -> {options.out}")


if __name__ == "__main__":
    main()
