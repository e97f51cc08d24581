"""The two published experiments on the community's folders, with one report."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from halometry.compare.compare import Comparison, compare_networks, write_comparison
from halometry.compare.published import PUBLISHED
from halometry.compare.report import write_report
from halometry.config import Inputs, Task
from halometry.datasets.cache import cache_folder
from halometry.datasets.dataset import LabeledImages
from halometry.datasets.open import open_dataset
from halometry.datasets.readers import Image
from halometry.datasets.splits import split_dataset
from halometry.errors import StorageError, UsageError
from halometry.log import duration, logger, with_progress
from halometry.massmaps.mapper import MassMapper
from halometry.models.backbones import TIMM_NAMES
from halometry.parallel import Workers, available_cores, find_device
from halometry.runs.config import count_outputs
from halometry.runs.recipe import Recipe, RecipeFile, load_recipe
from halometry.runs.run import is_finished
from halometry.training.estimate import training_seconds

NETWORKS = (*TIMM_NAMES, "d4net")
PRESETS: dict[Task, str] = {"classification": "common_test_1", "regression": "halo_mass"}
MAPPED_EPOCHS = 4  # networks learn from mass maps in few epochs
MAP_BYTES = 2  # of one number of a mass map, float16
INTRO = (
    "The published experiments on the images of the community, which are simulations. Test images"
    " were not used for training. Published figures stand beside ours; they are from other"
    " trainings, without intervals."
)


@dataclass(frozen=True)
class Reproduction:
    """Results of the experiments.

    Attributes:
        comparisons: one for each experiment.
        report: the HTML file.
    """

    comparisons: list[Comparison]
    report: Path


@with_progress
def reproduce(
    out: str | Path,
    *,
    classes: str | Path | None = None,
    masses: str | Path | None = None,
    inputs: Inputs = "maps",
    recipe: str | Path | RecipeFile = "default",
    backbones: Sequence[str] = NETWORKS,
    epochs: int | None = None,
    presets: Mapping[Task, str] = PRESETS,
    seed: int = 0,
    device: str = "auto",
    workers: Workers = "auto",
    progress: bool = True,
) -> Reproduction:
    """Run the published experiments on the community's folders; resume where a call was stopped.

    Args:
        out: folder for runs, figures, tables and `report.html`.
        classes: folder of the classification set, with `train/` and `val/` and a folder for each
            class in both.
        masses: folder of the mass set, with object arrays `[image, f_sub]`.
        inputs: `maps` trains on mass maps of a smooth lens fit, `raw` on the images.
        recipe: `default`, `baseline` (the published recipe), or a YAML file.
        backbones: the networks.
        epochs: of every network; by default those of the recipe for raw images, and
            `MAPPED_EPOCHS` for mass maps.
        presets: preset that the images of each task follow.
        seed: of the split and the training.
        device: `auto`, `cpu`, or as PyTorch names it.
        workers: processes that map images.
        progress: whether to show progress bars.

    Raises:
        UsageError: no folder is given, or one holds the labels of the other experiment.
        HalometryError: as `compare_networks`.

    Example:
        >>> halometry.reproduce("results", classes="dataset")  # doctest: +SKIP
    """
    out, recipe_file = Path(out), load_recipe(recipe) if isinstance(recipe, str | Path) else recipe
    given: dict[Task, str | Path | None] = {"classification": classes, "regression": masses}
    folders = {task: folder for task, folder in given.items() if folder is not None}
    if not folders:
        raise UsageError("give the folder of the classes, of the masses, or both")
    if epochs is None and inputs == "maps":
        epochs = MAPPED_EPOCHS
    overrides = {} if epochs is None else {"epochs": epochs}
    plans = [
        _Plan(task, open_dataset(folder, task), inputs, presets[task], out / task)
        for task, folder in folders.items()
    ]
    _announce(plans, recipe_file, overrides, backbones, device=find_device(device), seed=seed)
    comparisons = []
    for plan in plans:
        comparison = compare_networks(
            plan.task,
            plan.data,
            backbones,
            plan.out,
            recipe=recipe_file,
            overrides=overrides,
            seed=seed,
            device=device,
            inputs=inputs,
            preset=plan.preset,
            workers=workers,
        )
        comparisons.append(_with_published(comparison))
    report = write_report(
        out / "report.html",
        [comparison.section for comparison in comparisons],
        "Dark matter substructure in the community's images",
        intro=INTRO,
    )
    logger.info(f"report -> {report}")
    return Reproduction(comparisons, report)


def _with_published(comparison: Comparison) -> Comparison:
    """Add the published results of the experiment, and write the comparison again."""
    record = comparison.record.model_copy(update={"published": PUBLISHED[comparison.record.task]})
    comparison = replace(comparison, section=replace(comparison.section, record=record))
    write_comparison(comparison)
    return comparison


@dataclass(frozen=True)
class _Plan:
    """One experiment: its images, their preset, and the folder of its results."""

    task: Task
    data: LabeledImages
    inputs: Inputs
    preset: str
    out: Path

    @cached_property
    def mapper(self) -> MassMapper | None:
        """The mapper of its images, where networks get mass maps."""
        return MassMapper(self.preset) if self.inputs == "maps" else None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of an input of the networks, (C, H, W)."""
        if self.mapper is not None:
            return self.mapper.shape
        channels, height, width = self.data.images.shape[1:]
        return channels, height, width

    def map_bytes(self) -> int:
        """Size of the mass maps of all images."""
        return 0 if self.mapper is None else MAP_BYTES * math.prod(self.shape) * len(self.data)

    def mapping_seconds(self) -> float:
        """Estimate the time that one core needs for the mass maps, from one of the images."""
        if self.mapper is None:
            return 0.0
        pixels = np.asarray(self.data.images[np.array([0])])[0].astype(np.float32)
        image = Image(pixels, None, str(Path(self.data.source) / self.data.names[0]))
        self.mapper.map_image(image)  # the first one takes longer
        start = time.monotonic()
        self.mapper.map_image(image)
        return (time.monotonic() - start) * len(self.data)

    def training_seconds(self, backbone: str, recipe: Recipe, device: str, seed: int) -> float:
        """Estimate the time of one training; 0 if it is finished."""
        if is_finished(self.out / "runs" / backbone):
            return 0.0
        return training_seconds(
            backbone,
            recipe,
            shape=self.shape,
            n_outputs=count_outputs(recipe, self.data.class_names),
            images=recipe.epochs * len(split_dataset(self.data, seed=seed).train),
            device=device,
        )


