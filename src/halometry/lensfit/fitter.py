"""The most likely lens, shear and source of one image, from several starts in one batch."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from halometry.datasets.readers import Image
from halometry.errors import ReadError, UsageError
from halometry.lensfit.likelihood import (
    MIN_EXPECTED_COUNTS,
    GaussianLikelihood,
    PoissonLikelihood,
    Resolution,
    with_larger_pixels,
)
from halometry.lensfit.mass_map import MassMapSolver, compute_mean_square_mass
from halometry.lensfit.observation import FitData, prepare_data, recover_counts
from halometry.lensfit.optimize import Optimum, maximize_likelihood
from halometry.lensfit.parameter_blocks import MIN_POSITIVE, pixel_unit_block
from halometry.lensfit.parametrization import (
    INSTRUMENT_UNITS,
    Parametrization,
    build_parametrization,
    scene_values,
)
from halometry.lensfit.result import Fit, FitDiagnostics, build_fit
from halometry.lensfit.subhalos.posterior import (
    SubhaloPosterior,
    check_subhalo_mcmc,
    sample_subhalos,
)
from halometry.lensfit.substructure import add_subhalos, add_vortex
from halometry.simulation import Preset, draw_scenes, load_preset
from halometry.simulation.render import limited_threads

START_SCENES = 1000  # scenes of the preset, of which an image's nearest are begun from
COARSE_STARTS = 8
NATIVE_STARTS = 2
MIN_COARSE_PIXELS = 40  # pixels along a side that a coarse image keeps
MAX_COARSE_PIXEL_ARCSEC = 0.2  # arcsec, of a coarse pixel
FIT_THREADS = 1  # of small operations, for which several only wait
MAX_START_AXIS_RATIO = (
    0.98  # axis ratio to begin from at most, where its direction still means something
)

Number = int | Literal["auto", "sampled"]  # of point masses to add


class Fitter:
    """Fits images of one preset; what they share (drawn scenes, rendered coarsely) is made once.

    Args:
        preset: a name, a YAML file, or a preset.
        free: parameters to fit though the preset holds them (`KNOWN` in `parameters`).
        device: as PyTorch names it.
        draws: scenes to choose starts from.
        seed: of these, and of the chains that sample subhalos.

    Raises:
        UsageError: sources are pictures; a name in `free` that is none, or of a part that the
            preset lacks.

    Example:
        >>> from halometry.simulation import load_preset, sample
        >>> preset = load_preset("demo_classification")
        >>> images, scene = sample(preset, seed=5, start=0, count=1)
        >>> image = Image(images[0].numpy(), None, "example")
        >>> fit = Fitter(preset, draws=200).fit(image)
        >>> radius = fit.estimate("einstein_radius")
        >>> abs(radius.value - float(scene.einstein_radius)) < 5 * radius.error
        True
    """

    def __init__(
        self,
        preset: str | Preset,
        free: Iterable[str] = (),
        device: str = "cpu",
        draws: int = START_SCENES,
        seed: int = 0,
    ) -> None:
        self.preset = preset if isinstance(preset, Preset) else load_preset(preset)
        if self.preset.source.picture is not None:
            raise UsageError(
                f"preset {self.preset.name}: fit takes sources with a Sersic profile, and its are"
                " pictures"
            )
        self.device, self.seed = device, seed
        self.scenes = draw_scenes(without_substructure(self.preset), seed, 0, draws).to(
            device, torch.float64
        )
        self.parametrization = build_parametrization(
            self.preset, self.scenes.rows(slice(0, 1)), free
        )
        spec = self.preset.image
        self.full = Resolution(self.preset, 1)
        self.native = Resolution(with_larger_pixels(self.preset, 1, 1), 1)
        binning = _coarse_binning(spec.pixels, spec.pixel_scale)
        self.coarse = Resolution(with_larger_pixels(self.preset, binning, 1), binning)
        with torch.no_grad():
            theta = self._coordinates(self.parametrization)
            self.scene_images = self.coarse.model(self.parametrization).expected(theta)

    def fit(
        self, image: Image, vortex: bool = False, subhalos: Number = 0, mass_map: bool = False
    ) -> Fit:
        """Fit one image.

        Args:
            image: of one channel and of the preset's size.
            line: add a line of mass.
            subhalos: how many point masses to add, `auto` for as many as the data ask for, or
                `sampled` for the posterior of all of them, see `sample_subhalos`.
            mass_map: map the mass that explains what all this leaves, see `Imager`.

        Raises:
            ReadError: the image is not of the preset's shape, or holds no counts, which sampling
                needs.
            UsageError: see `check_sampling`; a map is asked for, and the preset has no
                substructure.
        """
        if subhalos == "sampled":
            check_subhalo_mcmc(self.preset, vortex, self.device)
        allowed = self.mean_square_mass if mass_map else None  # refused before the work
        begin = time.perf_counter()
        data = self.prepare(image)
        if subhalos == "sampled" and data.sigma is not None:
            raise ReadError(
                image.path,
                "its pixels are no counts, nor counts that were scaled, so that its noise is not"
                " known well enough to sample subhalos; give the counts, or --subhalos auto",
            )
        with torch.no_grad(), limited_threads(FIT_THREADS):
            data, layout, optimum, starts = self._smooth_fit(data)
            bare, smooth, gains = layout, optimum, []
            sampled: SubhaloPosterior | None = None
            if vortex:
                layout, optimum = add_vortex(self.full, self.native, data, layout, optimum)
                gains.append(float(smooth.deviance - optimum.deviance))
            if subhalos == "sampled":
                layout, optimum, sampled = sample_subhalos(
                    self.full, data, layout, optimum, self.seed
                )
            elif subhalos != 0:
                number = None if subhalos == "auto" else subhalos
                layout, optimum, each = add_subhalos(
                    self.full, self.native, data, layout, optimum, number
                )
                gains += each
            settled = data.with_best_offset(optimum.expected[0], 1)
            if settled.offset != data.offset:
                data = settled
                smooth, optimum = (
                    maximize_likelihood(self.full.model(which), data.likelihood(1), one.theta)
                    for which, one in ((bare, smooth), (layout, optimum))
                )
            gain = float(smooth.deviance - optimum.deviance)
            taken = FitDiagnostics(gain, tuple(gains), starts, time.perf_counter() - begin)
            mapped = (
                None if allowed is None else self._map_convergence(layout, optimum, data, allowed)
            )
            return build_fit(image.path, self.preset, layout, optimum, data, taken, sampled, mapped)

    def _map_convergence(
        self, layout: Parametrization, optimum: Optimum, data: FitData, allowed: Tensor
    ) -> Tensor:
        """The convergence (h, w) that explains what a model leaves of an image."""
        imager = MassMapSolver(self.preset, layout, allowed)
        mass = imager.solve(optimum.theta[:1], data.likelihood(imager.binning)).mass[0]
        radius = float(layout.scene(optimum.theta[:1]).einstein_radius[0])
        return mass * (math.pi * radius**2 / imager.cell_size**2)

    @cached_property
    def mean_square_mass(self) -> Tensor:
        """How much mass a cell of a map may hold, see `mean_square_mass`."""
        return compute_mean_square_mass(self.preset)

    def prepare(self, image: Image) -> FitData:
        """An image as the likelihood takes it.

        Raises:
            ReadError: the image is not of the preset's shape.
        """
        self.check_image(image)
        return prepare_data(recover_counts(image), self.preset.image, self.device)

    def fit_smooth(self, data: FitData) -> tuple[FitData, Optimum]:
        """The best lens without substructure of an image, and the image with its lost count."""
        with torch.no_grad(), limited_threads(FIT_THREADS):
            data, _, optimum, _ = self._smooth_fit(data)
        return data, optimum

    def deviance(self, fit: Fit, theta: Tensor) -> float:
        """-2 ln L of other coordinates (P,) of a fitted image, on the scale of `fit.deviance`."""
        values = torch.from_numpy(fit.data).to(theta)
        with torch.no_grad():
            expected = self.full.model(fit.parametrization).expected(theta[None])
        return float(PoissonLikelihood(values.flatten(), fit.gaussian_variance).deviance(expected))

    def check_image(self, image: Image) -> None:
        """Whether an image can be fitted at all.

        Raises:
            ReadError: the image is not of the preset's shape.
        """
        shape, wanted = image.pixels.shape, self.preset.image.shape
        if float(np.ptp(image.pixels)) == 0:
            raise ReadError(image.path, "all its pixels are equal")
        if shape == wanted:
            return
        if shape[0] == 3:
            reason = "is a color image; fit takes one channel (give one band)"
        else:
            reason = (
                f"has {shape[1]} x {shape[2]} pixels, but images of preset {self.preset.name} have "
                f"{wanted[1]} x {wanted[2]}; choose another --preset, or a YAML file with this size"
            )
        raise ReadError(image.path, reason)

    def _smooth_fit(self, data: FitData) -> tuple[FitData, Parametrization, Optimum, int]:
        """The best optimum without substructure, and how many starts came to it."""
        if len(data.offsets) > 1 and "sky" in self.parametrization.names:
            # The sky and a lost constant look alike: the preset's sky tells the constant.
            data, *_ = self._optimize(data, self.parametrization.without("sky"))
            data = replace(data, offsets=range(data.offset, data.offset + 1))
        layout = self.parametrization
        if data.sigma is not None:
            # The unit is what all of these would change.
            layout = layout.without("source_brightness", "sky", "exposure").with_blocks(
                pixel_unit_block()
            )
        return self._optimize(data, layout)

    def _optimize(
        self, data: FitData, layout: Parametrization
    ) -> tuple[FitData, Parametrization, Optimum, int]:
        """From the drawn scenes by way of coarse images to full resolution."""
        theta = self._select_starts(data, layout)
        coarse = self.coarse.model(layout)
        optimum = maximize_likelihood(
            coarse, data.likelihood(self.coarse.binning), theta, iterations=15
        )
        best = optimum.best()
        data = self._with_noise(data, layout, best)
        data = data.with_best_offset(best.expected[0], self.coarse.binning)
        agreeing = int((optimum.deviance < best.deviance + 1).sum())
        theta = _distinct_optima(optimum, layout.steps.to(theta), NATIVE_STARTS)
        optimum = maximize_likelihood(
            self.native.model(layout), data.likelihood(1), theta, iterations=10
        ).best()
        data = data.with_best_offset(optimum.expected[0], 1)
        optimum = maximize_likelihood(
            self.full.model(layout), data.likelihood(1), optimum.theta, iterations=12
        )
        settled = data.with_best_offset(optimum.expected[0], 1)
        if settled.offset != data.offset:
            data = settled
            optimum = maximize_likelihood(
                self.full.model(layout), data.likelihood(1), optimum.theta
            )
        return data, layout, optimum, agreeing

    def _with_noise(self, data: FitData, layout: Parametrization, optimum: Optimum) -> FitData:
        """The same pixels, with the Gaussian noise of the exposure that was found."""
        spec = self.preset.image
        if data.sigma is not None or spec.exposure is None or spec.background_rms == 0:
            return data
        exposure = float(layout.scene(optimum.theta[:1]).exposure[0])
        return replace(data, gaussian_variance=(spec.background_rms * exposure) ** 2)

    def _select_starts(self, data: FitData, layout: Parametrization) -> Tensor:
        """The drawn scenes that are most like an image, as coordinates."""
        likelihood = data.likelihood(self.coarse.binning)
        if isinstance(likelihood, GaussianLikelihood):
            unit, zero, left = _fit_linear(self.scene_images, likelihood.data)
            values = {"unit": unit, "zero": zero}
            return self._coordinates(layout, values)[left.argsort()[:COARSE_STARTS]]
        light = {"source_brightness"}
        if self.preset.lens_light is not None:
            light.add("lens_light_brightness")
        if not light <= set(layout.names):
            total = self.scene_images.sum(dim=1) - self._log_scene_images @ likelihood.data
            return self._coordinates(layout)[total.argsort()[:COARSE_STARTS]]
        drawn, values = self._match_brightness(likelihood.data, "exposure" in layout.names)
        total = drawn.sum(dim=1) - drawn.log() @ likelihood.data
        return self._coordinates(layout, values)[total.argsort()[:COARSE_STARTS]]

    @cached_property
    def _log_scene_images(self) -> Tensor:
        return self.scene_images.log()

    def _match_brightness(
        self, data: Tensor, exposure_open: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The drawn scenes' coarse images with the light, and the exposure, that data ask for.

        All light of a scene is scaled as one.
        """
        scenes, area = self.scenes, self.coarse.binning**2
        sky = self.preset.image.sky * area
        light = self.scene_images - (sky * scenes.exposure)[:, None]
        if exposure_open and sky:
            unit, level, _ = _fit_linear(light, data)
            low, high = scenes.exposure.aminmax()
            exposure = (level / sky).clamp(low, high)
        else:
            unit = ((light @ (data - sky)) / (light**2).sum(dim=1)).clamp_min(MIN_POSITIVE)
            exposure = scenes.exposure
        drawn = unit[:, None] * light + (sky * exposure)[:, None]
        brighter = unit * scenes.exposure / exposure
        values = {
            f"{of}_brightness": brighter * getattr(scenes, f"{of}_brightness")
            for of in ("source", "lens_light")
        }
        return drawn.clamp_min(MIN_EXPECTED_COUNTS), values | {"exposure": exposure}

    def _coordinates(
        self, layout: Parametrization, more: dict[str, Tensor] | None = None
    ) -> Tensor:
        """Coordinates of the drawn scenes."""
        values, drawn = more or {}, scene_values(self.preset, self.scenes)

        def get(name: str) -> Tensor:
            if name in values:
                return values[name]
            found = drawn(name)
            if name.endswith("axis_ratio"):
                return found.clamp_max(MAX_START_AXIS_RATIO)
            return found.clamp_min(MIN_EXPECTED_COUNTS) if name in INSTRUMENT_UNITS else found

        return layout.coordinates(get)


