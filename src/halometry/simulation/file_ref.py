"""Reference to a file that a preset uses: a point spread function or pictures of galaxies."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import field_serializer, model_validator

from halometry.config import StrictModel

FILE_SUFFIXES = (".npy", ".npz", ".fits", ".fit", ".fits.gz")


class FileRef(StrictModel):
    """A file with an array of numbers, by path and checksum.

    Attributes:
        file: .npy, .npz (its array `images`, or its only array) or FITS (its first image); a
            relative path starts at the folder of the preset.
        sha256: checksum of the file. It is added when the preset is read. Where it is given, the
            file must agree, so that a dataset is never continued with other numbers.
    """

    file: str
    sha256: str = ""

    @field_serializer("file", when_used="json")
    def _file_name(self, file: str) -> str:
        """Write the file name without its folder, which may be private."""
        return Path(file).name

    @model_validator(mode="before")
    @classmethod
    def _add_checksum(cls, content: Any) -> Any:
        if not isinstance(content, dict) or not isinstance(content.get("file"), str):
            return content
        path = Path(content["file"])
        if not path.name.lower().endswith(FILE_SUFFIXES):
            raise ValueError(f"{path}: must be one of {', '.join(FILE_SUFFIXES)}")
        try:
            checksum = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
        if content.get("sha256") not in (None, "", checksum):
            raise ValueError(f"{path}: has changed, its sha256 is {checksum}")
        return content | {"sha256": checksum}

    def read(self) -> np.ndarray:
        """Read the array, float64.

        Raises:
            ValueError: the file cannot be read, or an element is no finite real number.
        """
        path = Path(self.file)
        try:
            array = np.asarray(_read(path), dtype="float64")
        except (OSError, TypeError, ValueError, KeyError, EOFError) as error:
            detail = " ".join(str(error).split())
            raise ValueError(f"{path}: holds no array of numbers ({detail})") from error
        if not array.size or not np.isfinite(array).all():
            raise ValueError(f"{path}: must hold finite numbers")
        return array


def _read(path: Path) -> Any:
    """Read the array of an .npy, .npz or FITS file."""
    if path.suffix.lower() == ".npy":
        return np.load(path, allow_pickle=False)
    if path.suffix.lower() == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return arrays["images" if "images" in arrays else _only_name(arrays.files)]
    from astropy.io import fits

    with fits.open(path) as units:
        for unit in units:
            if unit.is_image and unit.data is not None:
                return unit.data
    raise ValueError("no image in it")


def _only_name(names: list[str]) -> str:
    """Return the single name of a list; raise KeyError for any other number of names."""
    if len(names) != 1:
        raise KeyError(f"no array 'images' among {', '.join(names)}")
    return names[0]
