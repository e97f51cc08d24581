"""Distribution shifts: presets with one changed property of noise, detector, lens or source.

A shifted preset draws the same scenes from the same random streams, with one parameter multiplied
by a factor. The noise uses the same random numbers. Images of two factors therefore differ by the
shift only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from halometry.config import validate
from halometry.errors import UsageError, did_you_mean
from halometry.simulation.config import LensLight, Source
from halometry.simulation.distributions import Quantity
from halometry.simulation.preset import Preset

Apply = Callable[[Preset, float], Preset | None]
# Lens light that is added to presets without any, as in the preset `hackathon_2020`.
ADDED_LIGHT_SERSIC_INDEX = 2.5
ADDED_LIGHT_RADIUS = 0.5  # arcsec


@dataclass(frozen=True)
class Shift:
    """A distribution shift: a property of presets that is multiplied by factors.

    Attributes:
        label: name of the property in tables and figures.
        factors: factors to evaluate, with `unchanged_at` among them.
        apply: computes the shifted preset; returns None if a preset does not have the property.
        unchanged_at: factor that leaves the preset unchanged.
    """

    label: str
    factors: tuple[float, ...]
    apply: Apply
    unchanged_at: float = 1.0


def sky(preset: Preset, factor: float) -> Preset | None:
    """Multiply the counts of the sky, and with them its Poisson noise."""
    spec = preset.image
    return _with_image(preset, sky=factor * spec.sky) if spec.sky else None


def background(preset: Preset, factor: float) -> Preset | None:
    """Multiply the Gaussian noise."""
    spec = preset.image
    if spec.background is not None:
        return _with_image(preset, background=scale_quantity(spec.background, factor))
    rms = factor * spec.background_rms
    return _with_image(preset, background_rms=rms) if rms else None


def exposure(preset: Preset, factor: float) -> Preset:
    """Multiply the exposure time, and with it all counts.

    A Gaussian background that is not a rate does not change.
    """
    spec = preset.image
    if spec.exposure is not None:
        return _with_image(preset, exposure=scale_quantity(spec.exposure, factor))
    changed = _with_image(_scale_all_brightness(preset, factor), sky=factor * spec.sky)
    if spec.zero_point is None:
        return changed
    return _with_image(changed, zero_point=spec.zero_point + 2.5 * math.log10(factor))


def psf(preset: Preset, factor: float) -> Preset | None:
    """Multiply the width of a Gaussian point spread function."""
    sigma = preset.image.psf_sigma
    return _with_image(preset, psf_sigma=factor * sigma) if sigma else None


def pixel_scale(preset: Preset, factor: float) -> Preset | None:
    """Multiply the pixel scale; counts per pixel of light and sky scale with the pixels' area."""
    spec = preset.image
    if spec.psf is not None:  # a kernel is sampled at the pixel scale
        return None
    return _with_image(
        _scale_all_brightness(preset, factor**2),
        pixel_scale=factor * spec.pixel_scale,
        sky=factor**2 * spec.sky,
    )


def shear(preset: Preset, factor: float) -> Preset | None:
    """Multiply the external shear."""
    if preset.lens.shear.support[1] == 0:
        return None
    lens = preset.lens.model_copy(update={"shear": scale_quantity(preset.lens.shear, factor)})
    return preset.model_copy(update={"lens": lens})


def source_size(preset: Preset, factor: float) -> Preset:
    """Multiply the radius of the source at constant total light."""
    changes: dict[str, Any] = {"radius": scale_quantity(preset.source.radius, factor)}
    if preset.source.brightness is not None:
        changes["brightness"] = scale_quantity(preset.source.brightness, factor**-2)
    return preset.model_copy(update={"source": preset.source.model_copy(update=changes)})


def lens_light(preset: Preset, factor: float) -> Preset | None:
    """Multiply the light of the lens galaxy."""
    if preset.lens_light is None:
        return None
    return preset.model_copy(update={"lens_light": _scale_brightness(preset.lens_light, factor)})


def added_lens_light(preset: Preset, factor: float) -> Preset | None:
    """Add the light of a lens galaxy, with a brightness of `factor` times that of the source.

    It is a Sersic profile with the shape of the lens. Its parameters are constants, so that all
    other parameters of a scene are drawn as before. Presets with lens light return None.
    """
    brightness = preset.source.brightness
    if preset.lens_light is not None or brightness is None:
        return None
    if factor == 0:
        return preset
    added = factor * sum(brightness.support) / 2
    light = LensLight(
        sersic_index=Quantity(value=ADDED_LIGHT_SERSIC_INDEX),
        radius=Quantity(value=ADDED_LIGHT_RADIUS, unit="arcsec"),
        brightness=Quantity(value=added, unit=brightness.unit),
    )
    return preset.model_copy(update={"lens_light": light})


