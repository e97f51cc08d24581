"""The verb `map`: a labeled set whose images are maps of mass, for networks to learn from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from halometry.datasets.build import Finished, build_dataset, min_shard_size, plan_shards
from halometry.datasets.dataset import LabeledImages, has_parameters, preset_from_dataset
from halometry.datasets.open import open_dataset
from halometry.datasets.readers import Image
from halometry.datasets.shards import Shard
from halometry.datasets.store import StoreWriter, open_store
from halometry.errors import UsageError
from halometry.io import check_writable
from halometry.log import Tracker, with_progress
from halometry.massmaps.mapper import CHANNELS, MassMapper, format_shape
from halometry.massmaps.pool import IMAGES_PER_BATCH, MassMapBatch, MassMapPool, stack_pixels
from halometry.parallel import Workers, check_workers
from halometry.provenance import versions
from halometry.simulation import Preset, Scene, load_preset, scene_units

DEFAULT_SHARD_SIZE = (
    256  # images, a quarter of those of `simulate`: what is lost by a stop takes minutes
)
SCENE_PARAMETERS = [field.name for field in fields(Scene) if field.name != "task"]
COPIED_ATTRIBUTES = ("preset", "preset_yaml", "seed", "device")  # attributes of a simulated set


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
    """Map the mass in every image of a labeled set, into a set for networks to learn from.

    Each image becomes three channels: the root of its counts, what the best smooth lens leaves
    of it in units of the noise, and the mass in each cell that explains this. Where the set was
    simulated, the search for the lens begins at the true one. The set is written in shards, as
    `simulate` writes it: where it was begun earlier, the finished ones are kept.

    Args:
        data: a store, or a folder of labeled images of counts.
        out: the HDF5 file to write; `mapped.h5` has its shards in `mapped.shards/`.
        preset: that the images follow; that of a simulated set if not given. By another than its
            own a set is mapped with `no_truth_init`.
        workers: processes to work in; `auto` takes one for each core.
        blind: search for the lens of simulated images, too, as in a real one, which takes five
            times as long.
        overwrite: remove a set that is there.
        progress: whether to show progress bars.

    Returns:
        `out`.

    Raises:
        DataError: there is no such set, or an image of it holds no counts.
        UsageError: no preset is given and the set has none; another set is there already; see
            `MassMapper`.
        StorageError: no room or no permission.
        UnavailableError: a process ended. After either, finished shards are kept.

    Example:
        >>> halometry.map_mass("lenses.h5", "mapped.h5")  # doctest: +SKIP
    """
    labeled = data if isinstance(data, LabeledImages) else open_dataset(data)
    out = Path(out)
    check_workers(workers)
    if "mass_map_preset" in labeled.attributes:
        raise UsageError(f"{labeled.source}: is mapped already")
    own = preset_from_dataset(labeled)
    chosen = own if preset is None else preset
    if chosen is None:
        raise UsageError(
            f"{labeled.source}: does not say which preset its images follow; give it with --preset"
        )
    chosen = chosen if isinstance(chosen, Preset) else load_preset(chosen)
    mapping = MassMapPool(chosen, len(labeled), workers)
    mapper = mapping.mapper
    # The true lenses have to be known, and that preset's.
    no_truth_init = (
        no_truth_init or mapper.preset != own or not has_parameters(labeled, SCENE_PARAMETERS)
    )
    _check(labeled, mapper, no_truth_init)
    check_writable(out)
    test = np.zeros(len(labeled), bool) if labeled.roles is None else labeled.roles == "test"
    order, test_from = np.argsort(test, kind="stable"), int((~test).sum())  # those for testing last
    plan = plan_shards(out, len(labeled), max(DEFAULT_SHARD_SIZE, min_shard_size(len(labeled))))
    kept = {key: value for key, value in labeled.attributes.items() if key in COPIED_ATTRIBUTES}
    kept |= {"mass_map_preset": mapper.preset.to_yaml(), "channels": ", ".join(CHANNELS)}
    kept |= {"no_truth_init": int(no_truth_init), **versions()}

    def make(left: list[Shard], progress: Tracker, finished: Finished) -> None:
        done = mapping.map_batches(_jobs(labeled, order, test_from, left, no_truth_init))
        for shard in left:
            own = {"start": shard.start, "test_from": shard.test_from(test_from)}
            writer = StoreWriter(
                out.parent / shard.file,
                count=shard.count,
                shape=mapper.shape,
                dtype="float16",
                task=labeled.task,
                class_names=labeled.class_names,
                attributes=kept | own,
                units=scene_units(mapper.preset),
                compress=False,
            )
            with writer:
                row = 0
                while row < shard.count:
                    job, images = next(done)
                    writer.write(row, stack_pixels(images), job.labels, job.parameters)
                    row += len(images)
                    progress.advance(len(images))
            finished(shard.written(out.parent))

    settings = {
        "count": len(labeled),
        "images": labeled.fingerprint,
        "no_truth_init": no_truth_init,
        **versions(),
        "preset": mapper.preset.model_dump(mode="json", exclude_none=True),
    }
    title = f"mapping {mapper.preset.name}"
    with mapping:
        return build_dataset(out, plan, settings, test_from, overwrite, title, make)


def _check(labeled: LabeledImages, mapper: MassMapper, each: bool) -> None:
    """Refuse a set that is not of a preset's images, or, where `each` is looked at, not of counts.

    Raises:
        ReadError, UsageError: it is not.
    """
    shape, wanted = labeled.images.shape[1:], mapper.preset.image.shape
    if tuple(shape) != wanted:
        raise UsageError(
            f"{labeled.source}: its images are {format_shape(shape)}, those of preset"
            f" {mapper.preset.name} {format_shape(wanted)}; give another with --preset"
        )
    if each:
        for k, name in enumerate(labeled.names):
            mapper.prepare(_image(labeled.images[np.array([k])][0], name))


def _image(pixels: np.ndarray, name: str) -> Image:
    return Image(pixels.astype(np.float32), None, name)


@dataclass(frozen=True)
class _LabeledBatch(MassMapBatch):
    """Images of a set, their labels, and their true parameters where they are known."""

    labels: np.ndarray = field(kw_only=True)
    parameters: dict[str, np.ndarray] = field(kw_only=True)


def _jobs(
    labeled: LabeledImages, order: np.ndarray, test_from: int, shards: list[Shard], blind: bool
) -> Iterator[_LabeledBatch]:
    """The images of some shards of a set in this order, a few at a time, those for testing apart.

    The numbers of some that go together increase, as files are read.
    """
    with ExitStack() as stack:
        kept: Any = None
        if has_parameters(labeled, SCENE_PARAMETERS):
            kept = stack.enter_context(open_store(labeled.source))["parameters"]
        for shard in shards:
            rows = order[shard.start : shard.start + shard.count]
            for part in np.split(rows, [shard.test_from(test_from)]):
                for first in range(0, len(part), IMAGES_PER_BATCH):
                    yield _job(labeled, part[first : first + IMAGES_PER_BATCH], kept, blind)


def _job(labeled: LabeledImages, rows: np.ndarray, kept: Any, blind: bool) -> _LabeledBatch:
    pairs = zip(labeled.images[rows], rows, strict=True)
    truth = {name: _rows(kept[name], rows) for name in SCENE_PARAMETERS} if kept else {}
    return _LabeledBatch(
        [_image(pixels, labeled.names[k]) for pixels, k in pairs],
        None if blind else truth,
        labels=labeled.labels[rows],
        parameters=truth,
    )


def _rows(dataset: Any, rows: np.ndarray) -> np.ndarray:
    """Some rows of a dataset: at once, where one follows the other, which is much faster."""
    first, last = int(rows[0]), int(rows[-1]) + 1
    found: np.ndarray = dataset[first:last] if last - first == len(rows) else dataset[rows]
    return found
