"""Function `fit_lens`, and the command `fit`: fit images of files and folders one by one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from halometry import __version__
from halometry.datasets.inputs import ImageInput, read_inputs
from halometry.datasets.readers import Image
from halometry.errors import ReadError
from halometry.io import atomic_write, check_writable
from halometry.lensfit import Fit, FitResult, Fitter, SubhaloMethod, check_substructure
from halometry.lensfit.figure import FitPanel, fit_figure
from halometry.lensfit.tables import write_fits
from halometry.log import track, with_progress
from halometry.parallel import find_device
from halometry.plotting import save_figure
from halometry.simulation import Preset, load_preset


@with_progress
def fit_lens(
    files: ImageInput,
    preset: str | Preset,
    *,
    out: str | Path | None = None,
    vortex: bool = False,
    subhalos: int = 0,
    subhalo_method: SubhaloMethod | None = None,
    free: Iterable[str] = (),
    figures: bool = True,
    device: str = "auto",
    mass_map: bool = False,
    progress: bool = True,
) -> list[FitResult]:
    """Find the most likely lens, shear and source of images, with errors.

    Args:
        files: images (.npy, FITS, pictures), datasets, or folders of these; or an array of one
            image, (H, W), or of several, (B, H, W).
        preset: describes the images: a name, a YAML file, or a preset. Parameters that it holds
            constant are held.
        out: folder for `fits.csv`, `fits.json` and one figure per image.
        vortex: add a vortex (a line of mass).
        subhalos: number of point masses to add, one after the other.
        subhalo_method: `greedy` adds as many point masses as the data support. `mcmc` samples the
            posterior of all subhalos and of their mass fraction, which takes most of a minute per
            image. Excludes `subhalos`.
        free: parameters to fit although the preset holds them, such as `psf_sigma`.
        figures: whether to draw figures, which takes one second per image.
        device: `auto`, `cpu`, or as PyTorch names it; `mcmc` runs on the CPU.
        mass_map: map the convergence that explains the residual, into one FITS file per image.
        progress: whether to show progress bars.

    Returns:
        One fit per image, in order; for an image that cannot be fitted, the error.

    Raises:
        DataError: there is no image at all.
        UsageError: an option is unknown, or two options exclude each other.
        StorageError: no room or no permission.

    Example:
        >>> fits = fit_lens("image.npy", "common_test_1", vortex=True)  # doctest: +SKIP
        >>> fits[0].parameter("vortex_fraction").value  # doctest: +SKIP
        0.0349
    """
    preset = preset if isinstance(preset, Preset) else load_preset(preset)
    if subhalo_method == "mcmc" and device == "auto":
        device = "cpu"
    check_substructure(
        preset, device, vortex=vortex, subhalos=subhalos, subhalo_method=subhalo_method
    )
    images, total = read_inputs(files, 1)
    fitter = Fitter(preset, free=free, device=find_device(device))
    folder = None if out is None else Path(out)
    if folder is not None:
        check_writable(folder / "fits.csv")
    results: list[FitResult] = []
    try:
        with track(f"fitting {fitter.preset.name}", total) as tracker:
            for image in images:
                result = _fit_or_error(
                    fitter,
                    image,
                    vortex=vortex,
                    subhalos=subhalos,
                    subhalo_method=subhalo_method,
                    mass_map=mass_map,
                )
                results.append(result)
                if folder is not None and isinstance(result, Fit):
                    figure_path = folder / figure_name(len(results), result)
                    if figures:
                        save_figure(fit_figure([fit_panel(result)]), figure_path)
                    if result.convergence is not None:
                        write_map(figure_path.with_suffix(".fits"), result)
                tracker.advance()
    finally:  # also after Ctrl-C: write the results so far
        if folder is not None and results:
            write_fits(folder, results)
    return results


def fit_panel(fit: Fit) -> FitPanel:
    """Return what the figure of a fit shows."""
    scene = fit.scene
    lines: list[tuple[float, float, float, float]] = []
    if float(scene.vortex_mass[0]) > 0:
        x, y, length, angle = (
            float(v[0])
            for v in (scene.vortex_x, scene.vortex_y, scene.vortex_length, scene.vortex_angle)
        )
        dx, dy = length * np.cos(angle) / 2, length * np.sin(angle) / 2
        lines.append((x - dx, y - dy, x + dx, y + dy))
    subhalos = (scene.subhalo_x, scene.subhalo_y, scene.subhalo_radius, scene.subhalo_mass)
    points = zip(*(values[0].tolist() for values in subhalos), strict=True)
    posterior = fit.subhalo_posterior
    return FitPanel(
        title=Path(fit.path).name,
        data=fit.data,
        model=fit.model,
        residual=fit.residual,
        pixel_scale=fit.pixel_scale,
        reduced_chi2=fit.reduced_chi2,
        lines=lines,
        points=[] if posterior else [(x, y, r) for x, y, r, mass in points if mass > 0],
        mean_mass=None if posterior is None else posterior.mean_mass,
        convergence=fit.convergence,
    )


def write_map(path: Path, fit: Fit) -> None:
    """Write the convergence map of a fit as a FITS image; x and y are in arcsec from the lens.

    Raises:
        StorageError: no room or no permission.
    """
    from astropy.io import fits

    assert fit.convergence is not None
    side = len(fit.convergence)
    image = fits.PrimaryHDU(fit.convergence.astype(np.float32))
    cell = fit.pixel_scale * len(fit.data) / side
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
    image.header["HALOVERS"] = (__version__, "version of halometry")
    with atomic_write(path) as partial:
        image.writeto(partial)


def figure_name(number: int, fit: Fit) -> str:
    """Return the file name of a fit's figure.

    Args:
        number: of the image, from 1; it makes names unique.
        fit: of the image.
    """
    file, _, row = fit.path.partition("#")
    name = Path(file).stem
    return f"{number:04d}-{name}-{row}.png" if row else f"{number:04d}-{name}.png"


def _fit_or_error(
    fitter: Fitter,
    image: Image | ReadError,
    *,
    vortex: bool,
    subhalos: int,
    subhalo_method: SubhaloMethod | None,
    mass_map: bool,
) -> FitResult:
    """Fit an image, or return the error that prevents it."""
    if isinstance(image, ReadError):
        return image
    try:
        return fitter.fit(
            image,
            vortex=vortex,
            subhalos=subhalos,
            subhalo_method=subhalo_method,
            mass_map=mass_map,
        )
    except ReadError as error:
        return error
