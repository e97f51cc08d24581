"""Images that are not `common_test_1`'s, in the ways that images in the wild are not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from halometry.datasets.inputs import find_files
from halometry.datasets.readers import read_image
from halometry.models.preprocessing import resize
from halometry.simulation import OnlineImages, Preset, load_preset
from halometry.simulation.noise import as_jpeg

PRESET = "common_test_1"
SIDE, SCALE, SKY = 150, 0.05, 10.0  # pixels, arcsec a pixel, counts a pixel
PSF = 0.0866 / SCALE  # pixels, the standard deviation

BRIGHT = 100.0  # counts a pixel, of a source at its radius
GALAXY = 400.0  # of a real galaxy as source, at its peak

Make = Callable[[int, int], Tensor]  # number of images and seed to images (N, 1, SIDE, SIDE)


def unlike(shared: Path) -> dict[str, Make]:
    """The sets by name; those from files are real, below `shared`."""

    def with_(**parts: Any) -> Make:
        return partial(familiar, **parts)

    light = load_preset("hackathon_2020").lens_light
    assert light is not None
    lens_light = light.model_dump(exclude_none=True) | {"brightness": counts(BRIGHT)}
    cosmos = shared / "galaxies" / "cosmos_43.npz"
    return {
        "hackathon_2020, real": real(shared / "hackathon_2020"),
        "lens_finding, real": real(shared / "lens_finding"),
        "COSMOS galaxies, no lens": galaxies(cosmos),
        "blank sky": blank,
        "field of stars": stars,
        "one bright star": one_star,
        "inverted": inverted,
        "smoothed, 3 x 3 pixels": smoothed,
        "as JPEG of quality 75": pictures,
        "bright cosmic ray": cosmic_rays,
        "faint cosmic ray": partial(cosmic_rays, low=30, high=150),
        "off center by 25 pixels": off_center,
        "lens light added": with_(lens_light=lens_light),
        "COSMOS galaxies as sources": with_(source=pictured(cosmos)),
        "PSF twice as wide": with_(image={"psf_sigma": 2 * PSF * SCALE}),
        "PSF a fifth wider": with_(image={"psf_sigma": 1.2 * PSF * SCALE}),
        "0.065 arcsec a pixel": with_(image={"pixel_scale": 0.065}),
        "0.04 arcsec a pixel": with_(image={"pixel_scale": 0.04}),
        "sky four times as bright": with_(image={"sky": 4 * SKY}),
        "exposed half as long": with_(
            image={"sky": SKY / 2}, source={"brightness": counts(BRIGHT / 2)}
        ),
    }


def counts(value: float) -> dict[str, Any]:
    """A brightness as presets have it."""
    return {"value": value, "unit": "counts/pixel"}


def pictured(file: Path) -> dict[str, Any]:
    """Galaxies in place of a Sersic profile as the source."""
    return {
        "sersic_index": None,
        "axis_ratio": None,
        "picture": {"file": str(file)},
        "radius": {"value": 1.0, "unit": "arcsec"},
        "brightness": counts(GALAXY),
        "position_angle": {"uniform": [0.0, 6.2831853], "unit": "rad"},
    }


def familiar(count: int, seed: int, **parts: Any) -> Tensor:
    """Fresh images of the preset, perhaps with keys of its parts changed."""
    return drawn(changed(**parts), count, seed)


def changed(**parts: dict[str, Any]) -> Preset:
    """The preset with some keys of its parts changed, None taking one away, or a part added."""
    content = load_preset(PRESET).model_dump(exclude_none=True)
    for part, keys in parts.items():
        content[part] = content.get(part, {}) | keys
        content[part] = {key: value for key, value in content[part].items() if value is not None}
    return Preset.model_validate(content)


def drawn(preset: Preset, count: int, seed: int) -> Tensor:
    """Images of a preset (N, 1, H, W)."""
    batches = islice(OnlineImages(preset, seed), -(-count // 64))
    return torch.cat([images for images, _ in batches])[:count]


def blank(count: int, seed: int) -> Tensor:
    """Sky and its noise, nothing else."""
    return observed(np.full((count, SIDE, SIDE), SKY), seed)


def stars(count: int, seed: int) -> Tensor:
    """Stars, fourteen on average, 20 to 1,500 counts at their peaks, most of them faint."""
    rng = np.random.default_rng([seed, 1])
    light = np.full((count, SIDE, SIDE), SKY)
    for image in light:
        for _ in range(1 + rng.poisson(13)):
            _star(image, 20 * 75 ** rng.random() ** 2, rng.uniform(0, SIDE, 2))
    return observed(light, seed)


def one_star(count: int, seed: int) -> Tensor:
    """A bright star in the middle."""
    rng = np.random.default_rng([seed, 2])
    light = np.full((count, SIDE, SIDE), SKY)
    for image in light:
        _star(image, rng.uniform(300, 1500), SIDE / 2 + rng.uniform(-2, 2, 2))
    return observed(light, seed)


def _star(image: np.ndarray, peak: float, where: np.ndarray) -> None:
    axes = np.arange(SIDE)
    y, x = (np.exp(-0.5 * ((axes - at) / PSF) ** 2) for at in where)
    image += peak * y[:, None] * x[None, :]


def observed(light: np.ndarray, seed: int) -> Tensor:
    """Poisson counts (N, 1, H, W) of expected ones (N, H, W)."""
    counts = np.random.default_rng([seed, 0]).poisson(light)
    return torch.from_numpy(counts[:, None].astype(np.float32))


def cosmic_rays(count: int, seed: int, low: float = 200, high: float = 2000) -> Tensor:
    """Good images with a cosmic ray: a track of 2 to 15 pixels, from low to high counts in each."""
    images = familiar(count, seed)
    rng = np.random.default_rng([seed, 3])
    for image in images:
        angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(2, 15)
        start = rng.uniform(15, SIDE - 15, 2)
        along = np.arange(0, length, 0.5)[:, None] * [np.sin(angle), np.cos(angle)]
        y, x = np.unique((start + along).astype(int), axis=0).T
        image[0, y, x] += float(rng.uniform(low, high))
    return images


def inverted(count: int, seed: int) -> Tensor:
    """Good images, dark for bright."""
    images = familiar(count, seed)
    return images.amax(dim=(1, 2, 3), keepdim=True) - images


def off_center(count: int, seed: int) -> Tensor:
    """Good images, moved by 25 pixels; what leaves comes in at the other side."""
    rng = np.random.default_rng([seed, 4])
    angles = rng.uniform(0, 2 * np.pi, count)
    moves = (25 * np.stack([np.sin(angles), np.cos(angles)], axis=1)).round().astype(int).tolist()
    images = familiar(count, seed)
    return torch.stack([i.roll(move, (1, 2)) for i, move in zip(images, moves, strict=True)])


def smoothed(count: int, seed: int) -> Tensor:
    """Good images, smoothed over 3 x 3 pixels, as by a program that takes noise away."""
    images = torch.nn.functional.pad(familiar(count, seed), (1, 1, 1, 1), mode="replicate")
    return torch.nn.functional.avg_pool2d(images, 3, stride=1)


def pictures(count: int, seed: int) -> Tensor:
    """Good images as pictures of eight bits, JPEG's losses included."""
    return as_jpeg(familiar(count, seed), quality=75)


def real(folder: Path) -> Make:
    """Images from files, as they are, or enlarged to SIDE pixels; colors averaged."""

    def make(count: int, seed: int) -> Tensor:
        files = np.array(find_files(folder))
        chosen = np.random.default_rng([seed, 5]).permutation(len(files))[:count]
        images = [torch.tensor(read_image(files[i]).pixels).mean(dim=0) for i in sorted(chosen)]
        return torch.cat([fitted(image[None, None]) for image in images])

    return make


def galaxies(file: Path) -> Make:
    """Galaxies without a lens, enlarged to SIDE pixels, at most 800 counts above the sky."""

    def make(count: int, seed: int) -> Tensor:
        images = np.load(file)["images"][:count]
        enlarged = fitted(torch.from_numpy(images)[:, None])[:, 0].clamp(0, 1).numpy()
        return observed(SKY + 800 * enlarged.astype(float), seed)

    return make


def fitted(images: Tensor) -> Tensor:
    """Images (N, 1, H, W) with SIDE pixels a side, bilinear where they had others."""
    return images if images.shape[-1] == images.shape[-2] == SIDE else resize(images, SIDE)
