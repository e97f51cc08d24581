"""Demonstration: trained weights at work, then training and comparison of networks, in minutes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from halometry.compare.compare import TIMING_SECONDS, Comparison, compare_networks
from halometry.compare.examples import PredictedImage
from halometry.compare.report import write_report
from halometry.config import Task
from halometry.datasets.dataset import LabeledImages
from halometry.datasets.generate import simulate
from halometry.datasets.open import open_dataset
from halometry.datasets.readers import Image
from halometry.datasets.show import show
from halometry.datasets.store import open_store
from halometry.errors import UsageError
from halometry.evaluation.predict import predict
from halometry.log import duration, logger, with_progress
from halometry.massmaps.cached import mapped_rows
from halometry.massmaps.dataset import map_mass
from halometry.massmaps.mapper import CHANNELS, MassMapper
from halometry.models.backbones import TIMM_NAMES
from halometry.parallel import available_cores, find_device
from halometry.runs.recipe import RecipeFile, load_recipe
from halometry.seeds import DEMO_SEED_OFFSET
from halometry.simulation import load_preset, sample
from halometry.training.estimate import training_seconds

PRESETS: dict[Task, str] = {"classification": "demo_classification", "regression": "demo_mass"}
NETWORKS = (*TIMM_NAMES, "d4net")
COUNT = 1200  # images of each task
TEST_DIVISOR = 6  # one of so many images is a test image
TRAINED_PRESET = "common_test_1"
TRAINED = f"{TRAINED_PRESET}/d4net_mapped"  # weights that give the first answer
FIRST_IMAGES = 12
TIMED_IMAGES = 3
NOTE = (
    "The networks get mass maps. The lens fits of training images started at the true lenses; those"
    " of test images did not."
)


@dataclass(frozen=True)
class Demo:
    """Results of the demonstration.

    Attributes:
        images: the dataset of new images that trained weights predict.
        answers: these images with their predictions.
        comparisons: one per task.
        report: the HTML file.
    """

    images: Path
    answers: list[PredictedImage]
    comparisons: list[Comparison]
    report: Path


@with_progress
def run_demo(
    out: str | Path = "demo",
    *,
    count: int = COUNT,
    seed: int = 1,
    recipe: str | Path = "demo",
    device: str = "auto",
    backbones: Sequence[str] | None = None,
    progress: bool = True,
) -> Demo:
    """Apply trained weights, then train and compare networks; a repeated call continues.

    Args:
        out: the folder for all files.
        count: number of images per task, test images included.
        seed: of the images and of the training.
        recipe: of the training.
        device: `auto`, `cpu`, or as PyTorch names it.
        backbones: the networks; `NETWORKS` if not given.
        progress: whether to show progress bars.

    Raises:
        UsageError: the folder holds a demonstration with another count or seed.
    """
    out, recipe_file, backbones = Path(out), load_recipe(recipe), backbones or NETWORKS
    for task in PRESETS:
        _check_store(_store(out, task), count, seed)
    begin = time.monotonic()
    intro = _introduction(count)
    logger.info(intro)
    images = out / f"{TRAINED_PRESET}.h5"
    answers = apply_trained_weights(images, seed=seed, device=device)
    _log_estimate(recipe_file, backbones, count, find_device(device))
    comparisons = []
    for task in PRESETS:
        data = _simulate_and_map(task, out, count, seed, device)
        comparisons.append(
            compare_networks(
                task,
                data,
                backbones,
                out / task,
                recipe=recipe_file,
                seed=seed,
                device=device,
                note=NOTE,
            )
        )
    report = write_report(
        out / "report.html",
        [comparison.section for comparison in comparisons],
        f"Dark matter in simulated lenses: {len(backbones)} networks compared on two tasks",
        intro=intro,
        trained=(TRAINED, answers),
    )
    logger.info(f"done in {duration(time.monotonic() - begin)}")
    return Demo(images, answers, comparisons, report)


def _introduction(count: int) -> str:
    """What is simulated, and how it differs from the full experiment."""
    small, full = load_preset(PRESETS["classification"]), load_preset(TRAINED_PRESET)
    return (
        "This demonstration is an easier problem than the full experiment. It has"
        f" {count:,} simulated images for each task. They have"
        f" {small.image.pixels} x {small.image.pixels} pixels, not"
        f" {full.image.pixels} x {full.image.pixels}. Their substructure is {small.mass_scale:g}"
        " times as heavy. Each network trains for a minute or less. The numbers hold for this"
        " problem only."
    )


def _log_estimate(recipe: RecipeFile, backbones: Sequence[str], count: int, device: str) -> None:
    """Time a few images and training steps, and log how long each stage takes here."""
    pixels, n_test = load_preset(PRESETS["classification"]).image.pixels, count // TEST_DIVISOR
    step = {
        backbone: training_seconds(
            backbone,
            recipe.resolve("classification", backbone),
            shape=(len(CHANNELS), pixels, pixels),
            n_outputs=3,
            images=1,
            device=device,
        )
        for backbone in backbones
    }
    stages = {}
    blind, from_truth = _map_seconds(PRESETS["classification"])
    for task in PRESETS:
        epochs = {backbone: recipe.resolve(task, backbone).epochs for backbone in backbones}
        stages[f"{task}, mass maps"] = (n_test * blind + count * from_truth) / available_cores()
        stages[f"{task}, {len(backbones)} networks"] = sum(
            step[backbone] * epochs[backbone] * (count - n_test) for backbone in backbones
        )
    stages["evaluation and report"] = 2 * TIMING_SECONDS * len(PRESETS) * len(backbones)
    lines = [f"  {stage}: {duration(seconds)}" for stage, seconds in stages.items()]
    total = f"about {duration(sum(stages.values()))} on this machine, by a short measurement:"
    logger.info("\n".join([total, *lines, "After a stop, repeat the command to continue."]))


def _map_seconds(name: str) -> tuple[float, float]:
    """Seconds that one core needs to map an image of a preset: blindly, and from the true lens."""
    preset = load_preset(name)
    mapper = MassMapper(preset)
    images, scene = sample(preset, 0, 0, TIMED_IMAGES)
    first, *others = [Image(pixels, None, name) for pixels in images.numpy()]
    mapper.map_image(first)  # takes longer
    mapper.map_scenes(images[:, 0], scene)
    begin = time.monotonic()
    for image in others:
        mapper.map_image(image)
    middle = time.monotonic()
    mapper.map_scenes(images[:, 0], scene)
    return (middle - begin) / len(others), (time.monotonic() - middle) / TIMED_IMAGES


def apply_trained_weights(store: Path, *, seed: int, device: str) -> list[PredictedImage]:
    """Simulate a few images, draw them, and predict their classes with weights of the package.

    Args:
        store: dataset of the images to write; their picture and predictions are beside it.
        seed: of the demonstration; the images have another one.
        device: `auto`, `cpu`, or as PyTorch names it.
    """
    preset, seed = TRAINED_PRESET, seed + DEMO_SEED_OFFSET
    picture = store.with_suffix(".png")
    if not store.exists():
        simulate(preset, FIRST_IMAGES, seed=seed, out=store, device="cpu")
    show(preset, picture, count=FIRST_IMAGES, seed=seed)
    logger.info(f"{FIRST_IMAGES} new images of {preset} -> {picture}")
    predictions = predict(TRAINED, [store], out=store.with_suffix(".csv"), device=device)
    data = open_dataset(store)
    answers = []
    for row, prediction in enumerate(predictions):
        name = prediction.predicted_class or ""
        probability = f"{prediction.probabilities[name]:.1%}"
        truth = (data.class_names or ())[int(data.labels[row])]
        answers.append(
            PredictedImage(
                f"image {row}",
                data.display_image(row),
                truth,
                {TRAINED: f"{name} {probability}"},
            )
        )
    lines = [f"  {a.name:9} true: {a.truth:7} predicted: {a.predicted[TRAINED]}" for a in answers]
    logger.info("\n".join([f"predictions of the trained weights {TRAINED}:", *lines]))
    return answers


def _simulate_and_map(task: Task, out: Path, count: int, seed: int, device: str) -> LabeledImages:
    """Simulate the images of a task and map them; what an earlier call made is used again.

    Lens fits of training images start at the true lenses, which is fast. Fits of test images do
    not, as for observed images.
    """
    store, n_test = _store(out, task), count // TEST_DIVISOR
    if not store.exists():
        logger.info(f"{task}: simulating {count:,} images, and mapping their mass")
        simulate(PRESETS[task], count, seed=seed, out=store, n_test=n_test, device=device)
    plain = open_dataset(store)
    mapped = open_dataset(map_mass(plain, out / f"{task}_mapped.h5", workers="auto"))
    first = count - n_test
    tests, rows = mapped_rows(plain, np.arange(first, count), load_preset(PRESETS[task]))
    return replace(mapped, images=np.concatenate([mapped.images[:first], tests[rows]]))


def _store(out: Path, task: Task) -> Path:
    return out / f"{task}.h5"


def _check_store(store: Path, count: int, seed: int) -> None:
    """Check that the dataset of an earlier demonstration is of the same images.

    Raises:
        UsageError: it has another number of images or another seed.
    """
    if not store.exists():
        return
    with open_store(store) as file:
        stored = len(file["labels"]), int(file.attrs["seed"])
    if stored != (count, seed):
        raise UsageError(
            f"{store.parent}: holds a demonstration with --count {stored[0]} --seed {stored[1]};"
            " give the same to continue, or choose another --out"
        )
