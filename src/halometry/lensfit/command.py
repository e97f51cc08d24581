"""The verb `fit`: images of files and folders fitted one after the other, bad files included."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from torch import Tensor

from halometry.datasets.inputs import ImageInput, read_inputs
from halometry.datasets.readers import Image
from halometry.errors import ReadError, UsageError
from halometry.io import atomic_write, check_writable
from halometry.lensfit import Fit, Fitter, Number, check_subhalo_mcmc
from halometry.lensfit.figure import FitPanel, fit_figure
from halometry.lensfit.tables import FitResult, write_fits
from halometry.log import track
from halometry.parallel import find_device
from halometry.plotting import save_figure
from halometry.simulation import Preset, load_preset


def fit_lens(
    files: ImageInput,
    preset: str | Preset,
    out: str | Path | None = None,
    vortex: bool = False,
    subhalos: int | str = 0,
    free: Iterable[str] = (),
    figures: bool = True,
    device: str = "auto",
    mass_map: bool = False,
) -> list[FitResult]:
    """Find the most likely lens, shear and source of images, with errors.

    Args:
        files: images (.npy, FITS, pictures), stores, or folders of these; or an array of one
            image, (H, W), or of several, (B, H, W).
        preset: the recipe that the images follow: a name, a YAML file, or a preset. What it
            holds constant is held.
        out: a folder for `fits.csv`, `fits.json` and a figure an image.
        line: add a line of mass.
        subhalos: point masses to add, `auto` for as many as the data ask for, or `sampled` for
            the posterior of all of them and of their mass fraction, which takes most of a minute
            an image.
        free: parameters to fit though the preset holds them, such as `psf_sigma`.
        figures: whether to draw; a second an image.
        device: `auto`, `cpu`, or as PyTorch names it; subhalos are sampled on the CPU.
        mass_map: map the convergence that explains what the model leaves; into a FITS file an
            image.

    Returns:
        One fit a file, in order; for a file that cannot be used the error.

    Raises:
        DataError: there is no image at all.
        UsageError: an option that is not known.
        StorageError: no room or no permission.

    Example:
        >>> fits = fit("image.npy", "common_test_1", vortex=True)  # doctest: +SKIP
        >>> fits[0].estimate("vortex_fraction").value  # doctest: +SKIP
        0.0349
    """
    number = _number(subhalos)
    preset = preset if isinstance(preset, Preset) else load_preset(preset)
    if number == "sampled":
        device = "cpu" if device == "auto" else device
        check_subhalo_mcmc(preset, vortex, device)
    images, total = read_inputs(files, 1)
    fitter = Fitter(preset, free, find_device(device))
    folder = None if out is None else Path(out)
    if folder is not None:
        check_writable(folder / "fits.csv")
    answers: list[FitResult] = []
    try:
        with track(f"fitting {fitter.preset.name}", total) as progress:
            for image in images:
                answers.append(last := _one(fitter, image, vortex, number, mass_map))
                if folder is not None and isinstance(last, Fit):
                    picture = folder / figure_name(len(answers), last)
                    if figures:
                        save_figure(fit_figure([fit_panel(last)]), picture)
                    if last.convergence is not None:
                        write_map(picture.with_suffix(".fits"), last)
                progress.advance()
    finally:  # after Ctrl-C, what there is
        if folder is not None and answers:
            write_fits(folder, answers)
    return answers


def fit_panel(of: Fit) -> FitPanel:
    """A fit as its figure takes it."""
    scene = of.scene
    lines: list[tuple[float, float, float, float]] = []
    if float(scene.vortex_mass[0]) > 0:
        x, y, length, angle = (
            float(v[0])
            for v in (scene.vortex_x, scene.vortex_y, scene.vortex_length, scene.vortex_angle)
        )
        dx, dy = length * np.cos(angle) / 2, length * np.sin(angle) / 2
        lines.append((x - dx, y - dy, x + dx, y + dy))

    def listed(values: Tensor) -> list[float]:
        return [float(v) for v in values[0]]

    points = zip(
        listed(scene.subhalo_x),
        listed(scene.subhalo_y),
        listed(scene.subhalo_radius),
        listed(scene.subhalo_mass),
        strict=True,
    )
    return FitPanel(
        title=Path(of.path).name,
        data=of.data,
        model=of.model,
        residual=of.residual,
        pixel_scale=of.pixel_scale,
        reduced_chi2=of.reduced_chi2,
        lines=lines,
        points=[] if of.subhalo_posterior else [(x, y, r) for x, y, r, mass in points if mass > 0],
        mean_mass=None if of.subhalo_posterior is None else of.subhalo_posterior.mean_mass,
        convergence=of.convergence,
    )


def write_map(path: Path, of: Fit) -> None:
    """Write the convergence that a fit has mapped as a FITS image, x and y in arcsec from the lens.

    Raises:
        StorageError: no room or no permission.
    """
    from astropy.io import fits

    assert of.convergence is not None
    side = len(of.convergence)
    image = fits.PrimaryHDU(of.convergence.astype(np.float32))
    cell = of.pixel_scale * len(of.data) / side
    for axis, name in ((1, "X"), (2, "Y")):
        for key, value in {
            f"CTYPE{axis}": name,
            f"CUNIT{axis}": "arcsec",
            f"CDELT{axis}": cell,
            f"CRPIX{axis}": (side + 1) / 2,
            f"CRVAL{axis}": 0.0,
        }.items():
            image.header[key] = value
    image.header["OBJECT"] = "convergence"
    with atomic_write(path) as partial:
        image.writeto(partial)


def figure_name(number: int, of: Fit) -> str:
    """The picture of the n-th image; file names may be equal in different folders."""
    file, _, row = of.path.partition("#")
    name = Path(file).stem
    return f"{number:04d}-{name}-{row}.png" if row else f"{number:04d}-{name}.png"


def _one(
    fitter: Fitter, image: Image | ReadError, vortex: bool, subhalos: Number, mass_map: bool
) -> FitResult:
    if isinstance(image, ReadError):
        return image
    try:
        return fitter.fit(image, vortex, subhalos, mass_map)
    except ReadError as error:
        return error


def _number(subhalos: int | str) -> Number:
    """How many point masses were asked for."""
    if subhalos == "auto":
        return "auto"
    if subhalos == "sampled":
        return "sampled"
    try:
        number = int(subhalos)
    except ValueError:
        number = -1
    if not 0 <= number <= 50:
        raise UsageError(f"--subhalos {subhalos}: give a number from 0 to 50, 'auto', or 'sampled'")
    return number
