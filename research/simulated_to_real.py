"""What a network that saw only simulated images says of real ones.

python research/simulated_to_real.py runs/d4net --data ../shared/data/common_test_1
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import halometry
from halometry.datasets.readers import read_image
from halometry.evaluation.predict import predict
from halometry.evaluation.predictions import Prediction
from halometry.plotting import (
    IMAGE_COLORMAP,
    create_figure,
    hide_axes,
    save_figure,
    stretch,
    with_style,
)
from halometry.provenance import provenance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="of a classification")
    parser.add_argument("--data", type=Path, required=True, help="a folder for each class")
    parser.add_argument("--out", type=Path, default=Path("results/simulated_to_real.json"))
    parser.add_argument("--figure", type=Path, default=Path("docs/images/simulated_to_real.jpg"))
    options = parser.parse_args()
    answers = predict(options.run, options.data)
    save_figure(montage(answers), options.figure)
    run = halometry.load_run(options.run)
    images = [described(answer) for answer in answers]
    right = sum(image["right"] for image in images)
    record = {
        "what": "real images of common_test_1, judged by a network that saw only simulated ones",
        "command": f"python research/simulated_to_real.py {options.run} --data {options.data}",
        **provenance(),
        "network": run.config.backbone,
        "trained_on": run.config.data.description,
        "seed": run.config.seed,
        "right": right,
        "of": len(images),
        "images": images,
    }
    names = run.config.class_names or ()
    record["rows"] = [["image", *(f"p({name})" for name in names), ""]]
    for image in images:
        shares = [f"{image['probabilities'][name]:.4f}" for name in names]
        record["rows"].append([image["image"], *shares, "" if image["right"] else "wrong"])
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"{right} of {len(images)} right -> {options.out}, {options.figure}")


def described(answer: Prediction) -> dict[str, Any]:
    """One image's probabilities, and whether its folder's name has the largest."""
    path = Path(answer.image)
    return {
        "image": f"{path.parent.name}/{path.name}",
        "probabilities": {name: round(value, 6) for name, value in answer.probabilities.items()},
        "right": answer.predicted_class == path.parent.name,
    }


@with_style
def montage(answers: list[Prediction]) -> Figure:
    """The images by class, each with what the network says; what is wrong in red."""
    classes = sorted({Path(answer.image).parent.name for answer in answers})
    most = max(sum(Path(a.image).parent.name == name for a in answers) for name in classes)
    drawn, axes = create_figure(1.5 * most, 1.75 * len(classes), len(classes), most)
    for ax in np.ravel(axes):
        hide_axes(ax)
    for row, name in enumerate(classes):
        members = [answer for answer in answers if Path(answer.image).parent.name == name]
        for ax, answer in zip(axes[row], members, strict=False):
            ax.imshow(stretch(read_image(Path(answer.image)).pixels[0]), cmap=IMAGE_COLORMAP)
            predicted = str(answer.predicted_class)
            title = f"{predicted} {100 * answer.probabilities[predicted]:.1f} %"
            ax.set_title(title, fontsize=8, color="black" if predicted == name else "tab:red")
        axes[row][0].set_ylabel(name)
    return drawn


if __name__ == "__main__":
    main()
