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
from halometry.log import Tracker, with_progress
from halometry.massmaps.mapper import CHANNELS, MassMapper, format_shape
from halometry.massmaps.pool import IMAGES_PER_BATCH, MassMapBatch, MassMapPool, stack_pixels
from halometry.parallel import Workers, check_workers
from halometry.provenance import simulation_versions
from halometry.simulation import Preset, Scene, load_preset, scene_units

DEFAULT_SHARD_SIZE = 256  # images; mapping them takes minutes
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
        no_truth_init: whether to fit the lenses of simulated images as those of real images,
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
    out = Path(out)
    check_workers(workers)
    if "mass_map_preset" in labeled.attributes:
        raise UsageError(f"{labeled.source}: is mapped already")
    own_preset = preset_from_dataset(labeled)
    chosen = own_preset if preset is None else preset
    if chosen is None:
        raise UsageError(
            f"{labeled.source}: does not say which preset its images follow; give it with --preset"
        )
    chosen = chosen if isinstance(chosen, Preset) else load_preset(chosen)
    with MassMapPool(chosen, len(labeled), workers) as pool:
        has_truth = chosen == own_preset and has_parameters(labeled, SCENE_PARAMETERS)
        source = _Source(labeled, use_truth=has_truth and not no_truth_init)
        _check_images(labeled, pool.mapper, check_counts=not source.use_truth)
        check_writable(out)
        size = max(DEFAULT_SHARD_SIZE, min_shard_size(len(labeled)))
        settings = {
            "count": len(labeled),
            "n_test": len(labeled) - source.test_from,
            "images": labeled.fingerprint,
            "no_truth_init": not source.use_truth,
            **simulation_versions(),
            "preset": chosen.model_dump(mode="json", exclude_none=True),
        }
        return build_dataset(
            out,
            plan_shards(out, len(labeled), size),
            lambda missing, tracker: _map_shards(missing, tracker, source, pool, out.parent),
            settings=settings,
            test_from=source.test_from,
            title=f"mapping {chosen.name}",
            overwrite=overwrite,
        )


def _check_images(labeled: LabeledImages, mapper: MassMapper, *, check_counts: bool) -> None:
    """Check that a dataset has images that a mapper takes.

    Args:
        labeled: the dataset.
        mapper: the mapper.
        check_counts: whether to check that each image is one of counts.

    Raises:
        ReadError: an image is not one of counts.
        UsageError: the images have another shape than those of the preset.
    """
    shape, expected = labeled.images.shape[1:], mapper.preset.image.shape
    if tuple(shape) != expected:
        raise UsageError(
            f"{labeled.source}: its images are {format_shape(shape)}, those of preset"
            f" {mapper.preset.name} {format_shape(expected)}; give another with --preset"
        )
    if check_counts:
        for k, name in enumerate(labeled.names):
            mapper.prepare(_image(labeled.images[np.array([k])][0], name))


def _image(pixels: np.ndarray, name: str) -> Image:
    return Image(pixels.astype(np.float32), None, name)


@dataclass(frozen=True)
class _LabeledBatch(MassMapBatch):
    """Images of a dataset with their labels, and their true parameters if they are known."""

    labels: np.ndarray = field(kw_only=True)
    parameters: dict[str, np.ndarray] = field(kw_only=True)


class _Source:
    """A labeled dataset in the order in which it is mapped: test images last.

    Args:
        labeled: the dataset.
        use_truth: whether fits start at the true lenses.
    """

    def __init__(self, labeled: LabeledImages, *, use_truth: bool) -> None:
        self.labeled, self.use_truth = labeled, use_truth
        is_test = np.zeros(len(labeled), bool)
        if labeled.roles is not None:
            is_test = labeled.roles == "test"
        self.order = np.argsort(is_test, kind="stable")
        self.test_from = int((~is_test).sum())

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
            [_image(pixels, self.labeled.names[k]) for pixels, k in pairs],
            truth if self.use_truth else None,
            labels=self.labeled.labels[rows],
            parameters=truth,
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
    mapped_batches = pool.map_batches(source.batches(shards))
    for shard in shards:
        place = {"start": shard.start, "test_from": shard.first_test_image(source.test_from)}
        writer = StoreWriter(
            base / shard.file,
            count=shard.count,
            shape=pool.mapper.shape,
            dtype="float16",
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
