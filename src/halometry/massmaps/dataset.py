"""The verb `map`: a labeled set whose images are maps of mass, for networks to learn from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from halometry.datasets.build import Finished, least_shard, make_shards, planned
from halometry.datasets.dataset import LabeledImages, has_parameters, preset_of
from halometry.datasets.open import open_dataset
from halometry.datasets.readers import Image
from halometry.datasets.shards import Shard
from halometry.datasets.store import StoreWriter, open_store
from halometry.errors import UsageError
from halometry.io import check_writable
from halometry.log import Tracker
from halometry.massmaps.mapper import CHANNELS, Mapper, sides_of
from halometry.massmaps.pool import CHUNK, Job, Mapping, stacked
from halometry.parallel import Workers, check_workers
from halometry.provenance import versions
from halometry.simulation import Preset, Scene, load_preset, scene_units

SHARD = 256  # images, a quarter of those of `simulate`: what is lost by a stop takes minutes
SCENE = [field.name for field in fields(Scene) if field.name != "task"]
KEPT = ("preset", "preset_yaml", "seed", "device")  # attributes of a simulated set


def map_mass(
    data: str | Path | LabeledImages,
    out: str | Path,
    preset: str | Path | Preset | None = None,
    workers: Workers = 1,
    blind: bool = False,
    overwrite: bool = False,
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
            own a set is mapped as if blind.
        workers: processes to work in; `auto` takes one for each core.
        blind: search for the lens of simulated images, too, as in a real one, which takes five
            times as long.
        overwrite: remove a set that is there.

    Returns:
        `out`.

    Raises:
        DataError: there is no such set, or an image of it holds no counts.
        UsageError: no preset is given and the set has none; another set is there already; see
            `Mapper`.
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
    own = preset_of(labeled)
    chosen = own if preset is None else preset
    if chosen is None:
        raise UsageError(
            f"{labeled.source}: does not say which preset its images follow; give it with --preset"
        )
    chosen = chosen if isinstance(chosen, Preset) else load_preset(chosen)
    mapping = Mapping(chosen, len(labeled), workers)
    mapper = mapping.mapper
    # The true lenses have to be known, and that preset's.
    blind = blind or mapper.preset != own or not has_parameters(labeled, SCENE)
    _check(labeled, mapper, blind)
    check_writable(out)
    test = np.zeros(len(labeled), bool) if labeled.roles is None else labeled.roles == "test"
    order, test_from = np.argsort(test, kind="stable"), int((~test).sum())  # those for testing last
    plan = planned(out, len(labeled), max(SHARD, least_shard(len(labeled))))
    kept = {key: value for key, value in labeled.attributes.items() if key in KEPT}
    kept |= {"mass_map_preset": mapper.preset.to_yaml(), "channels": ", ".join(CHANNELS)}
    kept |= {"blind": int(blind), **versions()}

    def make(left: list[Shard], progress: Tracker, finished: Finished) -> None:
        done = mapping.each(_jobs(labeled, order, test_from, left, blind))
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
                    writer.write(row, stacked(images), job.labels, job.parameters)
                    row += len(images)
                    progress.advance(len(images))
            finished(shard.written(out.parent))

    settings = {
        "count": len(labeled),
        "images": labeled.fingerprint,
        "blind": blind,
        **versions(),
        "preset": mapper.preset.model_dump(mode="json", exclude_none=True),
    }
    title = f"mapping {mapper.preset.name}"
    with mapping:
        return make_shards(out, plan, settings, test_from, overwrite, title, make)


def _check(labeled: LabeledImages, mapper: Mapper, each: bool) -> None:
    """Refuse a set that is not of a preset's images, or, where `each` is looked at, not of counts.

    Raises:
        ReadError, UsageError: it is not.
    """
    shape, wanted = labeled.images.shape[1:], mapper.preset.image.shape
    if tuple(shape) != wanted:
        raise UsageError(
            f"{labeled.source}: its images are {sides_of(shape)}, those of preset"
            f" {mapper.preset.name} {sides_of(wanted)}; give another with --preset"
        )
    if each:
        for k, name in enumerate(labeled.names):
            mapper.read(_image(labeled.images[np.array([k])][0], name))


def _image(pixels: np.ndarray, name: str) -> Image:
    return Image(pixels.astype(np.float32), None, name)


@dataclass(frozen=True)
class _Labeled(Job):
    """Images of a set, their labels, and their true parameters where they are known."""

    labels: np.ndarray = field(kw_only=True)
    parameters: dict[str, np.ndarray] = field(kw_only=True)


def _jobs(
    labeled: LabeledImages, order: np.ndarray, test_from: int, shards: list[Shard], blind: bool
) -> Iterator[_Labeled]:
    """The images of some shards of a set in this order, a few at a time, those for testing apart.

    The numbers of some that go together increase, as files are read.
    """
    with ExitStack() as stack:
        kept: Any = None
        if has_parameters(labeled, SCENE):
            kept = stack.enter_context(open_store(labeled.source))["parameters"]
        for shard in shards:
            rows = order[shard.start : shard.start + shard.count]
            for part in np.split(rows, [shard.test_from(test_from)]):
                for first in range(0, len(part), CHUNK):
                    yield _job(labeled, part[first : first + CHUNK], kept, blind)


def _job(labeled: LabeledImages, rows: np.ndarray, kept: Any, blind: bool) -> _Labeled:
    pairs = zip(labeled.images[rows], rows, strict=True)
    truth = {name: _rows(kept[name], rows) for name in SCENE} if kept else {}
    return _Labeled(
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
