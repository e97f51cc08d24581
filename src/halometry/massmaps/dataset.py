"""Mapping of the mass in a labeled dataset, as a dataset for networks to learn from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from halometry.datasets.build import Shards, build_dataset
from halometry.datasets.dataset import LabeledImages, has_parameters, preset_from_dataset
from halometry.datasets.open import open_dataset
from halometry.datasets.readers import Image
from halometry.datasets.shards import Shard, ShardRange, min_shard_size, plan_shards
from halometry.datasets.store import StoreWriter, open_store
from halometry.errors import UsageError
from halometry.io import check_writable
from halometry.log import Tracker, duration, logger, warn, with_progress
from halometry.massmaps.mapper import CHANNELS, format_shape
from halometry.massmaps.pool import IMAGES_PER_BATCH, MassMapBatch, MassMapPool, stack_pixels
from halometry.massmaps.presets import preset_numbers
from halometry.parallel import Workers, check_workers
from halometry.provenance import simulation_versions
from halometry.simulation import Preset, Scene, load_preset, scene_units

DEFAULT_SHARD_SIZE = 256  # images; mapping them takes minutes
MAP_DTYPE = np.dtype("float16")
TIMED_IMAGES = 4  # mapped once more for the estimate of the time
MIN_ESTIMATED_IMAGES = 16  # fewer take a few seconds
SCENE_PARAMETERS = [field.name for field in fields(Scene) if field.name != "task"]
COPIED_ATTRIBUTES = ("preset", "preset_yaml", "seed", "device")  # of the simulated dataset


@with_progress
def map_mass(
    data: str | Path | LabeledImages,
    out: str | Path,
    *,
    preset: str | Path | Preset | None = None,
    workers: Workers = 1,
    no_truth_init: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Map the mass in every image of a labeled dataset.

    Each image becomes three channels: the square root of its counts, the residual of the best
    smooth lens in units of the noise, and the mass in each cell that explains the residual. In a
    simulated dataset the fit of the lens starts at the true lens. The result is a store in shards,
    as `simulate` writes it. The same call continues an interrupted one and keeps its finished
    shards.

    Args:
        data: a store, or a folder of labeled images of counts.
        out: the HDF5 file to write; the shards of `mapped.h5` are in `mapped.shards/`.
        preset: preset that the images follow, by default that of a simulated dataset. With
            another one, fits do not start at the true lenses.
        workers: number of processes; `auto` takes one for each core.
        no_truth_init: whether to fit the lenses of simulated images as those of observed images,
            without starting at the true lens; this takes five times as long.
        overwrite: whether to remove an existing dataset.
        progress: whether to show progress bars.

    Returns:
        `out`.

    Raises:
        DataError: there is no such dataset, or an image in it is not one of counts.
        UsageError: no preset is given and the dataset has none, another dataset exists at `out`,
            or the preset cannot be used; see `MassMapper`.
        StorageError: no room or no permission; finished shards are kept.
        UnavailableError: a worker process was killed; finished shards are kept.

    Example:
        >>> halometry.map_mass("lenses.h5", "mapped.h5")  # doctest: +SKIP
    """
    labeled = data if isinstance(data, LabeledImages) else open_dataset(data)
    check_workers(workers)
    if "mass_map_preset" in labeled.attributes:
        raise UsageError(f"{labeled.source}: is mapped already")
    if labeled.roles is not None and (labeled.roles == "validation").any():
        warn(
            f"{labeled.source}: {out} keeps the test set, but not the validation set; to keep both,"
            " give the images themselves to 'train --inputs maps'"
        )
    own_preset = preset_from_dataset(labeled)
    chosen = own_preset if preset is None else preset
    if chosen is None:
        raise UsageError(
            f"{labeled.source}: does not say which preset its images follow; give it with --preset"
        )
    chosen = chosen if isinstance(chosen, Preset) else load_preset(chosen)
    with MassMapPool(chosen, len(labeled), workers) as pool:
        check_images(labeled, chosen)
        has_truth = chosen == own_preset and has_parameters(labeled, SCENE_PARAMETERS)
        use_truth = has_truth and not no_truth_init
        return write_maps(labeled, Path(out), pool, use_truth=use_truth, overwrite=overwrite)


def write_maps(
    labeled: LabeledImages,
    out: Path,
    pool: MassMapPool,
    *,
    rows: np.ndarray | None = None,
    use_truth: bool = False,
    overwrite: bool = False,
) -> Path:
    """Map images of a dataset into a store, test images last; see `map_mass`.

    Args:
        labeled: the dataset.
        out: the HDF5 file to write.
        pool: mapper of its images.
        rows: rows of the images, in rising order; None for all.
        use_truth: whether fits start at the true lenses.
        overwrite: whether to remove an existing dataset.

    Raises:
        ReadError: an image is not one of counts.
        UsageError, StorageError, UnavailableError: see `map_mass`.
    """
    source = _Source(labeled, np.arange(len(labeled)) if rows is None else rows, use_truth)
    count = len(source.order)
    if not use_truth:
        for row in source.order:
            pixels = labeled.images[np.array([row])][0]
            pool.mapper.prepare(_as_counts(pixels, labeled.image_path(row)))
    check_writable(out)
    size = max(DEFAULT_SHARD_SIZE, min_shard_size(count))
    settings = {
        "count": count,
        "n_test": count - source.test_from,
        "images": labeled.fingerprint,
        "no_truth_init": not use_truth,
        **simulation_versions(),
        "preset": preset_numbers(pool.preset.model_dump(mode="json", exclude_none=True)),
    }
    return build_dataset(
        out,
        plan_shards(out, count, size),
        lambda missing, tracker: _map_shards(missing, tracker, source, pool, out.parent),
        settings=settings,
        test_from=source.test_from,
        title=f"mapping {pool.preset.name}",
        overwrite=overwrite,
    )


