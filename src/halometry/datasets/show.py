"""A montage with labels: of a set, of a folder of images, or of what a preset makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

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
    what: str | Path,
    out: str | Path | None = None,
    *,
    count: int = 12,
    seed: int = 0,
    progress: bool = True,
) -> Path | None:
    """Draw some images of a set, of a folder, or of a preset.

    Args:
        what: the path of a store, of a folder, of an image, of a preset's YAML file, or the
            name of a preset.
        out: a PNG, JPEG, SVG or PDF file; None shows a window.
        count: how many images.
        seed: of the choice among labeled images, or of the simulated scenes.
        progress: whether to show progress bars.

    Returns:
        The file that was written.

    Raises:
        UsageError: neither a path nor a preset; no screen to show a window on.
        DataError: no image could be read.
    """
    if count < 1:
        raise UsageError(f"--count {count}: must be at least 1")
    drawn = _montage(what, count, seed)
    if out is None:
        _window(drawn)
        return None
    save_figure(drawn, Path(out))
    return Path(out)


def _montage(what: str | Path, count: int, seed: int) -> Figure:
    path = Path(what)
    if str(what) in list_presets() or is_user_file(what):
        return _of_preset(what, count, seed)
    if not path.exists():
        hint = did_you_mean(str(what), list_presets())
        raise UsageError(f"{what}: neither a file or folder nor a preset; {hint}")
    beneath = None
    try:
        images, titles, beneath = _from_set(path, count, seed)
    except DataError:
        images, titles = _from_files(path, count)
    return montage(images, titles, _columns(len(images)), beneath)


def _columns(count: int) -> int:
    """Images a row, so that the last row lacks few."""
    return count if count < 4 else min((6, 5, 4), key=lambda columns: -count % columns)


def _of_preset(what: str | Path, count: int, seed: int) -> Figure:
    """Scenes, each above what its substructure adds to the convergence."""
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
    path: Path, count: int, seed: int
) -> tuple[list[np.ndarray], list[str], LowerMaps | None]:
    """Images, titles, and of a mapped set the maps of mass."""
    data = open_dataset(path)
    names = data.class_names
    rng = np.random.default_rng(seed)
    if names is None:
        rows = rng.permutation(len(data))[:count]
        rows = rows[np.argsort(data.labels[rows])]
    else:  # as many of each class, side by side
        each = -(-count // len(names))
        by_class = [np.flatnonzero(data.labels == k) for k in range(len(names))]
        picked = [rng.permutation(of)[:each] for of in by_class]
        rows = np.concatenate([rows[i : i + 1] for i in range(each) for rows in picked])[:count]
    images = [data.display_image(i) for i in rows]
    titles = [names[int(k)] if names else f"f_sub {k:.3f}" for k in data.labels[rows]]
    if "mass_map_preset" not in data.attributes:
        return images, titles, None
    maps = [np.asarray(data.images[np.array([i])], np.float32)[0, -1].clip(0) for i in rows]
    return (
        images,
        titles,
        ("mass that explains what a smooth lens leaves, 0.1 % of the halo's", maps),
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


def _window(figure: Figure) -> None:
    import matplotlib
    from matplotlib import pyplot
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    if matplotlib.get_backend().lower() == "agg":
        raise UsageError("there is no screen to show a window on; write a file with --out FILE.png")
    window = pyplot.figure(figsize=figure.get_size_inches())
    canvas = window.add_axes((0, 0, 1, 1))
    canvas.axis("off")
    drawn = FigureCanvasAgg(figure)
    drawn.draw()
    canvas.imshow(np.asarray(drawn.buffer_rgba()))
    pyplot.show()
