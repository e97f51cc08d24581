"""Figures that others published for the two experiments, to print beside our own.

Source: github.com/0ssamaak0/Gravitational-Lensing-Classification-and-Mass-Estimation. It gives no
intervals and no seeds. Which epoch was kept is not known.
"""

from __future__ import annotations

from halometry.compare.schema import PublishedResult
from halometry.config import Task

CLASSIFICATION = (
    PublishedResult(
        network="mobilenetv3_small",
        metrics={"auc": 0.9741, "accuracy": 0.8867, "loss": 0.3270},
        confusion=((2355, 112, 33), (213, 2067, 220), (73, 199, 2228)),
        remark="20 epochs at 224 px, from random weights",
    ),
    PublishedResult(
        network="resnet18",
        metrics={"auc": 0.9871, "accuracy": 0.9363, "loss": 0.2997},
        confusion=((2420, 52, 28), (156, 2247, 97), (46, 99, 2355)),
        remark="20 epochs at 224 px, from ImageNet weights",
    ),
    PublishedResult(
        network="efficientnet_b5",
        metrics={"auc": 0.9931, "accuracy": 0.9588, "loss": 0.1710},
        confusion=((2462, 34, 4), (120, 2317, 63), (39, 49, 2412)),
        remark="20 epochs at 224 px, from ImageNet weights",
    ),
)
REGRESSION = (
    PublishedResult(
        network="mobilenetv3_small",
        metrics={"mse": 6.1e-5},
        remark="30 epochs; the last run of the notebook has 8.1e-5",
    ),
    PublishedResult(
        network="resnet18",
        metrics={"mse": 6.8e-5},
        remark="30 epochs; the last run of the notebook has 2.1e-5, with training images among its"
        " test images",
    ),
    PublishedResult(
        network="efficientnet_b5",
        metrics={"mse": 4.8e-5},
        remark="30 epochs; training images are among its test images",
    ),
)
PUBLISHED: dict[Task, tuple[PublishedResult, ...]] = {
    "classification": CLASSIFICATION,
    "regression": REGRESSION,
}
