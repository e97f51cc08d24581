"""Mass maps of labeled images in the user's cache, for networks that take maps."""

from __future__ import annotations

import hashlib
import math
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from halometry.datasets.cache import cache_folder, explained_cache_errors
from halometry.datasets.dataset import LabeledImages, LazyImages, read_images
from halometry.datasets.shards import shard_folder
from halometry.datasets.store import open_store
from halometry.errors import DataError, StorageError
from halometry.log import logger, with_progress
from halometry.massmaps.dataset import MAP_DTYPE, check_images, write_maps
from halometry.massmaps.pool import MassMapPool
from halometry.massmaps.presets import preset_hash
from halometry.parallel import Workers, check_workers
from halometry.provenance import simulation_versions
from halometry.simulation import Preset

CACHE_VERSION = "1"  # version of the maps; files of other versions are not used
IMAGES_PER_READ = 256

Images = np.ndarray | LazyImages


@with_progress
def mapped_dataset(
    data: LabeledImages,
    preset: Preset | str,
    *,
    workers: Workers = "auto",
    progress: bool = True,
) -> LabeledImages:
    """Mass maps of a labeled dataset, computed once and then read from the user's cache.

    The images are mapped as observed ones: no lens fit starts at a true lens. The same call
    continues an interrupted one.

    Args:
        data: images of counts. Maps by the same preset are returned as they are.
        preset: preset that the images follow, or its YAML text, as a run keeps it.
        workers: number of processes; `auto` takes one for each core if there are many images.
        progress: whether to show progress bars.

    Returns:
        The dataset with maps (N, 3, h, w) as images. Names, order, labels, roles, source and
        fingerprint are those of `data`.

    Raises:
        DataError: an image is not one of counts, or the images are maps by another preset.
        UsageError: the preset has another image shape or cannot be used; see `MassMapper`.
        StorageError: the cache has no room; finished shards are kept.
        UnavailableError: a worker process was killed; finished shards are kept.

    Example:
        >>> preset = load_preset("common_test_1")  # doctest: +SKIP
        >>> mapped_dataset(open_dataset("dataset"), preset).images.shape  # doctest: +SKIP
        (34500, 3, 75, 75)
    """
    preset_yaml = preset if isinstance(preset, str) else preset.to_yaml()
    own = data.attributes.get("mass_map_preset")
    if own is not None:
        if preset_hash(own) != preset_hash(preset_yaml):
            raise DataError(f"{data.source}: was mapped by another preset; give the plain images")
        return data
    images, _ = mapped_rows(data, np.arange(len(data)), preset, workers=workers)
    count, channels, height, width = images.shape
    attributes = data.attributes | {
        "mass_map_preset": preset_yaml,
        "plain_fingerprint": data.fingerprint,
        "plain_count": count,
        "no_truth_init": 1,
    }
    description = f"{data.description}, as mass maps {channels} x {height} x {width}"
    return replace(data, images=images, description=description, attributes=attributes)


def mapped_rows(
    data: LabeledImages, rows: np.ndarray, preset: Preset | str, *, workers: Workers = "auto"
) -> tuple[Images, np.ndarray]:
    """Mass maps of some images of a dataset; only these are computed, if they are not in the cache.

    Args:
        data: images of counts.
        rows: rows of the images (n,), in any order.
        preset, workers: see `mapped_dataset`.

    Returns:
        Maps, and the rows in these of the images (n,), in the order of `rows`.

    Raises:
        DataError, UsageError, StorageError, UnavailableError: see `mapped_dataset`.
    """
    check_workers(workers)
    everything = np.arange(len(data))
    with MassMapPool(preset, len(rows), workers) as pool:
        whole = _cache_path(data, everything, pool.preset_yaml)
        if (images := _read(whole)) is not None:
            return images, rows
        chosen, positions = np.unique(rows, return_inverse=True)
        path = whole if len(chosen) == len(data) else _cache_path(data, chosen, pool.preset_yaml)
        if (images := _read(path)) is None:
            _map(data, chosen, path, pool)
            images = _read(path)
            assert images is not None
        return images, positions


def _cache_path(data: LabeledImages, rows: np.ndarray, preset_yaml: str) -> Path:
    """Path of the maps of some images, which depends on their pixels and on the preset."""
    settings = [
        CACHE_VERSION,
        preset_hash(preset_yaml),
        data.fingerprint,
        *simulation_versions().values(),
    ]
    digest = hashlib.sha256("\0".join(settings).encode())
    for first in range(0, len(rows), IMAGES_PER_READ):
        part = rows[first : first + IMAGES_PER_READ]
        digest.update(np.ascontiguousarray(data.images[part]).data)
    return cache_folder() / f"mapped-{digest.hexdigest()[:16]}.h5"


def _read(path: Path) -> Images | None:
    """Read complete maps; None if there are none, or if they are damaged and must be repaired."""
    with suppress(DataError), open_store(path) as file:
        size = file["images"].size * file["images"].dtype.itemsize
        return read_images(path, size)
    return None


def _map(data: LabeledImages, rows: np.ndarray, path: Path, pool: MassMapPool) -> None:
    """Compute maps into the cache.

    Raises:
        DataError, StorageError, UnavailableError: see `mapped_dataset`.
    """
    check_images(data, pool.preset)
    logger.info(
        f"{data.source}: mass maps of {len(rows):,} images by preset {pool.preset.name} are"
        f" computed once, into {path}"
    )
    with explained_cache_errors():
        _check_room(path, len(rows) * math.prod(pool.mapper.shape) * MAP_DTYPE.itemsize)
        write_maps(replace(data, roles=None), path, pool, rows=rows)  # in the order of the rows


def _check_room(path: Path, size: int) -> None:
    """Check that the disk has room for maps.

    Args:
        path: where they are written; shards may be there already.
        size: size of all maps in bytes.

    Raises:
        StorageError: it has not.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    missing = size - sum(shard.stat().st_size for shard in shard_folder(path).glob("*.h5"))
    free = shutil.disk_usage(path.parent).free
    if missing > free:
        raise StorageError(
            f"{path.parent}: mass maps need {missing / 1e9:.1f} GB, and {free / 1e9:.1f} GB are"
            " free; free space"
        )
