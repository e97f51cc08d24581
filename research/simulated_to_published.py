"""Predict published images with a network that was trained on simulated ones.

python research/simulated_to_published.py runs/d4net --data ../shared/data/common_test_1
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import halometry
from halometry.datasets.readers import read_image
from halometry.evaluation.predict import predict
from halometry.evaluation.predictions import Prediction
from halometry.io import write_json
from halometry.plotting import (
    COLORS,
    IMAGE_COLORMAP,
    TEXT_COLOR,
    create_figure,
    hide_axes,
    save_figure,
    stretch,
    with_style,
)
from halometry.provenance import provenance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="a classification run")
    parser.add_argument(
        "--data", type=Path, required=True, help="a folder with one folder per class"
    )
    parser.add_argument("--out", type=Path, default=Path("results/simulated_to_published.json"))
    parser.add_argument(
        "--figure", type=Path, default=Path("docs/images/simulated_to_published.jpg")
    )
    options = parser.parse_args()
    predictions = predict(options.run, options.data)
    save_figure(montage(predictions), options.figure)
    run = halometry.load_run(options.run)
    images = [describe(prediction) for prediction in predictions]
    correct = sum(image["correct"] for image in images)
    record = {
        "what": "published images of common_test_1, predicted by a network trained on simulated"
        " images",
        "command": f"python research/simulated_to_published.py {options.run} --data {options.data}",
        **provenance(),
        "network": run.config.backbone,
        "trained_on": run.config.data.description,
        "seed": run.config.seed,
        "correct": correct,
        "count": len(images),
        "images": images,
    }
    names = run.config.class_names or ()
    record["rows"] = [["image", *(f"p({name})" for name in names), ""]]
    for image in images:
        probabilities = [f"{image['probabilities'][name]:.4f}" for name in names]
        record["rows"].append([image["image"], *probabilities, "" if image["correct"] else "wrong"])
    write_json(options.out, "measurement", record)
    print(f"{correct} of {len(images)} correct -> {options.out}, {options.figure}")


def describe(prediction: Prediction) -> dict[str, Any]:
    """Probabilities of an image, and whether its folder's name has the largest one."""
    path = Path(prediction.image)
    return {
        "image": f"{path.parent.name}/{path.name}",
        "probabilities": {
            name: round(value, 6) for name, value in prediction.probabilities.items()
        },
        "correct": prediction.predicted_class == path.parent.name,
    }


@with_style
def montage(predictions: list[Prediction]) -> Figure:
    """Images by class, each with its prediction; wrong predictions in orange."""
    classes = sorted({Path(prediction.image).parent.name for prediction in predictions})
    most = max(sum(Path(a.image).parent.name == name for a in predictions) for name in classes)
    drawn, axes = create_figure(1.4 * most, 1.6 * len(classes), len(classes), most)
    for ax in np.ravel(axes):
        hide_axes(ax)
    for row, name in enumerate(classes):
        members = [
            prediction for prediction in predictions if Path(prediction.image).parent.name == name
        ]
        for ax, prediction in zip(axes[row], members, strict=False):
            image = stretch(read_image(Path(prediction.image)).pixels[0])
            ax.imshow(image, cmap=IMAGE_COLORMAP, origin="lower")
            predicted = str(prediction.predicted_class)
            title = f"{predicted} {100 * prediction.probabilities[predicted]:.1f} %"
            color = TEXT_COLOR if predicted == name else COLORS[1]
            ax.set_title(title, fontsize=9, fontweight="normal", color=color)
        axes[row][0].set_ylabel(f"true: {name}", fontsize=9)
    return drawn


if __name__ == "__main__":
    main()
