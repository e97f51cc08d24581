"""Sets of images that differ from `common_test_1` as images from elsewhere may."""

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
SIDE, PIXEL_SCALE, SKY = 150, 0.05, 10.0  # pixels, arcsec per pixel, counts per pixel
PSF_SIGMA = 0.0866 / PIXEL_SCALE  # pixels

SOURCE_BRIGHTNESS = 100.0  # counts per pixel at the radius of the source
GALAXY_BRIGHTNESS = 400.0  # counts per pixel at the peak of a galaxy as source

MakeImages = Callable[[int, int], Tensor]  # number and seed to images (N, 1, SIDE, SIDE)


def ood_sets(shared: Path) -> dict[str, MakeImages]:
    """Return the sets by name; `shared` is the folder of the published ones."""

    def with_changes(**parts: Any) -> MakeImages:
        return partial(lenses, **parts)

    light = load_preset("hackathon_2020").lens_light
    assert light is not None
    lens_light = light.model_dump(exclude_none=True) | {"brightness": brightness(SOURCE_BRIGHTNESS)}
    cosmos = shared / "galaxies" / "cosmos_43.npz"
    return {
        "hackathon_2020, published": from_files(shared / "hackathon_2020"),
        "lens_finding, published": from_files(shared / "lens_finding"),
        "COSMOS galaxies, no lens": galaxies(cosmos),
        "blank sky": blank_sky,
        "field of stars": star_field,
        "one bright star": bright_star,
        "inverted": inverted,
        "smoothed, 3 x 3 pixels": smoothed,
        "as JPEG of quality 75": jpeg,
        "bright cosmic ray": cosmic_rays,
        "faint cosmic ray": partial(cosmic_rays, low=30, high=150),
        "off center by 25 pixels": off_center,
        "lens light added": with_changes(lens_light=lens_light),
        "COSMOS galaxies as sources": with_changes(source=picture_source(cosmos)),
        "PSF twice as wide": with_changes(image={"psf_sigma": 2 * PSF_SIGMA * PIXEL_SCALE}),
        "PSF a fifth wider": with_changes(image={"psf_sigma": 1.2 * PSF_SIGMA * PIXEL_SCALE}),
        "0.065 arcsec a pixel": with_changes(image={"pixel_scale": 0.065}),
        "0.04 arcsec a pixel": with_changes(image={"pixel_scale": 0.04}),
        "sky four times as bright": with_changes(image={"sky": 4 * SKY}),
        "exposed half as long": with_changes(
            image={"sky": SKY / 2}, source={"brightness": brightness(SOURCE_BRIGHTNESS / 2)}
        ),
    }


def brightness(value: float) -> dict[str, Any]:
    """Brightness as in a preset."""
    return {"value": value, "unit": "counts/pixel"}


def picture_source(file: Path) -> dict[str, Any]:
    """Source with pictures of galaxies in place of a Sersic profile."""
    return {
        "sersic_index": None,
        "axis_ratio": None,
        "picture": {"file": str(file)},
        "radius": {"value": 1.0, "unit": "arcsec"},
        "brightness": brightness(GALAXY_BRIGHTNESS),
        "position_angle": {"uniform": [0.0, 6.2831853], "unit": "rad"},
    }


def lenses(count: int, seed: int, **parts: Any) -> Tensor:
    """New images of the preset, with some keys of its parts changed."""
    return simulate_images(change_preset(**parts), count, seed)


def change_preset(**parts: dict[str, Any]) -> Preset:
    """Change keys of parts of the preset; None removes a key."""
    content = load_preset(PRESET).model_dump(exclude_none=True)
    for part, keys in parts.items():
        content[part] = content.get(part, {}) | keys
        content[part] = {key: value for key, value in content[part].items() if value is not None}
    return Preset.model_validate(content)


