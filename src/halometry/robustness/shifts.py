"""Presets moved away from themselves, one thing at a time: noise, detector, lens, source, light.

A shifted preset draws the same scenes from the same streams, its one parameter multiplied, and
its noise is begun from the same numbers: images of two steps differ by the shift alone.
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

Change = Callable[[Preset, float], Preset | None]
# Of the light added where a preset has none: the hackathon's lens galaxies (see its preset).
ADDED_LIGHT_SERSIC_INDEX, ADDED_LIGHT_RADIUS = 2.5, 0.5


@dataclass(frozen=True)
class Shift:
    """One way to move away from a preset.

    Attributes:
        told: what is multiplied, for tables and figures.
        steps: factors, with the preset's own among them.
        change: a preset's neighbor at a factor; None where the preset has no such thing.
        own: the factor that leaves the preset as it is.
    """

    label: str
    steps: tuple[float, ...]
    apply: Change
    identity: float = 1.0


def sky(preset: Preset, factor: float) -> Preset | None:
    """The sky's counts, and with them its Poisson noise."""
    spec = preset.image
    return _with_image(preset, sky=factor * spec.sky) if spec.sky else None


def background(preset: Preset, factor: float) -> Preset | None:
    """The Gaussian noise beside the Poisson noise."""
    spec = preset.image
    if spec.background is not None:
        return _with_image(preset, background=scale_quantity(spec.background, factor))
    rms = factor * spec.background_rms
    return _with_image(preset, background_rms=rms) if rms else None


def exposure(preset: Preset, factor: float) -> Preset:
    """The time, and with it all counts; the background is as it was where it is not a rate."""
    spec = preset.image
    if spec.exposure is not None:
        return _with_image(preset, exposure=scale_quantity(spec.exposure, factor))
    changed = _with_image(_scale_all_brightness(preset, factor), sky=factor * spec.sky)
    if spec.zero_point is None:
        return changed
    return _with_image(changed, zero_point=spec.zero_point + 2.5 * math.log10(factor))


def psf(preset: Preset, factor: float) -> Preset | None:
    """The width of a Gaussian point spread function."""
    sigma = preset.image.psf_sigma
    return _with_image(preset, psf_sigma=factor * sigma) if sigma else None


def pixel_scale(preset: Preset, factor: float) -> Preset | None:
    """Pixels on the sky, as many as before; light and sky a pixel go with their area."""
    spec = preset.image
    if spec.psf is not None:  # a kernel belongs to its pixels
        return None
    return _with_image(
        _scale_all_brightness(preset, factor**2),
        pixel_scale=factor * spec.pixel_scale,
        sky=factor**2 * spec.sky,
    )


def shear(preset: Preset, factor: float) -> Preset | None:
    """The external shear."""
    law = preset.lens.shear
    if law.support[1] == 0:
        return None
    lens = preset.lens.model_copy(update={"shear": scale_quantity(law, factor)})
    return preset.model_copy(update={"lens": lens})


def source_size(preset: Preset, factor: float) -> Preset:
    """The source's radius; its light in all stays, so that a larger one is fainter."""
    changes: dict[str, Any] = {"radius": scale_quantity(preset.source.radius, factor)}
    if preset.source.brightness is not None:
        changes["brightness"] = scale_quantity(preset.source.brightness, factor**-2)
    return preset.model_copy(update={"source": preset.source.model_copy(update=changes)})


def lens_light(preset: Preset, factor: float) -> Preset | None:
    """The light of the lens galaxy, where the preset has it."""
    if preset.lens_light is None:
        return None
    return preset.model_copy(update={"lens_light": _scale_brightness(preset.lens_light, factor)})