SHIFTS = {
    "sky": Shift("sky", (0.25, 0.5, 1, 2, 4), sky),
    "background": Shift("Gaussian noise", (0.25, 0.5, 1, 2, 4), background),
    "exposure": Shift("exposure", (0.25, 0.5, 1, 2, 4), exposure),
    "psf": Shift("width of the PSF", (0.5, 0.75, 1, 1.5, 2), psf),
    "pixel_scale": Shift("pixel scale", (0.8, 0.9, 1, 1.1, 1.25), pixel_scale),
    "shear": Shift("shear", (0, 0.5, 1, 1.25, 1.5), shear),
    "source_size": Shift("size of the source", (0.5, 0.75, 1, 1.5, 2), source_size),
    "lens_light": Shift("light of the lens", (0.25, 0.5, 1, 2, 4), lens_light),
    "added_lens_light": Shift(
        "light of the lens / source's", (0, 0.01, 0.03, 0.1, 0.3), added_lens_light, unchanged_at=0
    ),
}


def shift_preset(preset: Preset, shift: str, factor: float) -> Preset | None:
    """Apply one of `SHIFTS` to a preset.

    Args:
        preset: preset to change.
        shift: name in `SHIFTS`.
        factor: factor on the property.

    Returns:
        The shifted preset; None if the preset does not have the property.

    Raises:
        UsageError: unknown shift, or a distribution that cannot be multiplied.
        ConfigError: the shifted parameter is out of its range.

    Example:
        >>> from halometry.simulation import load_preset
        >>> shift_preset(load_preset("common_test_1"), "sky", 2).image.sky
        20.0
    """
    if shift not in SHIFTS:
        raise UsageError(f"unknown shift '{shift}', {did_you_mean(shift, SHIFTS)}")
    changed = SHIFTS[shift].apply(preset, factor)
    if changed is None:
        return None
    content = changed.model_dump(exclude_none=True)  # JSON would drop the folders of files
    return validate(Preset, content, f"{preset.name}, {SHIFTS[shift].label} x {factor:g}")


def scale_quantity(quantity: Quantity, factor: float) -> Quantity:
    """Multiply a distribution: with the same random numbers, its draws are `factor` times larger.

    Raises:
        UsageError: the distribution is a Poisson distribution.
    """
    if quantity.poisson is not None:
        raise UsageError("a Poisson distribution cannot be multiplied by a factor; use another one")
    changes: dict[str, Any] = {}
    for key in ("value", "uniform_disk"):
        if (number := getattr(quantity, key)) is not None:
            changes[key] = factor * number
    for key in ("uniform", "log_uniform", "normal"):
        if (pair := getattr(quantity, key)) is not None:
            changes[key] = (factor * pair[0], factor * pair[1])
    for key, numbers in (
        ("truncated_normal", ("mean", "sigma", "low", "high")),
        ("log_normal", ("median", "low", "high")),
        ("power_law", ("low", "high")),
    ):
        if (inner := getattr(quantity, key)) is not None:
            update = {number: factor * getattr(inner, number) for number in numbers}
            changes[key] = inner.model_copy(update=update)
    return quantity.model_copy(update=changes)


def _add_to_magnitude(quantity: Quantity, offset: float) -> Quantity:
    """Add a constant to a distribution of magnitudes."""
    for key in ("value", "uniform", "normal"):
        value = getattr(quantity, key)
        if value is None:
            continue
        if key == "value":
            return quantity.model_copy(update={key: value + offset})
        second = value[1] + offset if key == "uniform" else value[1]
        return quantity.model_copy(update={key: (value[0] + offset, second)})
    raise UsageError("magnitudes can be shifted only as 'value', 'uniform' or 'normal'")


def _with_image(preset: Preset, **changes: Any) -> Preset:
    """Return the preset with changed values of its `image`."""
    return preset.model_copy(update={"image": preset.image.model_copy(update=changes)})


def _scale_all_brightness(preset: Preset, factor: float) -> Preset:
    """Multiply each brightness that is given in counts; magnitudes stay."""
    parts: dict[str, Any] = {}
    for name, part in (("source", preset.source), ("lens_light", preset.lens_light)):
        if part is not None and part.brightness is not None:
            parts[name] = _scale_brightness(part, factor)
    return preset.model_copy(update=parts)


def _scale_brightness(light: Source | LensLight, factor: float) -> Source | LensLight:
    """Multiply the light of a source or a lens galaxy, given as brightness or magnitude."""
    if light.brightness is not None:
        return light.model_copy(update={"brightness": scale_quantity(light.brightness, factor)})
    assert light.magnitude is not None
    magnitude = _add_to_magnitude(light.magnitude, -2.5 * math.log10(factor))
    return light.model_copy(update={"magnitude": magnitude})