def simulate_images(preset: Preset, count: int, seed: int) -> Tensor:
    """Simulate images of a preset (N, 1, H, W)."""
    batches = islice(OnlineImages(preset, seed), -(-count // 64))
    return torch.cat([images for images, _ in batches])[:count]


def blank_sky(count: int, seed: int) -> Tensor:
    """Sky with noise only."""
    return add_noise(np.full((count, SIDE, SIDE), SKY), seed)


def star_field(count: int, seed: int) -> Tensor:
    """Stars: 14 on average, most of them faint, with peaks of 20 to 1,500 counts."""
    rng = np.random.default_rng([seed, 1])
    light = np.full((count, SIDE, SIDE), SKY)
    for image in light:
        for _ in range(1 + rng.poisson(13)):
            _add_star(image, 20 * 75 ** rng.random() ** 2, rng.uniform(0, SIDE, 2))
    return add_noise(light, seed)


def bright_star(count: int, seed: int) -> Tensor:
    """One bright star near the center."""
    rng = np.random.default_rng([seed, 2])
    light = np.full((count, SIDE, SIDE), SKY)
    for image in light:
        _add_star(image, rng.uniform(300, 1500), SIDE / 2 + rng.uniform(-2, 2, 2))
    return add_noise(light, seed)


def _add_star(image: np.ndarray, peak: float, center: np.ndarray) -> None:
    axes = np.arange(SIDE)
    y, x = (np.exp(-0.5 * ((axes - position) / PSF_SIGMA) ** 2) for position in center)
    image += peak * y[:, None] * x[None, :]


def add_noise(light: np.ndarray, seed: int) -> Tensor:
    """Draw Poisson counts (N, 1, H, W) for expected counts (N, H, W)."""
    counts = np.random.default_rng([seed, 0]).poisson(light)
    return torch.from_numpy(counts[:, None].astype(np.float32))


def cosmic_rays(count: int, seed: int, low: float = 200, high: float = 2000) -> Tensor:
    """Lenses with a cosmic ray: a track of 2 to 15 pixels, each with `low` to `high` counts."""
    images = lenses(count, seed)
    rng = np.random.default_rng([seed, 3])
    for image in images:
        angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(2, 15)
        start = rng.uniform(15, SIDE - 15, 2)
        along = np.arange(0, length, 0.5)[:, None] * [np.sin(angle), np.cos(angle)]
        y, x = np.unique((start + along).astype(int), axis=0).T
        image[0, y, x] += float(rng.uniform(low, high))
    return images


def inverted(count: int, seed: int) -> Tensor:
    """Lenses with inverted brightness."""
    images = lenses(count, seed)
    return images.amax(dim=(1, 2, 3), keepdim=True) - images


def off_center(count: int, seed: int) -> Tensor:
    """Lenses moved by 25 pixels, with periodic edges."""
    rng = np.random.default_rng([seed, 4])
    angles = rng.uniform(0, 2 * np.pi, count)
    moves = (25 * np.stack([np.sin(angles), np.cos(angles)], axis=1)).round().astype(int).tolist()
    images = lenses(count, seed)
    return torch.stack([i.roll(move, (1, 2)) for i, move in zip(images, moves, strict=True)])


def smoothed(count: int, seed: int) -> Tensor:
    """Lenses smoothed over 3 x 3 pixels, as by a denoising program."""
    images = torch.nn.functional.pad(lenses(count, seed), (1, 1, 1, 1), mode="replicate")
    return torch.nn.functional.avg_pool2d(images, 3, stride=1)


def jpeg(count: int, seed: int) -> Tensor:
    """Lenses as JPEG pictures of 8 bits."""
    return as_jpeg(lenses(count, seed), quality=75)


def from_files(folder: Path) -> MakeImages:
    """Images from files, averaged over colors and resized to SIDE pixels."""

    def make(count: int, seed: int) -> Tensor:
        files = np.array(find_files(folder))
        chosen = np.random.default_rng([seed, 5]).permutation(len(files))[:count]
        images = [torch.tensor(read_image(files[i]).pixels).mean(dim=0) for i in sorted(chosen)]
        return torch.cat([fit_size(image[None, None]) for image in images])

    return make


def galaxies(file: Path) -> MakeImages:
    """Galaxies without a lens, resized to SIDE pixels, at most 800 counts above the sky."""

    def make(count: int, seed: int) -> Tensor:
        images = np.load(file)["images"][:count]
        enlarged = fit_size(torch.from_numpy(images)[:, None])[:, 0].clamp(0, 1).numpy()
        return add_noise(SKY + 800 * enlarged.astype(float), seed)

    return make


def fit_size(images: Tensor) -> Tensor:
    """Resize images (N, 1, H, W) to SIDE pixels a side, if they have another size."""
    return images if images.shape[-1] == images.shape[-2] == SIDE else resize(images, SIDE)
