"""What subhalos do to an image, one at every place and of several masses, rendered beforehand.

The image is taken as the sum of their effects, and what lens, shear and source could do as well is
taken out. The likelihood of any number of subhalos then needs no rendering, only products of their
effects with one another and with the residual.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from halometry.lensfit.likelihood import Model
from halometry.lensfit.linear import project_out
from halometry.lensfit.observation import FitData
from halometry.lensfit.optimize import Optimum, covariance
from halometry.lensfit.subhalos.priors import SubhaloPrior
from halometry.simulation.lenses import SOFTENING, deflection
from halometry.simulation.light import source_light
from halometry.simulation.render import bin_pixels, convolve_psf, pixel_axes
from halometry.simulation.scene import Scene

GRID_SPACING_ARCSEC = 0.1  # arcsec, of the grid of places at which effects are rendered
MASS_RATIO = 4.0  # of neighboring masses at which they are
MAX_LINEAR_RADIUS_WIDTHS = (
    0.5  # Einstein radius over the width of a point's image: lighter ones act alike
)
MAX_BINNED_PIXEL_WIDTHS = (
    1.2  # pixels are binned in pairs where two are no wider than so many of these widths
)
MAX_INFORMATION_LOSS = (
    1e-2  # of what pixels know of where their light comes from: left out with the outer ones
)
REPLACE_DISTANCE_ARCSEC = 0.25  # arcsec within which one subhalo may be another that moved


@dataclass(frozen=True)
class LinearResponse:
    """What an image says of subhalos: effects at all places and masses, as products of theirs.

    Attributes:
        side: number of the place at each point (n, n) of a grid around the lens, or -1.
        masses: rendered ones (M,), shares of the halo's mass, rising.
        products: of the effects of a unit of mass, in units of the noise, what the lens could do
            taken out (K M, K M), place by place.
        pull: their products with the data less the fitted lens (K M,).
        followed: by how much the lens's coordinates go along with a unit of mass (P, K M).
    """

    grid_index: np.ndarray
    masses: np.ndarray
    products: np.ndarray
    projection: np.ndarray
    parameter_shifts: np.ndarray

    def interpolate(
        self, x: np.ndarray, y: np.ndarray, mass: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Subhalos (...) as sums of rendered effects: which ones and how much (..., 8).

        Bilinear in the place, linear in the logarithm of the mass.
        """
        reach = (len(self.grid_index) - 1) / 2
        column, row = x / GRID_SPACING_ARCSEC + reach, y / GRID_SPACING_ARCSEC + reach
        i, j = np.floor(row).astype(int), np.floor(column).astype(int)
        v, u = row - i, column - j
        corners = [self.grid_index[i + a, j + b] for a in (0, 1) for b in (0, 1)]
        shares = [(v if a else 1 - v) * (u if b else 1 - u) for a in (0, 1) for b in (0, 1)]
        many = len(self.masses)
        with np.errstate(divide="ignore"):
            level = np.log(mass / self.masses[0]) / math.log(MASS_RATIO)
        level = level.clip(0, many - 1)
        lower = np.minimum(level.astype(int), max(many - 2, 0))
        above = level - lower
        upper = np.minimum(lower + 1, many - 1)
        which = [corner * many + k for corner in corners for k in (lower, upper)]
        much = [mass * share * part for share in shares for part in (1 - above, above)]
        return np.stack(which, axis=-1), np.stack(much, axis=-1)


def compute_response(
    model: Model, data: FitData, optimum: Optimum, laws: SubhaloPrior
) -> LinearResponse:
    """Render one more subhalo at every place of a grid and of some masses, beside a fitted lens.

    Where the lens has a heavy subhalo close by already, the effect is that of one in its stead.

    Args:
        model: at full resolution; its layout's template may have subhalos.
        data: the image.
        optimum: one row, of this model.
        laws: for the places and masses.
    """
    scene = model.parametrization.scene(optimum.theta).to("cpu", torch.float32)
    window = _ImageWindow(model, data, optimum, scene)
    width = max(window.spec.psf_sigma, window.spec.pixel_scale)
    side, x, y = _grid(laws.max_radius)
    masses = [laws.max_fraction]
    while window.radius * masses[0] ** 0.5 > MAX_LINEAR_RADIUS_WIDTHS * width:
        masses.insert(0, masses[0] / MASS_RATIO)
    share = (scene.subhalo_mass[0] / scene.halo_mass).numpy()
    xs, ys = scene.subhalo_x[0].numpy(), scene.subhalo_y[0].numpy()
    heavy = [
        (mass, px, py)
        for mass, px, py in zip(share.tolist(), xs.tolist(), ys.tolist(), strict=True)
        if mass > masses[0] / MASS_RATIO
    ]
    bent = [window.deflection]
    bent += [window.deflection - mass * window.point_deflection(px, py) for mass, px, py in heavy]
    bare = [window.image(one) for one in bent]
    found = torch.empty(len(x), len(masses), bare[0].numel())
    for i, (px, py) in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
        away = [math.hypot(px - qx, py - qy) for _, qx, qy in heavy]
        stead = 1 + away.index(min(away)) if away and min(away) < REPLACE_DISTANCE_ARCSEC else 0
        more = window.point_deflection(px, py)
        for k, mass in enumerate(masses):
            found[i, k] = (window.image(bent[stead] + mass * more) - bare[stead]) / mass
    every = found.flatten(0, 1).div_(window.noise)
    uncertain = covariance(optimum.fisher[0], model.parametrization.steps.to(optimum.theta))
    followed = uncertain @ (window.derivatives @ every.mT).to(uncertain)
    left = project_out(every[None], window.derivatives[None])[0]
    effects = LinearResponse(
        side,
        np.array(masses),
        (left @ left.mT).numpy(),
        (left @ window.residual).double().numpy(),
        followed.numpy(),
    )
    which, much = effects.interpolate(xs[share > 0], ys[share > 0], share[share > 0])
    own = effects.products[:, which.ravel()] @ much.ravel()
    return replace(effects, projection=effects.projection + own)


