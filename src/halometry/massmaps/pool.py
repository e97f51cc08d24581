"""Mapping of images for networks that take mass maps, in this process or in worker processes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from typing import Any, Self, TypeVar

import numpy as np
import torch
import yaml

from halometry.config import validate
from halometry.datasets.readers import Image
from halometry.errors import ReadError
from halometry.massmaps.mapper import MassMapper
from halometry.parallel import Advance, ProcessPool, Workers, available_cores, check_workers
from halometry.simulation import Preset, Scene

IMAGES_PER_BATCH = 8  # a process that is to stop finishes its batch first
MIN_PARALLEL_IMAGES = (
    100  # mapping fewer takes less than twice the time that processes need to start
)


@dataclass(frozen=True)
class MassMapBatch:
    """Images to map together.

    Attributes:
        images: images, in order; read errors and mapped images stay as they are.
        truth: true parameters (n, ...) of the scenes, if the lens fits are to start there.
    """

    images: list[Image | ReadError]
    truth: dict[str, np.ndarray] | None = None

    @property
    def is_done(self) -> bool:
        """Whether no image has to be mapped."""
        return all(isinstance(image, ReadError) or image.mass_map_preset for image in self.images)

    def first(self, count: int) -> MassMapBatch:
        """The first images of the batch."""
        truth = self.truth and {name: values[:count] for name, values in self.truth.items()}
        return MassMapBatch(self.images[:count], truth)


Batch = TypeVar("Batch", bound=MassMapBatch)


class MassMapPool:
    """Mapper of images, in worker processes that end with the context.

    Args:
        preset: the preset that the images follow, or its YAML text, as a run keeps it.
        count: number of images.
        workers: number of processes; `auto` takes one for each core if there are many images.

    Raises:
        UsageError: invalid number of processes.

    Example:
        >>> with MassMapPool(preset, len(images)) as pool:  # doctest: +SKIP
        ...     images = list(pool.map_images(images))
    """

    def __init__(self, preset: Preset | str, count: int, workers: Workers = 1) -> None:
        check_workers(workers)
        if workers == "auto":
            workers = available_cores() if count >= MIN_PARALLEL_IMAGES else 1
        self.workers, self._given_preset = workers, preset
        self.preset_yaml = preset if isinstance(preset, str) else preset.to_yaml()
        self._image_numbers = itertools.count()

    @cached_property
    def preset(self) -> Preset:
        """The preset that the images follow; read when the first image needs it.

        Raises:
            ConfigError: it names files that do not exist here.
        """
        given = self._given_preset
        return preset_from_yaml(given) if isinstance(given, str) else given

    @cached_property
    def mapper(self) -> MassMapper:
        """The mapper of this process.

        Raises:
            ConfigError, UsageError: see `preset` and `MassMapper`.
        """
        return MassMapper(self.preset)

    @cached_property
    def _pool(self) -> ProcessPool:
        return ProcessPool(self.workers, _initialize_worker, (self.preset, self.preset_yaml))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if "_pool" in vars(self):
            self._pool.__exit__(*error)

    def map_batches(
        self, batches: Iterable[Batch]
    ) -> Iterator[tuple[Batch, list[Image | ReadError]]]:
        """Map batches of images.

        Args:
            batches: the batches.

        Yields:
            Each batch and its mapped images, in order; images that cannot be mapped are errors.

        Raises:
            UnavailableError: a worker process was killed.
        """
        if self.workers == 1:
            for batch in batches:
                if batch.is_done:
                    yield batch, batch.images
                else:
                    yield batch, _map_batch(self.mapper, self.preset_yaml, batch)
            return
        remaining = iter(batches)
        for batch in remaining:
            if batch.is_done:
                yield batch, batch.images
            else:  # processes are started for the first batch that needs them
                yield from self._pool.map(_map_in_worker, chain([batch], remaining))

    def seconds_per_image(self, batch: MassMapBatch) -> float:
        """Time that one process takes for an image, measured in this process.

        Args:
            batch: images to measure it on.
        """
        start = time.perf_counter()
        _map_batch(self.mapper, self.preset_yaml, batch)
        return (time.perf_counter() - start) / len(batch.images)

    def map_images(
        self, images: Iterable[Image | ReadError], batch_size: int = IMAGES_PER_BATCH
    ) -> Iterator[Image | ReadError]:
        """Map images.

        Args:
            images: images or read errors.
            batch_size: images that a process maps together.

        Yields:
            The mapped images, in order; those that cannot be mapped are errors.
        """
        for _, mapped in self.map_batches(_batches(iter(images), batch_size)):
            yield from mapped

    def map_counts(self, counts: np.ndarray) -> np.ndarray:
        """Map counts (B, 1, H, W) to channels (B, 3, h, w).

        Raises:
            ReadError: an image is not one of counts.
        """
        images = [Image(one, None, f"image {next(self._image_numbers)}") for one in counts]
        per_process = -(-len(images) // (2 * self.workers))
        batch_size = max(1, min(IMAGES_PER_BATCH, per_process))
        return stack_pixels(self.map_images(images, batch_size))


def preset_from_yaml(preset_yaml: str) -> Preset:
    """Read the preset that images were mapped with, from its YAML text.

    Raises:
        ConfigError: it names files that do not exist here.
    """
    return validate(Preset, yaml.safe_load(preset_yaml), "the preset that images are mapped by")


def stack_pixels(images: Iterable[Image | ReadError]) -> np.ndarray:
    """Pixels of images (B, C, H, W).

    Raises:
        ReadError: one of the images is an error.
    """
    pixels = []
    for image in images:
        if isinstance(image, ReadError):
            raise image
        pixels.append(image.pixels)
    return np.stack(pixels)


def _batches(images: Iterator[Image | ReadError], size: int) -> Iterator[MassMapBatch]:
    while batch := list(islice(images, size)):
        yield MassMapBatch(batch)


def _map_batch(
    mapper: MassMapper, preset_yaml: str, batch: MassMapBatch
) -> list[Image | ReadError]:
    if batch.truth is None:
        return [_map_image(mapper, preset_yaml, image) for image in batch.images]
    values: dict[str, Any] = {key: torch.from_numpy(v) for key, v in batch.truth.items()}
    counts = torch.from_numpy(stack_pixels(batch.images)[:, 0].astype(np.float32))
    pairs = zip(batch.images, mapper.map_scenes(counts, Scene(**values)), strict=True)
    return [
        replace(image, pixels=pixels, mass_map_preset=preset_yaml)
        for image, pixels in pairs
        if isinstance(image, Image)  # always: `stack_pixels` raises errors
    ]


def _map_image(mapper: MassMapper, preset_yaml: str, image: Image | ReadError) -> Image | ReadError:
    if isinstance(image, ReadError) or image.mass_map_preset is not None:
        return image
    try:
        return replace(image, pixels=mapper.map_image(image), mass_map_preset=preset_yaml)
    except ReadError as error:
        return error


class _WorkerState:
    """The mapper of a worker process, and the YAML text of its preset."""

    mapper: MassMapper
    preset_yaml: str


def _initialize_worker(preset: Preset, preset_yaml: str) -> None:
    _WorkerState.mapper, _WorkerState.preset_yaml = MassMapper(preset), preset_yaml


def _map_in_worker(batch: MassMapBatch, advance: Advance) -> list[Image | ReadError]:
    advance(0)  # stops if the pool is not used any more
    return _map_batch(_WorkerState.mapper, _WorkerState.preset_yaml, batch)
