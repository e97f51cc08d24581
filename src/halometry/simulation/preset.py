"""What a set of images is drawn from, as data: every parameter with its law, unit and source."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import yaml
from pydantic import Field, model_validator

from halometry.config import Strict, read_yaml, validate
from halometry.errors import UsageError, did_you_mean
from halometry.simulation.cosmology import Distances
from halometry.simulation.quantity import Quantity, within

CLASSES = ("no", "sphere", "vort")
OWN = (".yaml", ".yml")  # how the name of a user's own file ends

ANGLE = Annotated[Quantity, within("rad", -10, 10)]
LENGTH = Annotated[Quantity, within("arcsec", -20, 20)]
DISTANCE = Annotated[Quantity, within("arcsec", 0, 20)]
RATIO = Annotated[Quantity, within("", 0.05, 1)]


class ImageSpec(Strict):
    """The detector.

    Attributes:
        pixels: along one side.
        pixel_scale: arcsec a pixel.
        supersampling: subpixels along a pixel's side, over which light is averaged.
        psf_sigma: arcsec, of a Gaussian; 0 for none.
        sky: counts a pixel.
        background_rms: counts a pixel of Gaussian noise beside the Poisson noise.
    """

    pixels: int = Field(ge=16, le=1024)
    pixel_scale: float = Field(gt=0.001, le=2)
    supersampling: int = Field(default=1, ge=1, le=8)
    psf_sigma: float = Field(default=0.0, ge=0, le=5)
    sky: float = Field(default=0.0, ge=0)
    background_rms: float = Field(default=0.0, ge=0)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(1, H, W) of an image."""
        return 1, self.pixels, self.pixels


class Lens(Strict):
    """The main lens: a singular isothermal ellipsoid at the centre, with external shear."""

    mass: Annotated[Quantity, within("Msun", 1e10, 1e14)]
    z_lens: Annotated[Quantity, within("", 0.01, 3)]
    z_source: Annotated[Quantity, within("", 0.02, 6)]
    axis_ratio: RATIO
    position_angle: ANGLE
    shear: Annotated[Quantity, within("", 0, 0.5)]
    shear_angle: ANGLE

    @model_validator(mode="after")
    def _in_front(self) -> Lens:
        if self.z_lens.support[1] >= self.z_source.support[0]:
            raise ValueError("'z_lens' must always be below 'z_source'")
        return self


class Source(Strict):
    """An elliptical Sersic profile; its radius is that of the intermediate axis.

    Its centre is drawn from `offset` and `offset_angle`, or from `x` and `y`.
    """

    sersic_index: Annotated[Quantity, within("", 0.3, 8)]
    radius: Annotated[Quantity, within("arcsec", 0.01, 5)]
    brightness: Annotated[Quantity, within("counts/pixel", 0, 1e7)]
    axis_ratio: RATIO
    position_angle: ANGLE
    offset: DISTANCE | None = None
    offset_angle: ANGLE | None = None
    x: LENGTH | None = None
    y: LENGTH | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Source:
        polar = (self.offset is not None, self.offset_angle is not None)
        cartesian = (self.x is not None, self.y is not None)
        if (all(polar), any(cartesian)) != (True, False) and (
            any(polar),
            all(cartesian),
        ) != (False, True):
            raise ValueError("give either 'offset' and 'offset_angle', or 'x' and 'y'")
        return self

    def draw_position(self, rng: np.random.Generator) -> tuple[float, float]:
        """Where the source's centre is, (x, y) in arcsec from the lens."""
        if self.x is not None and self.y is not None:
            return self.x.draw(rng), self.y.draw(rng)
        assert self.offset is not None
        assert self.offset_angle is not None
        offset, towards = self.offset.draw(rng), self.offset_angle.draw(rng)
        return float(offset * np.cos(towards)), float(offset * np.sin(towards))


class Subhalos(Strict):
    """Point masses in a circle around the centre (class `sphere`)."""

    number: Annotated[Quantity, within("", 0, 1000)]
    mass: Annotated[Quantity, within("Msun", 1e3, 1e12)]
    radius: DISTANCE
    angle: ANGLE


class Line(Strict):
    """A straight uniform line of mass, a vortex (class `vort`)."""

    mass_fraction: Annotated[Quantity, within("", 0, 1)]
    length: Annotated[Quantity, within("arcsec", 0.001, 20)]
    angle: ANGLE
    offset: DISTANCE
    offset_angle: ANGLE


class Preset(Strict):
    """All that a set of images is drawn from.

    Attributes:
        name, description: for people.
        task: `classification` draws no substructure, subhalos and a line in turn;
            `regression` draws subhalos always, labelled with their share of the halo's mass.
        distances: `angular_diameter`, or `published` for the formula of the published sets.
        mass_scale: multiplies all substructure masses; 1 for anything meant to be realistic.
        image, lens, source, subhalos, line: the parts.
    """

    name: str
    description: str
    task: Literal["classification", "regression"]
    distances: Distances = "angular_diameter"
    mass_scale: float = Field(default=1.0, gt=0, le=20)
    image: ImageSpec
    lens: Lens
    source: Source
    subhalos: Subhalos
    line: Line | None = None

    @model_validator(mode="after")
    def _has_its_classes(self) -> Preset:
        if self.task == "classification" and self.line is None:
            raise ValueError("a preset for classification needs a 'line'")
        return self

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """no, sphere, vort; None for regression."""
        return CLASSES if self.task == "classification" else None

    @property
    def max_subhalos(self) -> int:
        """Places kept for subhalos in a batch and in a store: ten sigma above the mean."""
        return int(self.subhalos.number.support[1]) + 1

    def to_yaml(self) -> str:
        """The preset as YAML, ready to be changed and used."""
        content = self.model_dump(mode="json", exclude_none=True)
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def presets() -> list[str]:
    """The presets that come with the package."""
    folder = resources.files("halometry.simulation") / "presets"
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name[-5:] == ".yaml")


def load_preset(name: str | Path) -> Preset:
    """A preset by name, or from a YAML file of the user's own.

    Raises:
        UsageError: unknown name.
        ConfigError: the file is missing or wrong; the key, its value and range are named.

    Example:
        >>> load_preset("common_test_1").image.shape
        (1, 150, 150)
    """
    own = Path(name).suffix in OWN
    with _file(name) as path:
        return validate(Preset, read_yaml(path), str(name) if own else f"preset {name}")


def preset_text(name: str | Path) -> str:
    """A preset as it is written, with units, sources and comments.

    Raises:
        UsageError, ConfigError: as `load_preset`.
    """
    load_preset(name)
    with _file(name) as path:
        return path.read_text(encoding="utf-8")


@contextmanager
def _file(name: str | Path) -> Iterator[Path]:
    if Path(name).suffix in OWN:
        yield Path(name)
        return
    if name not in presets():
        hint = did_you_mean(str(name), presets())
        raise UsageError(f"unknown preset '{name}', {hint} (or give a .yaml file)")
    folder = resources.files("halometry.simulation") / "presets"
    with resources.as_file(folder / f"{name}.yaml") as path:
        yield path