def added_lens_light(preset: Preset, factor: float) -> Preset | None:
    """Light of a lens galaxy where the preset has none, as a share of the source's brightness.

    A Sersic profile with the lens's shape; its numbers are fixed, so that all else of a scene is
    drawn as before.
    """
    brightness = preset.source.brightness
    if preset.lens_light is not None or brightness is None:
        return None
    if factor == 0:
        return preset
    middle = factor * sum(brightness.support) / 2
    light = LensLight(
        sersic_index=Quantity(value=ADDED_LIGHT_SERSIC_INDEX),
        radius=Quantity(value=ADDED_LIGHT_RADIUS, unit="arcsec"),
        brightness=Quantity(value=middle, unit=brightness.unit),
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
        "light of the lens / source's", (0, 0.01, 0.03, 0.1, 0.3), added_lens_light, identity=0
    ),
}


def shift_preset(preset: Preset, shift: str, factor: float) -> Preset | None:
    """A preset moved by one of `SHIFTS`.

    Returns:
        None where the preset has no such thing.

    Raises:
        UsageError: an unknown shift, or a parameter whose law cannot be multiplied.
        ConfigError: the factor leaves the parameter's range.

    Example:
        >>> from halometry.simulation import load_preset
        >>> shifted(load_preset("common_test_1"), "sky", 2).image.sky
        20.0
    """
    if shift not in SHIFTS:
        raise UsageError(f"unknown shift '{shift}', {did_you_mean(shift, SHIFTS)}")
    changed = SHIFTS[shift].apply(preset, factor)
    if changed is None:
        return None
    content = changed.model_dump(exclude_none=True)  # not as JSON, which has files without folders
    return validate(Preset, content, f"{preset.name}, {SHIFTS[shift].label} x {factor:g}")


def scale_quantity(law: Quantity, factor: float) -> Quantity:
    """A law whose draws are those of another, from the same stream, times a factor.

    Raises:
        UsageError: a Poisson law, which has none.
    """
    if law.poisson is not None:
        raise UsageError("a Poisson law times a factor is no Poisson law; give another")
    changes: dict[str, Any] = {}
    for key in ("value", "uniform_disk"):
        if (number := getattr(law, key)) is not None:
            changes[key] = factor * number
    for key in ("uniform", "log_uniform", "normal"):
        if (pair := getattr(law, key)) is not None:
            changes[key] = (factor * pair[0], factor * pair[1])
    for key, numbers in (
        ("truncated_normal", ("mean", "sigma", "low", "high")),
        ("log_normal", ("median", "low", "high")),
        ("power_law", ("low", "high")),
    ):
        if (inner := getattr(law, key)) is not None:
            update = {number: factor * getattr(inner, number) for number in numbers}
            changes[key] = inner.model_copy(update=update)
    return law.model_copy(update=changes)


def _add_to_magnitude(law: Quantity, by: float) -> Quantity:
    """A law of magnitudes moved by some."""
    for key in ("value", "uniform", "normal"):
        given = getattr(law, key)
        if given is None:
            continue
        if key == "value":
            return law.model_copy(update={key: given + by})
        ends = (given[0] + by, given[1] + by if key == "uniform" else given[1])
        return law.model_copy(update={key: ends})
    raise UsageError("only a value, a uniform or a normal law of magnitudes can be made brighter")


def _with_image(preset: Preset, **changes: Any) -> Preset:
    return preset.model_copy(update={"image": preset.image.model_copy(update=changes)})


def _scale_all_brightness(preset: Preset, factor: float) -> Preset:
    """All brightness that is given in counts a pixel, times a factor."""
    parts: dict[str, Any] = {}
    for name, part in (("source", preset.source), ("lens_light", preset.lens_light)):
        if part is not None and part.brightness is not None:
            parts[name] = _scale_brightness(part, factor)
    return preset.model_copy(update=parts)


def _scale_brightness(light: Source | LensLight, factor: float) -> Source | LensLight:
    if light.brightness is not None:
        return light.model_copy(update={"brightness": scale_quantity(light.brightness, factor)})
    assert light.magnitude is not None
    moved = _add_to_magnitude(light.magnitude, -2.5 * math.log10(factor))
    return light.model_copy(update={"magnitude": moved})
