"""Presets: all that a set of simulated images is drawn from, as data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, model_validator

from halometry.config import StrictModel
from halometry.resources import list_resources
from halometry.simulation.config import Halos, Lens, LensLight, Source, Subhalos, Vortex
from halometry.simulation.cosmology import DEFAULT_COSMOLOGY, Cosmology, Distances
from halometry.simulation.instrument import ImageSpec
from halometry.simulation.yaml_files import load_yaml_model, read_yaml_text

FOLDER = "simulation/presets"
Substructure = Literal["no", "sphere", "vort"]
DEFAULT_CLASSES: dict[str, Substructure] = {"no": "no", "sphere": "sphere", "vort": "vort"}


class Preset(StrictModel):
    """Configuration of simulated images: each parameter has a distribution, unit and source.

    Attributes:
        name, description: text.
        task: `classification` alternates between the classes; `regression` always draws subhalos,
            and the label is their fraction of the halo's mass.
        classes: class names of a classification, each with its substructure: `no` for none,
            `sphere` for subhalos, `vort` for a vortex.
        cosmology: cosmology of all distances.
        distances: `angular_diameter`, or `luminosity_as_published` for the published sets' formula.
        mass_scale: factor on all masses of substructure; 1 for realistic images.
        image: detector.
        lens, lens_light, source: main lens, its light, and the source behind it.
        subhalos: substructure in the lens plane; excludes `halos`.
        halos: substructure in the lens plane and along the line of sight.
        vortex: line-like substructure.
    """

    name: str
    description: str
    task: Literal["classification", "regression"]
    classes: dict[str, Substructure] = DEFAULT_CLASSES
    cosmology: Cosmology = DEFAULT_COSMOLOGY
    distances: Distances = "angular_diameter"
    mass_scale: float = Field(default=1.0, gt=0, le=20)
    image: ImageSpec
    lens: Lens
    lens_light: LensLight | None = None
    source: Source
    subhalos: Subhalos | None = None
    halos: Halos | None = None
    vortex: Vortex | None = None

    @model_validator(mode="after")
    def _check_substructure(self) -> Preset:
        if len(set(self.kinds)) < len(self.kinds) or not self.kinds:
            raise ValueError("'classes' must be of different kinds")
        if self.subhalos is not None and self.halos is not None:
            raise ValueError("give either 'subhalos' or 'halos'")
        if "sphere" in self.kinds and self.subhalos is None and self.halos is None:
            raise ValueError("its images have subhalos: 'subhalos' or 'halos' is missing")
        if "vort" in self.kinds and self.vortex is None:
            raise ValueError("a class 'vort' needs a 'vortex'")
        physical = self.halos is not None or (
            self.subhalos is not None and self.subhalos.profile == "tnfw"
        )
        if physical and self.distances == "luminosity_as_published":
            raise ValueError("'halos' and 'tnfw' need 'distances: angular_diameter'")
        if self.halos is not None and self.mass_scale != 1:
            raise ValueError("'mass_scale' must be 1 with 'halos'; change 'sigma_sub'")
        return self

    @model_validator(mode="after")
    def _check_units(self) -> Preset:
        rate = "counts/s/pixel" if self.image.exposure is not None else "counts/pixel"
        for part, light in (("source", self.source), ("lens_light", self.lens_light)):
            if light is None:
                continue
            if light.brightness is not None and light.brightness.unit != rate:
                with_or_without = "with" if self.image.exposure is not None else "without"
                raise ValueError(
                    f"'{part}.brightness' must be in {rate} {with_or_without} 'image.exposure'"
                )
            if light.magnitude is not None and self.image.zero_point is None:
                raise ValueError(f"'{part}.magnitude' needs 'image.zero_point' or an instrument")
        return self

    @property
    def summary(self) -> str:
        """Description up to its first colon or full stop."""
        return re.split(r"[.:](?:\s|$)", self.description.strip())[0]

    @property
    def kinds(self) -> tuple[Substructure, ...]:
        """Substructure of consecutive images; image k has the element k modulo their number."""
        return tuple(self.classes.values()) if self.task == "classification" else ("sphere",)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Class names in the order of the class indices; None for regression."""
        return tuple(self.classes) if self.task == "classification" else None

    @property
    def max_halos(self) -> int:
        """Number of slots for subhalos in a batch and in a store."""
        part = self.subhalos or self.halos
        return part.max_halos if part else 1

    def to_yaml(self) -> str:
        """Return the preset as YAML that `load_preset` can read."""
        content = self.model_dump(mode="json", exclude_none=True)
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def list_presets() -> list[str]:
    """Return the names of the presets that come with the package."""
    return list_resources(FOLDER)


def load_preset(name: str | Path) -> Preset:
    """Load a preset by name, or from a user's own YAML file.

    Raises:
        UsageError: unknown name.
        ConfigError: the file is missing or invalid; the key, its value and range are named.

    Example:
        >>> load_preset("common_test_1").image.shape
        (1, 150, 150)
    """
    return load_yaml_model(FOLDER, Preset, name)


def preset_text(name: str | Path) -> str:
    """Return the YAML text of a preset, with units, sources and comments.

    Raises:
        UsageError, ConfigError: as `load_preset`.
    """
    return read_yaml_text(FOLDER, Preset, name)
