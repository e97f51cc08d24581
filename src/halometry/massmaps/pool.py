"""Images mapped for a network that takes maps, in this process or in several."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from multiprocessing import get_context
from typing import Any, Self, TypeVar

import numpy as np
import torch
import yaml

from halometry.config import validate
from halometry.datasets.readers import Image
from halometry.errors import ReadError, UnavailableError
from halometry.massmaps.mapper import MassMapper
from halometry.parallel import (
    Workers,
    available_cores,
    begin_as_child,
    block_interrupt,
    check_workers,
)
from halometry.simulation import Preset, Scene

IMAGES_PER_BATCH = 8  # images at a time: a process that is to stop ends its own first
MIN_PARALLEL_IMAGES = 100  # images; mapped in twice the time that it takes to start processes


@dataclass(frozen=True)
class MassMapBatch:
    """Images to map together.

    Attributes:
        images: in their order; what could not be read passes, and what is mapped already.
        truth: true parameters (n, ...) of the images' scenes, where the search for their lenses is
            to begin there.
    """

    images: list[Image | ReadError]
    truth: dict[str, np.ndarray] | None = None

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to map."""
        return all(
            isinstance(one, ReadError) or one.mass_map_preset is not None for one in self.images
        )


Batch = TypeVar("Batch", bound=MassMapBatch)


class MassMapPool:
    """Maps images by a preset, in processes that end with the context.

    Args:
        preset: that the images follow; or its YAML, as a run keeps it.
        count: how many images there are.
        workers: processes; `auto` takes one for each core where there are enough images.

    Raises:
        UsageError: no such number of processes.

    Example:
        >>> with Mapping(preset, len(images)) as mapping:  # doctest: +SKIP
        ...     images = list(mapping.map_images(images))
    """

    def __init__(self, preset: Preset | str, count: int, workers: Workers = 1) -> None:
        check_workers(workers)
        if workers == "auto":
            workers = available_cores() if count >= MIN_PARALLEL_IMAGES else 1
        self.workers, self._preset = workers, preset
        self.preset_yaml = preset if isinstance(preset, str) else preset.to_yaml()
        self._numbers = itertools.count()

    @cached_property
    def mapper(self) -> MassMapper:
        """That of this process, made when an image needs it: a preset may name files.

        Raises:
            ConfigError: they are not here.
            UsageError: see `MassMapper`.
        """
        return MassMapper(self._read())

    @cached_property
    def _pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self.workers, get_context("spawn"), _begin, (self._read(), self.preset_yaml)
        )

    def _read(self) -> Preset:
        return preset_from_yaml(self._preset) if isinstance(self._preset, str) else self._preset

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if "_pool" in vars(self):
            self._pool.shutdown(wait=True, cancel_futures=True)

    def map_batches(self, jobs: Iterable[Batch]) -> Iterator[tuple[Batch, list[Image | ReadError]]]:
        """One job after the other, with its images mapped.

        Raises:
            UnavailableError: a process ended, perhaps for want of memory.
        """
        if self.workers == 1:
            for job in jobs:
                yield job, job.images if job.is_done else _map(self.mapper, self.preset_yaml, job)
            return
        jobs, waiting = iter(jobs), deque[tuple[Batch, Future[list[Image | ReadError]] | None]]()

        def begin(count: int) -> None:
            for job in islice(jobs, count):
                future = None
                if not job.is_done:
                    with block_interrupt():  # a process may start
                        future = self._pool.submit(_work, job)
                waiting.append((job, future))

        try:
            begin(2 * self.workers)
            while waiting:
                job, future = waiting.popleft()
                yield job, job.images if future is None else future.result()
                begin(1)
        except BrokenProcessPool as error:
            raise UnavailableError(
                "a worker process ended unexpectedly, perhaps for want of memory; use fewer"
                " --workers, and in a Python script begin below 'if __name__ == \"__main__\":'"
            ) from error

    def map_images(
        self, images: Iterable[Image | ReadError], size: int = IMAGES_PER_BATCH
    ) -> Iterator[Image | ReadError]:
        """Images mapped, in their order; those that cannot be have the reason in their place."""
        for _, mapped in self.map_batches(_jobs(iter(images), size)):
            yield from mapped

    def map_counts(self, counts: np.ndarray) -> np.ndarray:
        """Counts (B, 1, H, W) as the channels of their maps (B, 3, h, w).

        Raises:
            ReadError: an image holds no counts.
        """
        named = [Image(one, None, f"image {next(self._numbers)}") for one in counts]
        size = max(
            1, min(IMAGES_PER_BATCH, -(-len(named) // (2 * self.workers)))
        )  # work for every process
        return stack_pixels(self.map_images(named, size))


def preset_from_yaml(told: str) -> Preset:
    """The preset by which images were mapped, from its YAML as a run keeps it.

    Raises:
        ConfigError: it names files that are not here.
    """
    return validate(Preset, yaml.safe_load(told), "the preset that images are mapped by")


def stack_pixels(images: Iterable[Image | ReadError]) -> np.ndarray:
    """The pixels of images (B, C, H, W).

    Raises:
        ReadError: one of them could not be read, or not be mapped.
    """
    pixels = []
    for image in images:
        if isinstance(image, ReadError):
            raise image
        pixels.append(image.pixels)
    return np.stack(pixels)


def _jobs(images: Iterator[Image | ReadError], size: int) -> Iterator[MassMapBatch]:
    while some := list(islice(images, size)):
        yield MassMapBatch(some)


def _map(mapper: MassMapper, told: str, job: MassMapBatch) -> list[Image | ReadError]:
    """A job's images mapped; those that cannot be have the reason in their place."""
    if job.truth is not None:
        values: dict[str, Any] = {k: torch.from_numpy(v) for k, v in job.truth.items()}
        counts = torch.from_numpy(stack_pixels(job.images)[:, 0].astype(np.float32))
        pairs = zip(job.images, mapper.map_scenes(counts, Scene(**values)), strict=True)
        return [
            replace(image, pixels=pixels, mass_map_preset=told)
            for image, pixels in pairs
            if isinstance(image, Image)  # all are, or they would not be stacked
        ]
    return [_map_blindly(mapper, told, image) for image in job.images]


def _map_blindly(mapper: MassMapper, told: str, image: Image | ReadError) -> Image | ReadError:
    if isinstance(image, ReadError) or image.mass_map_preset is not None:
        return image
    try:
        return replace(image, pixels=mapper.map_image(image), mass_map_preset=told)
    except ReadError as error:
        return error


class _Worker:
    """What a process maps with."""

    mapper: MassMapper
    told: str


def _begin(preset: Preset, told: str) -> None:
    begin_as_child()
    torch.set_num_threads(1)
    _Worker.mapper, _Worker.told = MassMapper(preset), told


def _work(job: MassMapBatch) -> list[Image | ReadError]:
    return _map(_Worker.mapper, _Worker.told, job)
