"""What networks may be shown beside an image: what a smooth lens leaves, and the mass behind it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from torch import Tensor

from halometry.config import validate
from halometry.data.dataset import open_dataset
from halometry.data.images import Image
from halometry.data.labelled import LabelledImages
from halometry.data.store import StoreWriter, is_store, open_store
from halometry.errors import ReadError, UnavailableError, UsageError
from halometry.inference.fitting import Fitter
from halometry.inference.fitting.data import Data, noise_is_known
from halometry.inference.fitting.imaging import Imaged, Imager
from halometry.processes import begin_as_child, check_workers, cores, no_interrupt
from halometry.progress import track
from halometry.simulation import Preset, Scene, load_preset, units_of
from halometry.simulation.render import at_most_threads
from halometry.training.fresh import preset_of
from halometry.writing import check_writable

CHANNELS = ("root of the counts", "residual over noise", "mass in 0.1 % of the halo's")
UNIT = 1e-3  # share of the halo's mass, of the last of them
CHUNK = 8  # images at a time: a process that is to stop ends its own first
WORTH_PROCESSES = 500  # images; half a minute, several times what it takes to start processes
SCENE = [field.name for field in fields(Scene) if field.name != "task"]
KEPT = ("preset", "preset_yaml", "seed", "device", "test_from")  # attributes of a simulated set


class Mapper:
    """From images to what a smooth lens leaves of them and the mass that explains it.

    Args:
        preset: that the images follow.

    Raises:
        UsageError: its images cannot be fitted, or their noise is not known, or it has no
            substructure.
    """

    def __init__(self, preset: str | Path | Preset) -> None:
        self.preset = preset if isinstance(preset, Preset) else load_preset(preset)
        if not noise_is_known(self.preset.image):
            raise UsageError(
                f"preset {self.preset.name}: maps take images with Poisson noise, alone or with"
                " Gaussian noise of a known size"
            )
        self.fitter = Fitter(self.preset)
        self.imager = Imager(self.preset, self.fitter.layout, self.fitter.allowed)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(3, h, w) of what it gives."""
        return len(CHANNELS), self.imager.side, self.imager.side

    def of_image(self, image: Image) -> np.ndarray:
        """An image of counts, perhaps scaled, as the channels `CHANNELS` (3, h, w).

        Raises:
            ReadError: it holds no counts, or is not of the preset's shape.
        """
        data, optimum = self.fitter.smooth(self.read(image))
        with torch.no_grad():
            counts = (data.values + data.offset)[None]
            return _channels(self.imager.image(optimum.theta[:1], counts, data.extra))[0]

    def read(self, image: Image) -> Data:
        """An image as the likelihood takes it.

        Raises:
            ReadError: as `of_image`.
        """
        shape = image.pixels.shape
        if shape != self.preset.image.shape:
            wanted = _sides(self.preset.image.shape)
            raise ReadError(image.path, f"is {_sides(shape)}; to be mapped it must be {wanted}")
        data = self.fitter.read(image)
        if data.sigma is not None:
            raise ReadError(
                image.path,
                "its pixels are no counts, nor counts that were scaled, so that its noise is not"
                " known well enough to map mass; give the counts",
            )
        return data

    def of_scenes(self, counts: Tensor, scene: Scene) -> np.ndarray:
        """Simulated images (B, H, W) as channels (B, 3, h, w), fitted from their true lenses."""
        scene = scene.to(counts.device, torch.float64)
        smooth = replace(
            scene,
            subhalo_mass=torch.zeros_like(scene.subhalo_mass),
            line_mass=torch.zeros_like(scene.line_mass),
        )
        with torch.no_grad():
            theta = self.fitter.layout.coordinates(lambda name: getattr(smooth, name))
            extra = scene.background_rms[:, None] ** 2
            return _channels(self.imager.image(theta, counts, extra))


def _channels(imaged: Imaged) -> np.ndarray:
    each = [imaged.counts.clamp_min(0).sqrt(), imaged.residual, imaged.mass / UNIT]
    stacked: np.ndarray = torch.stack(each, dim=1).float().cpu().numpy()
    return stacked


def as_mapped(images: Iterable[Image | ReadError], preset: str) -> Iterator[Image | ReadError]:
    """Images mapped as those were that a run was trained on; those that are mapped already pass.

    Args:
        images: in their order; for a bad one the error, which passes, too.
        preset: the YAML of the one that the run's images were mapped by.
    """
    mapper: Mapper | None = None
    for image in images:
        if isinstance(image, ReadError) or image.mapped is not None:
            yield image
            continue
        mapper = mapper or Mapper(validate(Preset, yaml.safe_load(preset), "the run's preset"))
        try:
            yield replace(image, pixels=mapper.of_image(image), mapped=preset)
        except ReadError as error:
            yield error


