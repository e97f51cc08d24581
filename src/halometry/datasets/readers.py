"""Reading of one image from a NumPy, FITS or picture file."""

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
    """Image as read from a file, a store or an array.

    Attributes:
        pixels: (C, H, W) float32 with C 1 or 3, values as in the file.
        label: mass fraction in the file, or None.
        path: path of the file, with `#` and the number of the image if it is in a store; `array[0]`
            and so on for arrays.
        mass_map_preset: for mass maps, the YAML text of the preset that they were made with; see
            `map_mass`.
    """

    pixels: np.ndarray
    label: float | None
    path: str
    mass_map_preset: str | None = None


def is_readable(name: str) -> bool:
    """Whether the name of a file has a suffix of a format that is read."""
    return name.lower().endswith(READABLE_SUFFIXES)


def read_image(path: str | Path) -> Image:
    """Read one image.

    Args:
        path: `.npy` with (H, W), (1, H, W) or (3, H, W), or an object array
            `[image, mass fraction]`; FITS, from which the extension `SCI` or else the first image
            is read; PNG, JPEG, TIFF or BMP.

    Returns:
        The image. A color picture with equal channels has one channel; alpha is dropped.

    Raises:
        ReadError: the file cannot be read, for any reason.
    """
    path = Path(path)
    try:
        raw, label = _read(path)
    except UnreadableError as error:
        raise ReadError(path, str(error)) from error
    except FileNotFoundError:
        raise ReadError(path, "no such file") from None
    except OSError as error:
        raise ReadError(path, f"cannot be opened ({error.strerror or error})") from error
    return image_from_array(raw, str(path), label)


def image_from_array(raw: np.ndarray, name: str, label: float | None = None) -> Image:
    """Make an image from an array.

    Args:
        raw: (H, W), (1, H, W) or (3, H, W), or with the channels last.
        name: name of the array, in place of a path.
        label: mass fraction, if known.

    Raises:
        ReadError: the array is not an image.
    """
    try:
        return Image(_pixels(raw), label, name)
    except UnreadableError as error:
        raise ReadError(name, str(error)) from error


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
        raise UnreadableError("has a mass fraction that is too large a number") from None


def _from_fits(path: Path) -> np.ndarray:
    from astropy.io import fits

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # errors below name the reason
        try:
            with path.open("rb") as file, fits.open(file, lazy_load_hdus=False) as hdus:
                images = [hdu for hdu in hdus if hdu.is_image and hdu.header.get("NAXIS", 0) >= 2]
                if not images:
                    raise UnreadableError("has no extension with an image")
                hdu = next((hdu for hdu in images if hdu.name == "SCI"), images[0])
                axes = [int(hdu.header[f"NAXIS{i + 1}"]) for i in range(hdu.header["NAXIS"])]
                if np.prod([float(n) for n in axes]) > MAX_PIXELS:
                    raise UnreadableError(f"has {axes} values, too many")
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
    """Convert the array of a file to pixels (C, H, W) float32."""
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
    if (problem := pixel_problem(pixels)) is not None:
        raise UnreadableError(problem)
    if len(pixels) == 3 and (pixels[0] == pixels[1]).all() and (pixels[0] == pixels[2]).all():
        pixels = pixels[:1]
    return pixels


def pixel_problem(pixels: np.ndarray) -> str | None:
    """Problem of an image whose pixels are not finite, or all the same; None if there is none."""
    n_invalid = int(np.size(pixels) - np.isfinite(pixels).sum())
    if n_invalid:
        return f"has {n_invalid} of {pixels.size} pixels that are not finite (NaN or infinite)"
    if pixels.min() == pixels.max():
        return f"is constant: every pixel is {pixels.flat[0]:g}"
    return None


def _to_float32(image: Any) -> np.ndarray:
    with np.errstate(over="ignore"):  # overflows become infinite, which is an error later
        return np.ascontiguousarray(image, dtype=np.float32)
