"""Fitter of single images: the most likely lens, shear, source and substructure."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property

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
from halometry.lensfit.starts import coarse_binning, distinct_optima, fit_linear
from halometry.lensfit.subhalos.posterior import SubhaloPosterior, sample_subhalos
from halometry.lensfit.substructure import (
    SubhaloMethod,
    add_subhalos,
    add_vortex,
    check_substructure,
    without_substructure,
)
from halometry.simulation import Preset, draw_scenes, load_preset
from halometry.simulation.render import limited_threads

START_SCENES = 1000  # drawn from the preset; a fit starts from those nearest to the image
COARSE_STARTS = 8  # at the coarse resolution
NATIVE_STARTS = 2  # at one ray per pixel: the best of the coarse optima
FIT_THREADS = 1  # the operations are too small to gain by more
MAX_START_AXIS_RATIO = 0.98  # of starts; at 1 the position angle is undefined


class Fitter:
    """Fitter of images of one preset.

    The scenes from which fits start are drawn and rendered once.

    Args:
        preset: a name, a YAML file, or a preset.
        free: parameters to fit although the preset holds them; names in
            `halometry.lensfit.parametrization.PARAMETER_BLOCKS`.
        device: as PyTorch names it.
        draws: number of scenes to choose starts from.
        seed: of the scenes, and of the Markov chains.

    Raises:
        UsageError: the sources are pictures; a name in `free` is unknown, or belongs to a part
            that the preset lacks.

    Example:
        >>> from halometry.simulation import load_preset, sample
        >>> preset = load_preset("demo_classification")
        >>> images, scene = sample(preset, seed=5, start=0, count=1)
        >>> image = Image(images[0].numpy(), None, "example")
        >>> fit = Fitter(preset, draws=200).fit(image)
        >>> radius = fit.parameter("einstein_radius")
        >>> abs(radius.value - float(scene.einstein_radius)) < 5 * radius.error
        True
    """

    def __init__(
        self,
        preset: str | Preset,
        *,
        free: Iterable[str] = (),
        device: str = "cpu",
        draws: int = START_SCENES,
        seed: int = 0,
    ) -> None:
        self.preset = preset if isinstance(preset, Preset) else load_preset(preset)
        if self.preset.source.picture is not None:
            raise UsageError(
                f"preset {self.preset.name}: its sources are pictures; fit takes sources with a"
                " Sersic profile"
            )
        self.device, self.seed = device, seed
        scenes = draw_scenes(without_substructure(self.preset), seed, 0, draws)
        self.scenes = scenes.to(device, torch.float64)
        template = self.scenes.rows(slice(0, 1))
        self.parametrization = build_parametrization(self.preset, template, free)
        spec = self.preset.image
        self.full = Resolution(self.preset, 1)
        self.native = Resolution(with_larger_pixels(self.preset, 1, 1), 1)
        binning = coarse_binning(spec.pixels, spec.pixel_scale)
        self.coarse = Resolution(with_larger_pixels(self.preset, binning, 1), binning)
        with torch.no_grad():
            theta = self._coordinates(self.parametrization)
            self.scene_images = self.coarse.model(self.parametrization).expected(theta)

    def fit(
        self,
        image: Image,
        *,
        vortex: bool = False,
        subhalos: int = 0,
        subhalo_method: SubhaloMethod | None = None,
        mass_map: bool = False,
    ) -> Fit:
        """Fit one image.

        Args:
            image: of one channel and of the preset's size.
            vortex: add a vortex (a line of mass).
            subhalos: number of point masses to add, one after the other.
            subhalo_method: `greedy` adds as many point masses as the data support; `mcmc` samples
                the posterior of all subhalos, see `sample_subhalos`. Excludes `subhalos`.
            mass_map: map the mass that explains the residual, see `MassMapSolver`.

        Raises:
            ReadError: the image does not have the preset's shape, or holds no counts, which `mcmc`
                needs.
            UsageError: see `check_substructure`; a mass map is asked for, and the preset has no
                substructure.
        """
        check_substructure(
            self.preset,
            self.device,
            vortex=vortex,
            subhalos=subhalos,
            subhalo_method=subhalo_method,
        )
        mean_square_mass = self.mean_square_mass if mass_map else None  # may raise: before the fit
        begin = time.perf_counter()
        data = self.prepare(image)
        if subhalo_method == "mcmc" and data.sigma is not None:
            raise ReadError(
                image.path,
                "its pixels are no counts, nor counts that were scaled, so that its noise is not"
                " known well enough to sample subhalos; give the counts, or use"
                " --subhalo-method greedy",
            )
        with torch.no_grad(), limited_threads(FIT_THREADS):
            data, smooth, agreeing_starts = self._fit_smooth(data)
            optimum, gains = smooth, []
            posterior: SubhaloPosterior | None = None
            if vortex:
                optimum = add_vortex(self.full, self.native, data, optimum)
                gains.append(float(smooth.deviance - optimum.deviance))
            if subhalo_method == "mcmc":
                optimum, posterior = sample_subhalos(self.full, data, optimum, self.seed)
            elif subhalos or subhalo_method == "greedy":
                optimum, more = add_subhalos(
                    self.full, self.native, data, optimum, subhalos or None
                )
                gains += more
            updated = data.with_best_offset(optimum.expected[0], 1)
            if updated.offset != data.offset:
                data = updated
                smooth, optimum = (self._refit(data, each) for each in (smooth, optimum))
            diagnostics = FitDiagnostics(
                delta_2lnl=float(smooth.deviance - optimum.deviance),
                delta_2lnl_steps=tuple(gains),
                agreeing_starts=agreeing_starts,
                seconds=time.perf_counter() - begin,
            )
            fit = build_fit(
                image.path,
                self.preset,
                optimum,
                data,
                diagnostics=diagnostics,
                posterior=posterior,
            )
            if mean_square_mass is None:
                return fit
            convergence = self._map_convergence(optimum, data, mean_square_mass)
            return replace(fit, convergence=convergence.cpu().numpy())

    def _map_convergence(self, optimum: Optimum, data: FitData, mean_square_mass: Tensor) -> Tensor:
        """Compute the convergence (h, w) that explains the residual of an optimum."""
        solver = MassMapSolver(self.preset, optimum.parametrization, mean_square_mass)
        mass = solver.solve(optimum.theta[:1], data.likelihood(solver.binning)).mass[0]
        scene = optimum.parametrization.scene(optimum.theta[:1])
        radius = float(scene.einstein_radius[0])
        return mass * (math.pi * radius**2 / solver.cell_size**2)

    @cached_property
    def mean_square_mass(self) -> Tensor:
        """Prior variance of mass maps, see `compute_mean_square_mass`."""
        return compute_mean_square_mass(self.preset)

    def prepare(self, image: Image) -> FitData:
        """Return the data of an image.

        Raises:
            ReadError: the image does not have the preset's shape, or is constant.
        """
        self.check_image(image)
        return prepare_data(recover_counts(image), self.preset.image, self.device)

    def fit_smooth(self, data: FitData) -> tuple[FitData, Optimum]:
        """Fit a lens without substructure.

        Returns:
            The data with the count offset that was found, and the optimum.
        """
        with torch.no_grad(), limited_threads(FIT_THREADS):
            data, optimum, _ = self._fit_smooth(data)
        return data, optimum

    def deviance(self, fit: Fit, theta: Tensor) -> float:
        """Compute -2 ln L of other coordinates (P,) of a fitted image, comparable to the fit's."""
        values = torch.from_numpy(fit.data).to(theta)
        with torch.no_grad():
            expected = self.full.model(fit.parametrization).expected(theta[None])
        return float(PoissonLikelihood(values.flatten(), fit.gaussian_variance).deviance(expected))

    def check_image(self, image: Image) -> None:
        """Check that an image can be fitted.

        Raises:
            ReadError: the image does not have the preset's shape, or is constant.
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

    def _fit_smooth(self, data: FitData) -> tuple[FitData, Optimum, int]:
        """Fit a lens without substructure.

        Returns:
            The data with the count offset that was found, the optimum, and how many starts reached
            it at the coarse resolution.
        """
        if len(data.offsets) > 1 and "sky" in self.parametrization.names:
            # The sky and the offset are degenerate: find the offset with the preset's sky.
            data, *_ = self._optimize(data, self.parametrization.without("sky"))
            data = replace(data, offsets=range(data.offset, data.offset + 1))
        parametrization = self.parametrization
        if data.sigma is not None:
            # These parameters are degenerate with the unit of the pixels.
            parametrization = parametrization.without("source_brightness", "sky", "exposure")
            parametrization = parametrization.with_blocks(pixel_unit_block())
        return self._optimize(data, parametrization)

    def _optimize(
        self, data: FitData, parametrization: Parametrization
    ) -> tuple[FitData, Optimum, int]:
        """Fit at the coarse resolution, then with one ray per pixel, then at full resolution.

        Returns:
            As `_fit_smooth`.
        """
        theta = self._select_starts(data, parametrization)
        coarse, likelihood = (
            self.coarse.model(parametrization),
            data.likelihood(self.coarse.binning),
        )
        optimum = maximize_likelihood(coarse, likelihood, theta, iterations=15)
        best = optimum.best()
        data = self._with_noise(data, best)
        data = data.with_best_offset(best.expected[0], self.coarse.binning)
        agreeing_starts = int((optimum.deviance < best.deviance + 1).sum())
        theta = distinct_optima(optimum, NATIVE_STARTS)
        native, likelihood = self.native.model(parametrization), data.likelihood(1)
        optimum = maximize_likelihood(native, likelihood, theta, iterations=10).best()
        data = data.with_best_offset(optimum.expected[0], 1)
        full, likelihood = self.full.model(parametrization), data.likelihood(1)
        optimum = maximize_likelihood(full, likelihood, optimum.theta, iterations=12)
        updated = data.with_best_offset(optimum.expected[0], 1)
        if updated.offset != data.offset:
            data = updated
            optimum = self._refit(data, optimum)
        return data, optimum, agreeing_starts

    def _refit(self, data: FitData, optimum: Optimum) -> Optimum:
        """Fit again at full resolution, from an optimum on."""
        model = self.full.model(optimum.parametrization)
        return maximize_likelihood(model, data.likelihood(1), optimum.theta)

    def _with_noise(self, data: FitData, optimum: Optimum) -> FitData:
        """Return the data with the Gaussian noise of the fitted exposure time."""
        spec = self.preset.image
        if data.sigma is not None or spec.exposure is None or spec.background_rms == 0:
            return data
        exposure = float(optimum.parametrization.scene(optimum.theta[:1]).exposure[0])
        return replace(data, gaussian_variance=(spec.background_rms * exposure) ** 2)

    def _select_starts(self, data: FitData, parametrization: Parametrization) -> Tensor:
        """Return the coordinates of the drawn scenes nearest to an image (`COARSE_STARTS`, P)."""
        likelihood, names = data.likelihood(self.coarse.binning), set(parametrization.names)
        if isinstance(likelihood, GaussianLikelihood):
            unit, zero, squares = fit_linear(self.scene_images, likelihood.data)
            values = {"unit": unit, "zero": zero}
            return self._coordinates(parametrization, values)[squares.argsort()[:COARSE_STARTS]]
        light = {"source_brightness"}
        if self.preset.lens_light is not None:
            light.add("lens_light_brightness")
        # The negative logarithm of the Poisson likelihood, up to a constant of the data.
        if not light <= names:
            loss = self.scene_images.sum(dim=1) - self._log_scene_images @ likelihood.data
            return self._coordinates(parametrization)[loss.argsort()[:COARSE_STARTS]]
        images, values = self._match_brightness(likelihood.data, "exposure" in names)
        loss = images.sum(dim=1) - images.log() @ likelihood.data
        return self._coordinates(parametrization, values)[loss.argsort()[:COARSE_STARTS]]

    @cached_property
    def _log_scene_images(self) -> Tensor:
        return self.scene_images.log()

    def _match_brightness(
        self, data: Tensor, fit_exposure: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Scale all light of each drawn scene to match an image.

        Args:
            data: the coarse image (N,).
            fit_exposure: match the sky by the exposure time, too.

        Returns:
            The coarse images of the scaled scenes (B, N), and the new values of their fields.
        """
        scenes, area = self.scenes, self.coarse.binning**2
        sky = self.preset.image.sky * area
        light = self.scene_images - (sky * scenes.exposure)[:, None]
        if fit_exposure and sky:
            factor, level, _ = fit_linear(light, data)
            low, high = scenes.exposure.aminmax()
            exposure = (level / sky).clamp(low, high)
        else:
            factor = ((light @ (data - sky)) / (light**2).sum(dim=1)).clamp_min(MIN_POSITIVE)
            exposure = scenes.exposure
        images = factor[:, None] * light + (sky * exposure)[:, None]
        brightening = factor * scenes.exposure / exposure
        values = {
            f"{component}_brightness": brightening * getattr(scenes, f"{component}_brightness")
            for component in ("source", "lens_light")
        }
        return images.clamp_min(MIN_EXPECTED_COUNTS), values | {"exposure": exposure}

    def _coordinates(
        self, parametrization: Parametrization, values: dict[str, Tensor] | None = None
    ) -> Tensor:
        """Return the coordinates (B, P) of the drawn scenes.

        Args:
            parametrization: of the coordinates.
            values: fields (B,) that replace those of the scenes.
        """
        replaced, drawn = values or {}, scene_values(self.preset, self.scenes)

        def get(name: str) -> Tensor:
            if name in replaced:
                return replaced[name]
            value = drawn(name)
            if name.endswith("axis_ratio"):
                return value.clamp_max(MAX_START_AXIS_RATIO)
            return value.clamp_min(MIN_EXPECTED_COUNTS) if name in INSTRUMENT_UNITS else value

        return parametrization.coordinates(get)