def map_set(
    data: str | Path | LabelledImages,
    out: str | Path,
    preset: str | Path | Preset | None = None,
    workers: int | Literal["auto"] = "auto",
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
        blind: search for the lens of simulated images, too, as in a real one, which takes ten times
            as long.

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
    mapper = Mapper(chosen)
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
    if workers == "auto":
        workers = cores() if len(labelled) > WORTH_PROCESSES else 1
    with writer, track(f"mapping {mapper.preset.name}", len(labelled)) as progress:
        for chunk, channels in _mapped(mapper, _chunks(labelled, blind), int(workers)):
            writer.write(progress.done, channels, chunk.labels, chunk.parameters)
            progress.advance(len(channels))
    return out


def _check(labelled: LabelledImages, mapper: Mapper, each: bool) -> None:
    """Refuse a set that is not of a preset's images, or, where `each` is looked at, not of counts.

    Raises:
        ReadError, UsageError: it is not.
    """
    shape, wanted = labelled.images.shape[1:], mapper.preset.image.shape
    if tuple(shape) != wanted:
        raise UsageError(
            f"{labelled.source}: its images are {_sides(shape)}, those of preset"
            f" {mapper.preset.name} {_sides(wanted)}; give another with --preset"
        )
    if each:
        for k, name in enumerate(labelled.names):
            mapper.read(_image(labelled.images[np.array([k])][0], name))


def _image(pixels: np.ndarray, name: str) -> Image:
    return Image(pixels.astype(np.float32), None, name)


def _sides(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _has_scenes(labelled: LabelledImages) -> bool:
    """Whether a set holds every true parameter of its images."""
    if not is_store(labelled.source):
        return False
    with open_store(labelled.source) as file:
        return all(name in file.get("parameters", {}) for name in SCENE)


def _chunks(labelled: LabelledImages, blind: bool) -> Iterator[_Chunk]:
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
                yield _Chunk(
                    labelled.images[some],
                    labelled.labels[some],
                    [labelled.names[k] for k in some],
                    {} if kept is None else {name: kept[name][some] for name in SCENE},
                    blind,
                )


@dataclass(frozen=True)
class _Chunk:
    """Images that a process maps; `parameters` are the true ones where they are known."""

    images: np.ndarray
    labels: np.ndarray
    names: list[str]
    parameters: dict[str, np.ndarray]
    blind: bool


def _map_chunk(mapper: Mapper, chunk: _Chunk) -> np.ndarray:
    """The channels of a chunk's images (n, 3, h, w)."""
    if chunk.blind:
        images = zip(chunk.images, chunk.names, strict=True)
        return np.stack([mapper.of_image(_image(*one)) for one in images])
    values: dict[str, Any] = {k: torch.from_numpy(v) for k, v in chunk.parameters.items()}
    scene = Scene(**values)
    counts = torch.from_numpy(chunk.images[:, 0].astype(np.float32))
    return mapper.of_scenes(counts, scene)


class _Worker:
    """What a process maps with."""

    mapper: Mapper


def _begin(preset: Preset) -> None:
    begin_as_child()
    torch.set_num_threads(1)
    _Worker.mapper = Mapper(preset)


def _work(chunk: _Chunk) -> np.ndarray:
    return _map_chunk(_Worker.mapper, chunk)


def _mapped(
    mapper: Mapper, chunks: Iterator[_Chunk], workers: int
) -> Iterator[tuple[_Chunk, np.ndarray]]:
    """One chunk after the other with its channels, made in this process or in several."""
    if workers == 1:
        with at_most_threads(1):
            for chunk in chunks:
                yield chunk, _map_chunk(mapper, chunk)
        return
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin, (mapper.preset,))
    waiting: deque[tuple[_Chunk, Future[np.ndarray]]] = deque()
    try:
        with no_interrupt():
            waiting.extend((one, pool.submit(_work, one)) for one in islice(chunks, 2 * workers))
        while waiting:
            chunk, future = waiting.popleft()
            yield chunk, future.result()
            waiting.extend((one, pool.submit(_work, one)) for one in islice(chunks, 1))
    except BrokenProcessPool as error:
        raise UnavailableError(
            "a worker process ended unexpectedly, perhaps for want of memory; use fewer --workers"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
