"""TODO docstring."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from halometry.datasets.readers import Image
from halometry.errors import ReadError
from halometry.massmaps.pool import MassMapPool
from halometry.parallel import Workers, check_workers
from halometry.runs.open import AnyRun
from halometry.runs.run import Answerer


@contextmanager
def mapped_for(
    run: AnyRun, images: Iterable[Image | ReadError], count: int, workers: Workers
) -> Iterator[Iterator[Image | ReadError]]:
    """So many images as a run takes them: as they are, or mapped."""
    check_workers(workers)
    told = run.config.data.mass_map_preset
    if told is None:
        yield iter(images)
        return
    with MassMapPool(told, count, workers) as mapping:
        yield mapping.map_images(images)


@contextmanager
def for_plain_images(
    run: AnyRun, answerer: Answerer, count: int, workers: Workers
) -> Iterator[Answerer]:
    """What maps plain images to answers, whether a run takes these or their maps.

    Args:
        run: whose answers they are.
        answerer: of the images that it takes.
        count: how many images there will be.
        workers: as `Mapping`.
    """
    check_workers(workers)
    told = run.config.data.mass_map_preset
    if told is None:
        yield answerer
        return
    with MassMapPool(told, count, workers) as mapping:
        yield lambda counts: answerer(mapping.map_counts(counts))
