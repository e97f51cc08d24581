"""Detector and point spread function of the images, given directly or by an instrument."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, field_serializer, model_validator

from halometry.config import StrictModel
from halometry.errors import UsageError
from halometry.resources import is_user_file, list_resources
from halometry.simulation.distributions import Quantity, within
from halometry.simulation.file_ref import FileRef
from halometry.simulation.yaml_files import load_yaml_model, read_yaml_text

FOLDER = "simulation/instruments"
FWHM_PER_SIGMA = 2 * math.sqrt(2 * math.log(2))  # of a Gaussian
MAX_PSF_PIXELS = 201  # along a side

Bug = Literal["noise_twice", "light_twice", "no_noise", "absolute_value"]
NuisanceParameter = Literal["psf_sigma", "sky"]


class Instrument(StrictModel):
    """A telescope with its camera and survey; every number has a unit and a source.

    Attributes:
        name, description: text.
        pixel_scale: side of a pixel, arcsec.
        psf_fwhm: full width at half maximum of a Gaussian PSF, arcsec; give this or `psf`.
        psf: file with the PSF kernel at the pixel scale.
        zero_point: AB magnitude of a source of one electron per second.
        exposure_time: duration of one exposure, s.
        exposures: number of exposures that are added.
        sky_brightness: AB magnitudes per square arcsec.
        read_noise: standard deviation per pixel and exposure, electrons.
    """

    name: str
    description: str
    pixel_scale: Annotated[Quantity, within("arcsec", 0.001, 2)]
    psf_fwhm: Annotated[Quantity, within("arcsec", 0, 10)] | None = None
    psf: FileRef | None = None
    zero_point: Annotated[Quantity, within("mag", 10, 40)]
    exposure_time: Annotated[Quantity, within("s", 0.001, 1e7)]
    exposures: Annotated[Quantity, within("", 1, 10000)]
    sky_brightness: Annotated[Quantity, within("mag/arcsec^2", 10, 40)]
    read_noise: Annotated[Quantity, within("electrons", 0, 1000)]

    @model_validator(mode="after")
    def _check_consistent(self) -> Instrument:
        for key in type(self).model_fields:
            quantity = getattr(self, key)
            if isinstance(quantity, Quantity) and quantity.value is None:
                raise ValueError(f"'{key}' must be a 'value'")
        if (self.psf_fwhm is None) == (self.psf is None):
            raise ValueError("give either 'psf_fwhm' or 'psf'")
        return self

    def image_values(self, pixel_scale: Any = None) -> dict[str, Any]:
        """Return the values of an `ImageSpec`; counts are electrons of all exposures together.

        Args:
            pixel_scale: replaces the pixel scale of the instrument, arcsec.
        """
        number = {
            key: float(quantity.value)
            for key in type(self).model_fields
            if isinstance(quantity := getattr(self, key), Quantity) and quantity.value is not None
        }
        seconds = number["exposure_time"] * number["exposures"]
        zero_point = number["zero_point"] + 2.5 * math.log10(seconds)
        scale = pixel_scale if isinstance(pixel_scale, int | float) else number["pixel_scale"]
        sky = 10 ** (0.4 * (zero_point - number["sky_brightness"])) * scale**2
        psf = {"psf": {"file": self.psf.file, "sha256": self.psf.sha256}} if self.psf else {}
        return psf | {
            "pixel_scale": scale,
            "psf_sigma": number.get("psf_fwhm", 0.0) / FWHM_PER_SIGMA,
            "sky": sky,
            "background_rms": number["read_noise"] * math.sqrt(number["exposures"]),
            "zero_point": zero_point,
        }


class ImageSpec(StrictModel):
    """The detector of the images: pixels, PSF, background and noise.

    Attributes:
        pixels: number of pixels along a side.
        instrument: a name of `list_instruments()` or a YAML file; it gives the values of
            `Instrument.image_values` that are not given here.
        pixel_scale: side of a pixel, arcsec.
        supersampling: number of subpixels along a pixel's side, over which light is averaged.
        psf_sigma: standard deviation of a Gaussian PSF, arcsec; 0 for none.
        psf: file with the PSF kernel at the pixel scale, with odd sides; it is normalized.
        sky: background level, counts per pixel.
        background_rms: Gaussian noise in addition to the Poisson noise, counts per pixel.
        background: distribution of this noise, where it varies between images.
        zero_point: magnitude of a source of one count; for sources given in magnitudes.
        exposure: exposure time, s; light, sky and background are then per second.
        shot_noise: whether there is Poisson noise; without it, only Gaussian noise.
        jpeg_quality: quality of JPEG images with 8 bits whose brightest pixel is 255.
        reproduce_bugs: bugs of other codes to be reproduced. `noise_twice` draws Poisson noise of
            an image that has noise already, `light_twice` adds the image to itself, `no_noise`
            rounds the expected counts, `absolute_value` takes absolute values after the noise.
        fit_per_image: nuisance parameters that may differ between images: a fit determines them
            for each image.
    """

    pixels: int = Field(ge=16, le=1024)
    instrument: str | None = None
    pixel_scale: float = Field(gt=0.001, le=2)
    supersampling: int = Field(default=1, ge=1, le=8)
    psf_sigma: float = Field(default=0.0, ge=0, le=5)
    psf: FileRef | None = None
    sky: float = Field(default=0.0, ge=0)
    background_rms: float = Field(default=0.0, ge=0)
    background: Annotated[Quantity, within("counts/pixel", 0, 1e6, "counts/s/pixel")] | None = None
    zero_point: float | None = Field(default=None, gt=0, le=60)
    exposure: Annotated[Quantity, within("s", 0.001, 1e7)] | None = None
    shot_noise: bool = True
    jpeg_quality: int | None = Field(default=None, ge=1, le=95)
    reproduce_bugs: tuple[Bug, ...] = ()
    fit_per_image: tuple[NuisanceParameter, ...] | None = None

    @field_serializer("instrument", when_used="json")
    def _instrument_name(self, instrument: str | None) -> str | None:
        """Write a user's own file by its name, without its folder."""
        return Path(instrument).name if instrument and is_user_file(instrument) else instrument

    @model_validator(mode="before")
    @classmethod
    def _fill_from_instrument(cls, content: Any) -> Any:
        if not isinstance(content, dict) or not isinstance(content.get("instrument"), str):
            return content
        try:
            instrument = load_instrument(content["instrument"])
        except UsageError as error:
            raise ValueError(str(error)) from error
        if content.get("exposure") is not None:
            raise ValueError("an instrument has its own exposure; leave out 'exposure'")
        values = instrument.image_values(content.get("pixel_scale"))
        for given, replaced in (
            ("psf", "psf_sigma"),
            ("psf_sigma", "psf"),
            ("background", "background_rms"),
        ):
            if content.get(given) is not None:
                values.pop(replaced, None)
        return values | content

    @model_validator(mode="after")
    def _check_background(self) -> ImageSpec:
        if self.background is not None:
            if self.background_rms:
                raise ValueError("give either 'background_rms' or 'background'")
            if (self.background.unit == "counts/s/pixel") != (self.exposure is not None):
                raise ValueError("'background' is in counts/s/pixel with 'exposure' and only then")
        return self

    @model_validator(mode="after")
    def _check_psf(self) -> ImageSpec:
        if self.psf is not None:
            if self.psf_sigma:
                raise ValueError("give either 'psf_sigma' or 'psf'")
            _ = self.kernel  # raises if the file has none
        return self

    @model_validator(mode="after")
    def _check_fit_per_image(self) -> ImageSpec:
        for name in self.fit_per_image or ():
            if not getattr(self, name):
                raise ValueError(f"'fit_per_image' names '{name}', which must be above 0 for that")
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (1, H, W) of an image."""
        return 1, self.pixels, self.pixels

    @cached_property
    def kernel(self) -> np.ndarray | None:
        """PSF kernel of the file (h, w) with sum 1; None for a Gaussian PSF."""
        if self.psf is None:
            return None
        kernel = self.psf.read()
        if kernel.ndim != 2 or not (kernel.shape[0] % 2 and kernel.shape[1] % 2):
            raise ValueError(f"{self.psf.file}: must have two odd sides, not {kernel.shape}")
        if max(kernel.shape) > MAX_PSF_PIXELS or kernel.sum() <= 0:
            raise ValueError(
                f"{self.psf.file}: must be at most {MAX_PSF_PIXELS} px and sum above 0"
            )
        if kernel.min() < 0:
            raise ValueError(f"{self.psf.file}: must not be negative; set negative values to 0")
        return kernel / kernel.sum()

    @property
    def psf_fwhm(self) -> float:
        """Full width at half maximum of the PSF, arcsec; 0 without a PSF.

        For a kernel: the diameter of a circle with the area in which the kernel exceeds half of its
        maximum.
        """
        if self.kernel is None:
            return FWHM_PER_SIGMA * self.psf_sigma
        above = int((self.kernel >= self.kernel.max() / 2).sum())
        return 2 * math.sqrt(above / math.pi) * self.pixel_scale


def list_instruments() -> list[str]:
    """Return the names of the instruments that come with the package."""
    return list_resources(FOLDER)


def load_instrument(name: str | Path) -> Instrument:
    """Load an instrument by name, or from a user's own YAML file.

    Raises:
        UsageError: unknown name.
        ConfigError: the file is missing or invalid; the key, its value and range are named.

    Example:
        >>> load_instrument("euclid_vis").pixel_scale.value
        0.1
    """
    return load_yaml_model(FOLDER, Instrument, name)


def instrument_text(name: str | Path) -> str:
    """Return the YAML text of an instrument, with comments.

    Raises:
        UsageError, ConfigError: as `load_instrument`.
    """
    return read_yaml_text(FOLDER, Instrument, name)
