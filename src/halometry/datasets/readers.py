"""One image from any file: NumPy, FITS, or a picture; or one typed error that says why not."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Picture
from PIL import UnidentifiedImageError

from halometry.datasets.npy import MAX_PIXELS, UnreadableError, read_npy
from halometry.errors import ReadError

NPY_SUFFIXES = (".npy",)
FITS_SUFFIXES = (".fits", ".fit", ".fts", ".fits.gz", ".fit.gz", ".fts.gz", ".fits.fz")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
READABLE_SUFFIXES = NPY_SUFFIXES + FITS_SUFFIXES + PICTURE_SUFFIXES


@dataclass(frozen=True)
class Image:
    """An image as it was read.

    Attributes:
        pixels: (C, H, W) float32, C 1 or 3, values as in the file.
        label: the mass fraction that the file carries, or None.
        path: of the file; within a store with `#` and the image's number; `array[0]` and so on
            where there is no file.
        mapped: the YAML of the preset by which mass was mapped in it, see `map_set`.
    """

    pixels: np.ndarray
    label: float | None
    path: str
    mass_map_preset: str | None = None


def is_readable(name: str) -> bool:
    """Whether a file's name has an ending that is read."""
    return name.lower().endswith(READABLE_SUFFIXES)


def read_image(path: str | Path) -> Image:
    """Read one image.

    Args:
        path: `.npy` (H, W), (1, H, W) or (3, H, W), or an object array `[image, mass fraction]`;
            FITS, of which the extension `SCI`, or else the first with an image, is taken; PNG,
            JPEG, TIFF or BMP.

    Returns:
        The image; color pictures whose channels are equal have one channel, alpha is dropped.

    Raises:
        ReadError: names the file and the reason, whatever its bytes are.
    """
    path = Path(path)
    try:
        raw, label = _read(path)
    except UnreadableError as refused:
        raise ReadError(path, str(refused)) from refused
    except FileNotFoundError:
        raise ReadError(path, "no such file") from None
    except OSError as error:
        raise ReadError(path, f"cannot be opened ({error.strerror or error})") from error
    return image_from_array(raw, str(path), label)


def image_from_array(raw: np.ndarray, name: str, label: float | None = None) -> Image:
    """An image from an array that `read_image` would take from a file.

    Args:
        raw: (H, W), (1, H, W) or (3, H, W), or with the channels last.
        name: stands for a path.
        label: the mass fraction, if known.

    Raises:
        ReadError: names the array and the reason.
    """
    try:
        return Image(_pixels(raw), label, name)
    except UnreadableError as refused:
        raise ReadError(name, str(refused)) from refused


def _read(path: Path) -> tuple[np.ndarray, float | None]:
    name = path.name.lower()
    if path.is_dir():
        raise UnreadableError("is a folder")
    if not path.exists():
        raise FileNotFoundError
    if path.stat().st_size == 0:
        raise UnreadableError("is empty")
    if name.endswith(NPY_SUFFIXES):
        return _from_npy(path)
    if name.endswith(FITS_SUFFIXES):
        return _from_fits(path), None
    if name.endswith(PICTURE_SUFFIXES):
        return _from_picture(path), None
    raise UnreadableError(
        f"is of a type that is not read; known are {', '.join(READABLE_SUFFIXES)}"
    )


def _from_npy(path: Path) -> tuple[np.ndarray, float | None]:
    content = read_npy(path)
    if isinstance(content, np.ndarray):
        return content, None
    if len(content) != 2 or not isinstance(content[0], np.ndarray):
        raise UnreadableError("is an object array, but not [image, mass fraction]")
    image, label = content
    if isinstance(label, np.ndarray):
        if label.size != 1:
            raise UnreadableError("is an object array, but its second element is not a number")
        label = label.item()
    try:
        return image, float(label)
    except OverflowError:
        raise UnreadableError("carries a mass fraction that is no number of this world") from None


def _from_fits(path: Path) -> np.ndarray:
    from astropy.io import fits

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they would say comes as a reason below
        try:
            with path.open("rb") as file, fits.open(file, lazy_load_hdus=False) as hdus:
                images = [hdu for hdu in hdus if hdu.is_image and hdu.header.get("NAXIS", 0) >= 2]
                if not images:
                    raise UnreadableError("has no extension with an image")
                hdu = next((hdu for hdu in images if hdu.name == "SCI"), images[0])
                axes = [int(hdu.header[f"NAXIS{i + 1}"]) for i in range(hdu.header["NAXIS"])]
                if np.prod([float(n) for n in axes]) > MAX_PIXELS:
                    raise UnreadableError(f"says it holds {axes} values, too many")
                data = np.asarray(hdu.data)
                return data.astype(data.dtype.newbyteorder("="), copy=False)
        except UnreadableError:
            raise
        except Exception as error:  # astropy raises almost anything on damaged files
            raise UnreadableError("is not a FITS file, or is truncated or damaged") from error


def _from_picture(path: Path) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Picture.DecompressionBombWarning)
            with Picture.open(path) as opened:
                picture: Picture.Image = opened
                if picture.width * picture.height > MAX_PIXELS:
                    raise UnreadableError(
                        f"has {picture.width} x {picture.height} pixels, too many"
                    )
                if picture.mode in ("P", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "PA"):
                    picture = picture.convert("RGB")
                elif picture.mode in ("LA", "La", "1"):
                    picture = picture.convert("L")
                return np.asarray(picture)
    except UnreadableError:
        raise
    except (Picture.DecompressionBombWarning, Picture.DecompressionBombError) as error:
        raise UnreadableError("has too many pixels") from error
    except UnidentifiedImageError as error:
        raise UnreadableError("is not a picture, or its header is damaged") from error
    except Exception as error:  # Pillow's plugins raise almost anything on damaged files
        raise UnreadableError("is truncated or damaged") from error


def _pixels(raw: np.ndarray) -> np.ndarray:
    """(C, H, W) float32 from what a file held."""
    if raw.dtype.kind not in "biuf":
        raise UnreadableError(f"holds values of type {raw.dtype}, not numbers")
    if raw.ndim == 2:
        image = raw[None]
    elif raw.ndim == 3 and raw.shape[0] in (1, 3):
        image = raw
    elif raw.ndim == 3 and raw.shape[2] in (1, 3):
        image = raw.transpose(2, 0, 1)
    else:
        raise UnreadableError(f"has shape {raw.shape}; (H, W), (1, H, W) or (3, H, W) is expected")
    if min(image.shape) == 0 or min(image.shape[1:]) < 2:
        raise UnreadableError(f"has shape {raw.shape}: too small for an image")
    if image.size > MAX_PIXELS:
        raise UnreadableError(f"has {image.size:,} values, more than {MAX_PIXELS:,}")
    pixels = _to_float32(image)
    if (fault := pixel_problem(pixels)) is not None:
        raise UnreadableError(fault)
    if len(pixels) == 3 and (pixels[0] == pixels[1]).all() and (pixels[0] == pixels[2]).all():
        pixels = pixels[:1]
    return pixels


def pixel_problem(pixels: np.ndarray) -> str | None:
    """Why an image says nothing: pixels that are not finite, or all the same; or None."""
    bad = int(np.size(pixels) - np.isfinite(pixels).sum())
    if bad:
        return f"has {bad} of {pixels.size} pixels that are not finite (NaN or infinite)"
    if pixels.min() == pixels.max():
        return f"is constant: every pixel is {pixels.flat[0]:g}"
    return None


def _to_float32(image: Any) -> np.ndarray:
    with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused for it
        return np.ascontiguousarray(image, dtype=np.float32)
