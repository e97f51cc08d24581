"""Mass maps as inputs of a run that was trained on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

from halometry.datasets.dataset import LabeledImages
from halometry.datasets.readers import Image
from halometry.errors import ReadError
from halometry.massmaps.cached import Images, mapped_rows
from halometry.massmaps.pool import MassMapPool
from halometry.parallel import Workers, check_workers
from halometry.runs.open import AnyRun

Result = TypeVar("Result")


def input_rows(
    run: AnyRun, data: LabeledImages, rows: np.ndarray, workers: Workers
) -> tuple[Images, np.ndarray]:
    """Images of a dataset as a run takes them: as they are, or their mass maps from the cache.

    Args:
        run: the run.
        data: the dataset.
        rows: rows of the images (n,); the mass of others is not mapped.
        workers: processes that map images; `auto` takes one a core.

    Returns:
        Images, and the rows in these of the images (n,).

    Raises:
        DataError, UsageError, StorageError, UnavailableError: see `mapped_rows`.
    """
    preset = run.config.data.mass_map_preset
    if preset is None or "mass_map_preset" in data.attributes:
        return data.images, rows
    return mapped_rows(data, rows, preset, workers=workers)


@contextmanager
def mapped_images(
    run: AnyRun, images: Iterable[Image | ReadError], count: int, workers: Workers
) -> Iterator[Iterator[Image | ReadError]]:
    """Images as a run takes them: as they are, or with their mass mapped.

    Args:
        run: the run.
        images: the images.
        count: number of images.
        workers: processes that map images; `auto` takes one a core.
    """
    check_workers(workers)
    preset = run.config.data.mass_map_preset
    if preset is None:
        yield iter(images)
        return
    with MassMapPool(preset, count, workers) as pool:
        yield pool.map_images(images)


@contextmanager
def mapping_images(
    run: AnyRun, predict: Callable[[np.ndarray], Result], count: int, workers: Workers
) -> Iterator[Callable[[np.ndarray], Result]]:
    """Function that predicts plain images, whether a run takes these or their mass maps.

    Args:
        run: the run.
        predict: function of the images that the run takes.
        count: number of images there will be in all.
        workers: processes that map images; `auto` takes one a core.
    """
    check_workers(workers)
    preset = run.config.data.mass_map_preset
    if preset is None:
        yield predict
        return
    with MassMapPool(preset, count, workers) as pool:
        yield lambda counts: predict(pool.map_counts(counts))