class _ImageWindow:
    """The pixels of an image that tell of subhalos, and what they hold beside bent light.

    Args:
        model, data, optimum, scene: as `effects_of` has them.

    Attributes:
        radius: the Einstein radius, arcsec.
        bent: the lens's whole deflection of each ray (2, H, W), arcsec.
        noise, residual, derivatives: of n pixels, (n,), (n,) and (P, n), the last two in units of
            the first.
    """

    def __init__(self, model: Model, data: FitData, optimum: Optimum, scene: Scene) -> None:
        fields = model.parametrization.fields(optimum.theta)
        spec = model.preset.image
        if "psf_sigma" in fields:
            spec = spec.model_copy(update={"psf_sigma": float(fields["psf_sigma"][0])})
        self.scene, self.spec, likelihood = scene, spec, data.likelihood(1)
        self.radius = float(scene.einstein_radius[0])
        square = (-1, spec.pixels, spec.pixels)
        variance = (1 / likelihood.inverse_variance(optimum.expected[0])).view(square).float()
        derivatives = optimum.derivatives[0].view(square).float()
        at = model.parametrization.index("source_position")
        low, high = _box(derivatives[at : at + 2].square().sum(dim=0) / variance[0])
        box = (..., slice(low, high), slice(low, high))
        self.binning = 2 if 2 * spec.pixel_scale <= MAX_BINNED_PIXEL_WIDTHS * spec.psf_sigma else 1
        self.noise = self._binned(variance[box])[0].sqrt()
        off = (likelihood.data - optimum.expected[0]).view(square).float()
        self.residual = self._binned(off[box])[0] / self.noise
        self.derivatives = self._binned(derivatives[box]) / self.noise
        rays = slice(low * spec.supersampling, high * spec.supersampling)
        x, y = pixel_axes(spec, scene.einstein_radius)
        self.x, self.y = x[:, rays], y[rays]
        self.deflection = torch.cat(deflection(scene, self.x, self.y, model.preset.cosmology))

    def point_deflection(self, x: float, y: float) -> Tensor:
        """The deflection (2, H, W) by all of the halo's mass at a point."""
        dx, dy = self.x - x, self.y - y
        strength = self.radius**2 / (dx**2 + dy**2 + SOFTENING**2)
        return torch.stack([strength * dx, strength * dy])

    def image(self, bent: Tensor) -> Tensor:
        """Counts of the source's light through a deflection (2, H, W): (n,)."""
        light = source_light(self.scene, self.x - bent[:1], self.y - bent[1:], None)
        light = bin_pixels(light, self.spec.supersampling)
        return self._binned(self.scene.exposure * convolve_psf(light[:, None], self.spec)[:, 0])[0]

    def _binned(self, pictures: Tensor) -> Tensor:
        """Sums over a few pixels each: (B, H, W) to (B, n)."""
        pooled = functional.avg_pool2d(pictures[None], self.binning)[0]
        return pooled.flatten(1) * self.binning**2


def _box(information: Tensor) -> tuple[int, int]:
    """The smallest square around the middle of an image (H, H) outside which next to none is."""
    size = len(information)
    for half in range(size // 2, 1, -1):
        inside = slice(size // 2 - half + 1, size - (size // 2 - half + 1))
        if float(information[inside, inside].sum()) < (1 - MAX_INFORMATION_LOSS) * float(
            information.sum()
        ):
            break
    return size // 2 - half, size - (size // 2 - half)


def _grid(reach: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The number of each point (n, n) of a grid, or -1, and where they are (K,), arcsec.

    All four points around any place within reach are among them.
    """
    steps = math.ceil(reach / GRID_SPACING_ARCSEC) + 1
    row = np.arange(-steps, steps + 1) * GRID_SPACING_ARCSEC
    y, x = np.meshgrid(row, row, indexing="ij")
    near = np.hypot(x, y) <= reach + 1.5 * GRID_SPACING_ARCSEC
    side = np.full(x.shape, -1)
    side[near] = np.arange(near.sum())
    return side, x[near], y[near]
