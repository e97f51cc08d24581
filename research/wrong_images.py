"""The images of a test that a network got most wrong, side by side.

    python research/wrong_images.py runs/hackathon_2020/evaluations/d4net/predictions.csv \
        --data ../shared/data/hackathon_2020 --out docs/images/hackathon_wrong.jpg
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from halometry.datasets.readers import read_image
from halometry.plotting import montage, save_figure


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("predictions", type=Path, help="that 'halometry compare' wrote")
    parser.add_argument("--data", type=Path, required=True, help="the folder of the images")
    parser.add_argument("--out", type=Path, required=True, help="the picture to write")
    parser.add_argument("--count", type=int, default=8)
    options = parser.parse_args()
    with options.predictions.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    rows.sort(key=lambda row: float(row[row["truth"]]))
    chosen = rows[: options.count]
    images = [read_image(options.data / row["image"]).pixels[0] for row in chosen]
    titles = [f"truly {row['truth']}: {float(row[row['truth']]):.2f}" for row in chosen]
    save_figure(montage(images, titles), options.out)
    wrong = sum(float(row[row["truth"]]) < 0.5 for row in rows)
    print(f"{wrong} of {len(rows)} have less than one half for their class -> {options.out}")


if __name__ == "__main__":
    main()