def _announce(
    plans: Sequence[_Plan],
    recipe: RecipeFile,
    overrides: dict[str, int],
    backbones: Sequence[str],
    *,
    device: str,
    seed: int,
) -> None:
    """Log how long the experiments take on this machine, and the disk space that they need.

    Raises:
        StorageError: the maps do not fit on the disk of the cache.
    """
    total = 0.0
    for plan in plans:
        logger.info(f"{plan.task}: {plan.data.description}")
        if seconds := plan.mapping_seconds() / available_cores():
            logger.info(
                f"  mass maps by preset {plan.preset}: at most {duration(seconds)}, and"
                f" {plan.map_bytes() / 1e9:.1f} GB in the cache"
            )
            total += seconds
        for backbone in backbones:
            resolved = recipe.resolve(plan.task, backbone, overrides)
            seconds = plan.training_seconds(backbone, resolved, device, seed)
            needed = f"about {duration(seconds)} (epochs: {resolved.epochs})"
            logger.info(f"  {backbone}: {needed if seconds else 'is trained already'}")
            total += seconds
    logger.info(f"about {duration(total)} in all; after a stop, repeat the command to continue")
    cache_folder().mkdir(parents=True, exist_ok=True)
    needed_bytes = sum(plan.map_bytes() for plan in plans)
    if needed_bytes > (free := shutil.disk_usage(cache_folder()).free):
        raise StorageError(
            f"the mass maps need {needed_bytes / 1e9:.1f} GB, {cache_folder()} has"
            f" {free / 1e9:.1f} GB free; set HALOMETRY_CACHE to a folder with room"
        )