def without_substructure(preset: Preset) -> Preset:
    """A preset of the same lenses without substructure."""
    none = dict.fromkeys(("subhalos", "halos", "vortex"))
    update = {"task": "classification", "classes": {"no": "no"}} | none
    return preset.model_copy(update=update)


def _coarse_binning(pixels: int, pixel_scale: float) -> int:
    """How many pixels go together in a coarse image: a divisor of its side."""
    fit = (b for b in range(1, 9) if pixels % b == 0 and pixels // b >= MIN_COARSE_PIXELS)
    return max((b for b in fit if b * pixel_scale <= MAX_COARSE_PIXEL_ARCSEC), default=1)


def _distinct_optima(optimum: Optimum, steps: Tensor, count: int) -> Tensor:
    """Coordinates of the best optima that are not the same one."""
    kept: list[Tensor] = []
    for theta in optimum.theta[optimum.deviance.argsort()]:
        if all(float(((theta - other) / steps).abs().max()) > 0.2 for other in kept):
            kept.append(theta)
        if len(kept) == count:
            break
    return torch.stack(kept)


def _fit_linear(model: Tensor, data: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Unit (positive), zero, and remaining sum of squares of data (N,) by each model (B, N)."""
    mean = model.mean(dim=1, keepdim=True)
    varied, d = model - mean, data - data.mean()
    unit = ((varied @ d) / (varied**2).sum(dim=1)).clamp_min(1e-12)
    zero = data.mean() - unit * mean[:, 0]
    return unit, zero, ((d - unit[:, None] * varied) ** 2).sum(dim=1)
