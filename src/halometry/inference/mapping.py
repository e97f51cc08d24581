"""The verb `map`: a labelled set whose images are maps of mass, for networks to learn from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from halometry.data.dataset import open_dataset
from halometry.data.images import Image
from halometry.data.labelled import LabelledImages
from halometry.data.store import StoreWriter, is_store, open_store
from halometry.errors import UsageError
from halometry.fitting.mapper import CHANNELS, Mapper, sides_of
from halometry.processes import Workers, check_workers
from halometry.progress import track
from halometry.simulation import Preset, Scene, load_preset, units_of
from halometry.training.fresh import preset_of
from halometry.training.mapping import CHUNK, Job, Mapping, stacked
from halometry.writing import check_writable

SCENE = [field.name for field in fields(Scene) if field.name != "task"]
KEPT = ("preset", "preset_yaml", "seed", "device", "test_from")  # attributes of a simulated set


def map_set(
    data: str | Path | LabelledImages,
    out: str | Path,
    preset: str | Path | Preset | None = None,
    workers: Workers = 1,
    blind: bool = False,
) -> Path:
    """Map the mass in every image of a labelled set, into a set for networks to learn from.

    Each image becomes three channels: the root of its counts, what the best smooth lens leaves
    of it in units of the noise, and the mass in each cell that explains this. Where the set was
    simulated, the search for the lens begins at the true one.

    Args:
        data: a store, or a folder of labelled images of counts.
        out: the HDF5 file to write.
        preset: that the images follow; that of a simulated set if not given. By another than its
            own a set is mapped as if blind.
        workers: processes to work in; `auto` takes one for each core.
        blind: search for the lens of simulated images, too, as in a real one, which takes five
            times as long.

    Returns:
        `out`.

    Raises:
        DataError: there is no such set, or an image of it holds no counts.
        UsageError: no preset is given and the set has none; `out` is there already; see `Mapper`.
        StorageError: no room or no permission.

    Example:
        >>> halometry.map("lenses.h5", "mapped.h5")  # doctest: +SKIP
    """
    labelled = data if isinstance(data, LabelledImages) else open_dataset(data)
    out = Path(out)
    check_workers(workers)
    if "mapped" in labelled.attributes:
        raise UsageError(f"{labelled.source}: is mapped already")
    if out.exists():
        raise UsageError(f"{out}: is there already; remove it, or choose another name")
    own = preset_of(labelled)
    chosen = own if preset is None else preset
    if chosen is None:
        raise UsageError(
            f"{labelled.source}: does not say which preset its images follow; give it with --preset"
        )
    chosen = chosen if isinstance(chosen, Preset) else load_preset(chosen)
    mapping = Mapping(chosen, len(labelled), workers)
    mapper = mapping.mapper
    # The true lenses have to be known, and that preset's.
    blind = blind or mapper.preset != own or not _has_scenes(labelled)
    _check(labelled, mapper, blind)
    check_writable(out)
    attributes = {key: value for key, value in labelled.attributes.items() if key in KEPT}
    attributes |= {"mapped": mapper.preset.to_yaml(), "channels": ", ".join(CHANNELS)}
    attributes["blind"] = int(blind)
    if labelled.roles is not None:
        attributes["test_from"] = int((labelled.roles != "test").sum())
    writer = StoreWriter(
        out,
        count=len(labelled),
        shape=mapper.shape,
        dtype="float16",
        task=labelled.task,
        class_names=labelled.class_names,
        attributes=attributes,
        units=units_of(mapper.preset),
        compress=False,
    )
    with (
        mapping,
        writer,
        track(f"mapping {mapper.preset.name}", len(labelled)) as progress,
    ):
        for job, images in mapping.each(_jobs(labelled, blind)):
            writer.write(progress.done, stacked(images), job.labels, job.parameters)
            progress.advance(len(images))
    return out


def _check(labelled: LabelledImages, mapper: Mapper, each: bool) -> None:
    """Refuse a set that is not of a preset's images, or, where `each` is looked at, not of counts.

    Raises:
        ReadError, UsageError: it is not.
    """
    shape, wanted = labelled.images.shape[1:], mapper.preset.image.shape
    if tuple(shape) != wanted:
        raise UsageError(
            f"{labelled.source}: its images are {sides_of(shape)}, those of preset"
            f" {mapper.preset.name} {sides_of(wanted)}; give another with --preset"
        )
    if each:
        for k, name in enumerate(labelled.names):
            mapper.read(_image(labelled.images[np.array([k])][0], name))


def _image(pixels: np.ndarray, name: str) -> Image:
    return Image(pixels.astype(np.float32), None, name)


def _has_scenes(labelled: LabelledImages) -> bool:
    """Whether a set holds every true parameter of its images."""
    if not is_store(labelled.source):
        return False
    with open_store(labelled.source) as file:
        return all(name in file.get("parameters", {}) for name in SCENE)


@dataclass(frozen=True)
class _Labelled(Job):
    """Images of a set, their labels, and their true parameters where they are known."""

    labels: np.ndarray = field(kw_only=True)
    parameters: dict[str, np.ndarray] = field(kw_only=True)


def _jobs(labelled: LabelledImages, blind: bool) -> Iterator[_Labelled]:
    """All images, a few at a time, those for the test last."""
    test = np.zeros(len(labelled), bool) if labelled.roles is None else labelled.roles == "test"
    with ExitStack() as stack:
        kept: Any = None
        if _has_scenes(labelled):
            kept = stack.enter_context(open_store(labelled.source))["parameters"]
        for part in (~test, test):
            rows = np.flatnonzero(part)
            for first in range(0, len(rows), CHUNK):
                some = rows[first : first + CHUNK]
                pairs = zip(labelled.images[some], some, strict=True)
                truth = {name: _rows(kept[name], some) for name in SCENE} if kept else {}
                yield _Labelled(
                    [_image(pixels, labelled.names[k]) for pixels, k in pairs],
                    None if blind else truth,
                    labels=labelled.labels[some],
                    parameters=truth,
                )


def _rows(dataset: Any, rows: np.ndarray) -> np.ndarray:
    """Some rows of a dataset: at once, where one follows the other, which is much faster."""
    first, last = int(rows[0]), int(rows[-1]) + 1
    found: np.ndarray = dataset[first:last] if last - first == len(rows) else dataset[rows]
    return found