def check_images(labeled: LabeledImages, preset: Preset) -> None:
    """Check that the images of a dataset have the shape of those of a preset.

    Raises:
        UsageError: they have another one.
    """
    shape, expected = labeled.images.shape[1:], preset.image.shape
    if tuple(shape) != expected:
        raise UsageError(
            f"{labeled.source}: its images are {format_shape(shape)}, those of preset"
            f" {preset.name} {format_shape(expected)}; give another with --preset"
        )


def _as_counts(pixels: np.ndarray, path: str) -> Image:
    return Image(pixels.astype(np.float32), None, path)


@dataclass(frozen=True)
class _LabeledBatch(MassMapBatch):
    """Images of a dataset with their labels, and their true parameters if they are known."""

    labels: np.ndarray = field(kw_only=True)
    parameters: dict[str, np.ndarray] = field(kw_only=True)


class _Source:
    """Images of a labeled dataset in the order in which they are mapped: test images last.

    Args:
        labeled: the dataset.
        rows: rows of the images, in rising order.
        use_truth: whether fits start at the true lenses.
    """

    def __init__(self, labeled: LabeledImages, rows: np.ndarray, use_truth: bool) -> None:
        self.labeled, self.use_truth = labeled, use_truth
        is_test = np.zeros(len(rows), bool)
        if labeled.roles is not None:
            is_test = labeled.roles[rows] == "test"
        self.order = rows[np.argsort(is_test, kind="stable")]
        self.test_from = int((~is_test).sum())

    @property
    def keeps_order(self) -> bool:
        """Whether image k of the maps is image k of the dataset, for all images."""
        return np.array_equal(self.order, np.arange(len(self.labeled)))

    def batches(self, shards: list[ShardRange]) -> Iterator[_LabeledBatch]:
        """Batches of the images of shards; test images are in batches of their own.

        Row numbers increase within a batch, as HDF5 needs it.
        """
        with ExitStack() as stack:
            parameters: Any = None
            if has_parameters(self.labeled, SCENE_PARAMETERS):
                parameters = stack.enter_context(open_store(self.labeled.source))["parameters"]
            for shard in shards:
                rows = self.order[shard.start : shard.start + shard.count]
                for part in np.split(rows, [shard.first_test_image(self.test_from)]):
                    for first in range(0, len(part), IMAGES_PER_BATCH):
                        yield self._batch(part[first : first + IMAGES_PER_BATCH], parameters)

    def _batch(self, rows: np.ndarray, parameters: Any) -> _LabeledBatch:
        pairs = zip(self.labeled.images[rows], rows, strict=True)
        truth = {
            name: _read_rows(parameters[name], rows) for name in SCENE_PARAMETERS if parameters
        }
        return _LabeledBatch(
            [_as_counts(pixels, self.labeled.image_path(k)) for pixels, k in pairs],
            truth if self.use_truth else None,
            labels=self.labeled.labels[rows],
            parameters=truth,
        )


def _log_estimate(shards: list[ShardRange], source: _Source, pool: MassMapPool) -> None:
    """Say how long the mapping will take, from the time of a few images."""
    count = sum(shard.count for shard in shards)
    if count < MIN_ESTIMATED_IMAGES:
        return
    example = next(source.batches(shards)).first(TIMED_IMAGES)
    seconds = pool.seconds_per_image(example)
    logger.info(
        f"mapping {count:,} images: about {duration(seconds * count / pool.workers)}"
        f" in {pool.workers} process{'es' if pool.workers > 1 else ''}"
    )


def _read_rows(dataset: Any, rows: np.ndarray) -> np.ndarray:
    """Rows of an HDF5 dataset; consecutive rows as a slice, which is much faster."""
    first, stop = int(rows[0]), int(rows[-1]) + 1
    values: np.ndarray = dataset[first:stop] if stop - first == len(rows) else dataset[rows]
    return values


def _map_shards(
    shards: list[ShardRange], progress: Tracker, source: _Source, pool: MassMapPool, base: Path
) -> Shards:
    """Map the images of shards and write them; yields each finished shard."""
    labeled, preset = source.labeled, pool.preset
    attributes = {k: v for k, v in labeled.attributes.items() if k in COPIED_ATTRIBUTES}
    attributes |= {"mass_map_preset": pool.preset_yaml, "channels": ", ".join(CHANNELS)}
    attributes |= {"no_truth_init": int(not source.use_truth), **simulation_versions()}
    if source.keeps_order:  # then the maps are known as these images
        attributes |= {"plain_fingerprint": labeled.fingerprint, "plain_count": len(labeled)}
    _log_estimate(shards, source, pool)
    mapped_batches = pool.map_batches(source.batches(shards))
    for shard in shards:
        place = {"start": shard.start, "test_from": shard.first_test_image(source.test_from)}
        writer = StoreWriter(
            base / shard.file,
            count=shard.count,
            shape=pool.mapper.shape,
            dtype=MAP_DTYPE.name,
            task=labeled.task,
            class_names=labeled.class_names,
            attributes=attributes | place,
            units=scene_units(preset),
            compress=False,
        )
        with writer:
            row = 0
            while row < shard.count:
                batch, images = next(mapped_batches)
                writer.write(row, stack_pixels(images), batch.labels, batch.parameters)
                row += len(images)
                progress.advance(len(images))
        yield Shard.from_file(shard, base)
