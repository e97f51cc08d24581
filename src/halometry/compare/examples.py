"""Images that a report shows: samples of the data set, largest errors, attribution maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from halometry.attribution.explain import Attribution, explain_rows
from halometry.datasets.dataset import LabeledImages
from halometry.errors import HalometryError
from halometry.evaluation.evaluate import Evaluation
from halometry.extras import missing_modules
from halometry.log import logger

N_WORST_IMAGES = 8
SAMPLES_PER_CLASS = 4
N_ATTRIBUTIONS = 6


@dataclass(frozen=True)
class PredictedImage:
    """Image with its true label and the predictions for it.

    Attributes:
        name: of the image.
        image: (H, W).
        truth: true class or mass fraction, as text.
        predicted: prediction of each network, as text.
    """

    name: str
    image: np.ndarray
    truth: str
    predicted: dict[str, str]


@dataclass(frozen=True)
class ExampleImages:
    """Images for the report, and the predictions for all test images.

    Attributes:
        truth: labels of the test images (N,).
        outputs: for each network, probabilities (N, K) or mass fractions (N,).
        samples: some images (H, W) with their labels.
        worst: images with the largest errors.
        attributions: attributions of the best network for some of the samples.
    """

    truth: np.ndarray
    outputs: dict[str, np.ndarray]
    samples: list[tuple[np.ndarray, str]] = field(default_factory=list)
    worst: list[PredictedImage] = field(default_factory=list)
    attributions: list[Attribution] = field(default_factory=list)


def select_examples(
    data: LabeledImages,
    evaluations: Mapping[str, Evaluation],
    *,
    seed: int,
    explain: str | None = None,
    device: str = "auto",
) -> ExampleImages:
    """Images for a report: samples of the data set, and the images with the largest errors.

    Args:
        data: the data set.
        evaluations: of each network, on the same images.
        seed: of the choice of samples.
        explain: network whose predictions are explained by attributions, if captum is installed.
        device: where attributions are computed.
    """
    first = next(iter(evaluations.values()))
    truth, rows, class_names = first.truth, first.rows, data.class_names
    samples = _sample_positions(truth, bool(class_names), seed)
    if class_names:
        true_class = np.arange(len(truth)), truth
        errors = np.mean([1 - e.outputs[true_class] for e in evaluations.values()], axis=0)
    else:
        errors = np.mean([(e.outputs - truth) ** 2 for e in evaluations.values()], axis=0)
    labels = [class_names[int(label)] if class_names else f"{label:.3f}" for label in truth]
    return ExampleImages(
        truth=truth,
        outputs={name: e.outputs for name, e in evaluations.items()},
        samples=[(data.display_image(rows[i]), labels[i]) for i in samples],
        worst=[
            PredictedImage(
                name=first.image_names[i],
                image=data.display_image(rows[i]),
                truth=labels[i],
                predicted={
                    name: _format_prediction(e.outputs[i], class_names)
                    for name, e in evaluations.items()
                },
            )
            for i in np.argsort(-errors)[:N_WORST_IMAGES]
        ],
        attributions=[]
        if explain is None
        else _explain(evaluations[explain], data, samples, labels, device),
    )


def _sample_positions(truth: np.ndarray, classes: bool, seed: int) -> np.ndarray:
    """Positions of some test images: several of each class, or in equal steps of the mass."""
    if classes:
        rng = np.random.default_rng(seed)
        return np.concatenate(
            [
                rng.permutation(np.flatnonzero(truth == k))[:SAMPLES_PER_CLASS]
                for k in np.unique(truth)
            ]
        )
    ranks = np.linspace(0, len(truth) - 1, 3 * SAMPLES_PER_CLASS).astype(int)
    positions: np.ndarray = np.argsort(truth)[ranks]
    return positions


def _format_prediction(output: np.ndarray, class_names: tuple[str, ...] | None) -> str:
    if class_names:
        return f"{class_names[int(output.argmax())]} {output.max():.0%}"
    return f"{output:.3f}"


def _explain(
    evaluation: Evaluation,
    data: LabeledImages,
    samples: np.ndarray,
    labels: Sequence[str],
    device: str,
) -> list[Attribution]:
    """Attributions for some of the samples; none if they cannot be computed."""
    if missing_modules("attribution"):
        return []
    chosen = samples[np.linspace(0, len(samples) - 1, N_ATTRIBUTIONS).round().astype(int)]
    try:
        attributions = explain_rows(evaluation.run, data, evaluation.rows[chosen], device)
    except (HalometryError, RuntimeError, ImportError) as error:  # such as a lack of memory
        logger.info(f"the report has no attributions of {evaluation.run.name}: {error}")
        return []
    return [
        replace(attribution, name=f"true: {labels[i]}")
        for attribution, i in zip(attributions, chosen, strict=True)
    ]
