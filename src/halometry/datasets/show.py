"""Montage of images with labels: of a dataset, a folder of images, or a preset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from halometry.datasets.dataset import LabeledImages
from halometry.datasets.inputs import count_images, iter_images
from halometry.datasets.open import open_dataset
from halometry.datasets.readers import Image
from halometry.errors import DataError, ReadError, UsageError, did_you_mean
from halometry.log import logger, with_progress
from halometry.plotting import LowerMaps, montage, save_figure
from halometry.resources import is_user_file
from halometry.simulation import list_presets, load_preset, sample
from halometry.simulation.substructure_maps import SMOOTHING_ARCSEC, substructure_map


@with_progress
def show(
    what: str | Path | LabeledImages,
    out: str | Path | None = None,
    *,
    count: int = 12,
    seed: int = 0,
    progress: bool = True,
) -> Path | None:
    """Draw a montage of images of a dataset, a folder, or a preset.

    Args:
        what: path of a store, a folder, an image, or a preset's YAML file; or name of a preset; or
            an open dataset.
        out: the PNG, JPEG, SVG or PDF file to write; None shows a window, or in a notebook the
            figure.
        count: number of images.
        seed: seed of the choice of images, or of the simulated scenes.
        progress: whether to show progress bars.

    Returns:
        `out`.

    Raises:
        UsageError: `what` is neither a path nor a preset, or there is no screen for a window.
        DataError: no image could be read.
    """
    if count < 1:
        raise UsageError(f"--count {count}: must be at least 1")
    figure = _montage(what, count, seed)
    if out is None:
        _show_window(figure)
        return None
    save_figure(figure, Path(out))
    return Path(out)


def _montage(what: str | Path | LabeledImages, count: int, seed: int) -> Figure:
    if isinstance(what, LabeledImages):
        images, titles, beneath = _from_set(what, count, seed)
        return montage(images, titles, _columns(len(images)), beneath)
    path = Path(what)
    if str(what) in list_presets() or is_user_file(what):
        return _of_preset(what, count, seed)
    if not path.exists():
        hint = did_you_mean(str(what), list_presets())
        raise UsageError(f"{what}: neither a file or folder nor a preset; {hint}")
    beneath = None
    try:
        images, titles, beneath = _from_set(open_dataset(path), count, seed)
    except DataError as error:
        images, titles = _from_files(path, count)
        if path.is_dir():
            logger.info(f"shown without labels: {error}")
    return montage(images, titles, _columns(len(images)), beneath)


def _columns(count: int) -> int:
    """Number of columns with which the last row is nearly full."""
    return count if count < 4 else min((6, 5, 4), key=lambda columns: -count % columns)


def _of_preset(what: str | Path, count: int, seed: int) -> Figure:
    """Montage of simulated images, each above the convergence of its substructure."""
    preset = load_preset(what)
    images, scene = sample(preset, seed, 0, count)
    titles = [
        preset.class_names[int(label)] if preset.class_names else f"f_sub {float(label):.3f}"
        for label in scene.labels
    ]
    maps = substructure_map(scene, preset)
    beneath = (
        f'convergence of the substructure, smoothed by {SMOOTHING_ARCSEC}"',
        list(maps.numpy()),
    )
    return montage(list(images[:, 0].numpy()), titles, _columns(count), beneath)


def _from_set(
    data: LabeledImages, count: int, seed: int
) -> tuple[list[np.ndarray], list[str], LowerMaps | None]:
    """Images and titles of a dataset, and its mass maps if it has them."""
    names = data.class_names
    rng = np.random.default_rng(seed)
    if names is None:
        rows = rng.permutation(len(data))[:count]
        rows = rows[np.argsort(data.labels[rows])]
    else:  # the same number of each class, side by side
        per_class = -(-count // len(names))
        by_class = [np.flatnonzero(data.labels == k) for k in range(len(names))]
        chosen = [rng.permutation(of_class)[:per_class] for of_class in by_class]
        rows = np.concatenate([part[i : i + 1] for i in range(per_class) for part in chosen])
        rows = rows[:count]
    images = [data.display_image(i) for i in rows]
    titles = [names[int(k)] if names else f"f_sub {k:.3f}" for k in data.labels[rows]]
    if "mass_map_preset" not in data.attributes:
        return images, titles, None
    maps = [np.asarray(data.images[np.array([i])], np.float32)[0, -1].clip(0) for i in rows]
    return (
        images,
        titles,
        ("mass that explains the residual of a smooth lens, in 0.1 % of the halo mass", maps),
    )


def _from_files(path: Path, count: int) -> tuple[list[np.ndarray], list[str]]:
    images, total = iter_images([path]), count_images([path])
    if total == 0:
        raise DataError(f"{path}: no images found")
    good: list[Image] = []
    for item in images:
        if isinstance(item, ReadError):
            last = item
            logger.info(f"left out: {item}")
        else:
            good.append(item)
        if len(good) == count:
            break
    if not good:
        raise last
    if len(good) == count < total:
        logger.info(f"the first {len(good)} of {total} images; see --count")
    return [item.pixels.mean(axis=0) for item in good], [Path(item.path).name for item in good]


def _show_window(figure: Figure) -> None:
    import matplotlib
    from matplotlib import pyplot
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    if matplotlib.get_backend().lower() == "agg":
        raise UsageError("there is no screen to show a window on; write a file with --out FILE.png")
    window = pyplot.figure(figsize=figure.get_size_inches())
    canvas = window.add_axes((0, 0, 1, 1))
    canvas.axis("off")
    renderer = FigureCanvasAgg(figure)
    renderer.draw()
    canvas.imshow(np.asarray(renderer.buffer_rgba()))
    pyplot.show()
