"""ROC curves and confusion matrices of trained weights, as `evaluate` draws them, in one file.

    python research/evaluation_figures.py

New images of `common_test_1`, mapped without their true lenses for the weights that need it.
"""

from __future__ import annotations

import argparse
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

import halometry
from halometry.evaluation.figures import confusion_figure, roc_figure
from halometry.evaluation.metrics import area_under_roc, confusion_matrix, roc_curves
from halometry.log import logger

PRESET, SEED = "common_test_1", 7027
RUNS = ("common_test_1/d4net", "common_test_1/d4net_mapped")
WIDTH = 1240  # pixels


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=300, help="images")
    parser.add_argument("--out", type=Path, default=Path("docs/images/roc_confusion.png"))
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        images = Path(folder) / "new.h5"
        halometry.simulate(PRESET, options.count, seed=SEED, out=images)
        labels = np.asarray(halometry.open_dataset(images).labels)
        outputs = {}
        for run in RUNS:
            predictions = halometry.predict(run, images)
            outputs[run] = np.array([list(one.probabilities.values()) for one in predictions])
    names = list(predictions[0].probabilities)
    curves = {
        run: {
            name: (*curve, float(area_under_roc(found[:, k], labels == k)))
            for k, (name, curve) in enumerate(roc_curves(labels, found, names).items())
        }
        for run, found in outputs.items()
    }
    matrices = {run: confusion_matrix(labels, found) for run, found in outputs.items()}
    logger.info(f"{options.count} images: {matrices}")
    stack([roc_figure(curves), confusion_figure(matrices, names)], options.out)


def stack(figures: list[Figure], path: Path) -> None:
    """Write figures one below the other, each in the middle of the width."""
    drawn = []
    for figure in figures:
        file = BytesIO()
        figure.savefig(file, format="png", dpi=WIDTH / figures[0].get_figwidth())
        drawn.append(Image.open(file).convert("RGB"))
    whole = Image.new("RGB", (WIDTH, sum(one.height for one in drawn)), "white")
    top = 0
    for one in drawn:
        whole.paste(one, ((WIDTH - one.width) // 2, top))
        top += one.height
    whole.quantize(256).save(path, optimize=True)


if __name__ == "__main__":
    main()
