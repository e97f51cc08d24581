"""Subcommand that fits lens models: fit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from halometry.cli.app import DeviceOption, FilesArgument, subcommand
from halometry.cli.output import out_console, print_line
from halometry.errors import UsageError

PANEL = "Apply"


@subcommand(PANEL, "halometry fit image.npy --preset common_test_1 --vortex --out fits")
def fit(
    files: FilesArgument,
    preset: Annotated[str, typer.Option(help="Preset of the images: name or YAML file.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for fits.csv, fits.json and figures.")
    ] = None,
    vortex: Annotated[
        bool, typer.Option("--vortex", help="Add a vortex (a straight line of mass).")
    ] = False,
    subhalos: Annotated[int, typer.Option(help="Number of point masses to add.")] = 0,
    subhalo_method: Annotated[
        Literal["greedy", "mcmc"] | None,
        typer.Option(
            help="Add as many point masses as the data support (greedy), or sample the posterior of"
            " all subhalos (mcmc)."
        ),
    ] = None,
    free: Annotated[
        list[str] | None,
        typer.Option(help="Fit this parameter too, though the preset holds it constant."),
    ] = None,
    figures: Annotated[bool, typer.Option(help="Draw data, model and residuals.")] = True,
    device: DeviceOption = "auto",
    mass_map: Annotated[
        bool, typer.Option("--mass-map", help="Map the mass that explains the residuals.")
    ] = False,
) -> None:
    """Fit lens, shear and source of images by maximum likelihood, with errors."""
    from halometry.lensfit.command import fit_lens
    from halometry.lensfit.tables import print_fits

    if mass_map and out is None:
        raise UsageError("--mass-map: needs --out FOLDER, where the maps are written")
    results = fit_lens(
        files,
        preset,
        out=out,
        vortex=vortex,
        subhalos=subhalos,
        subhalo_method=subhalo_method,
        free=free or (),
        figures=figures,
        device=device,
        mass_map=mass_map,
    )
    if not print_fits(results, out_console):
        raise typer.Exit(1)
    if out is not None:
        print_line(f"fits -> {out}")
