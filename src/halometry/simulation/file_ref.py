"""A file that a preset names: a point spread function, pictures of galaxies."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import field_serializer, model_validator

from halometry.config import StrictModel

FILE_SUFFIXES = (".npy", ".npz", ".fits", ".fit", ".fits.gz")


class FileRef(StrictModel):
    """A file of numbers, by name and checksum.

    Attributes:
        file: .npy, .npz (its array `images`, or its only one), or FITS (the first image in it); a
            relative path is seen from the preset that names it.
        sha256: filled in when the preset is read; where it stands already the file must agree, so
            that a set is never continued with other numbers.
    """

    file: str
    sha256: str = ""

    @field_serializer("file", when_used="json")
    def _file_name(self, file: str) -> str:
        """Only the name is written down: where the file lies is nobody's business."""
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
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
        if content.get("sha256") not in (None, "", found):
            raise ValueError(f"{path}: has changed, its sha256 is {found}")
        return content | {"sha256": found}

    def read(self) -> np.ndarray:
        """The numbers, float64.

        Raises:
            ValueError: not such a file, or not real and finite.
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
    if len(names) != 1:
        raise KeyError(f"no array 'images' among {', '.join(names)}")
    return names[0]
