"""Verbs that take the lens away: the fit of an image, and maps of mass for networks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from halometry.cli.app import DeviceOption, WorkersOption, app, out_console, processes, tell
from halometry.errors import UsageError


@app.command()
def fit(
    files: Annotated[list[Path], typer.Argument(help="Images, stores, or folders of these.")],
    preset: Annotated[str, typer.Option(help="What they are like: a name or a YAML file.")],
    out: Annotated[
        Path | None, typer.Option(help="A folder for fits.csv, fits.json and figures.")
    ] = None,
    vortex: Annotated[
        bool, typer.Option("--vortex", help="Add a vortex (a line of mass) to the model.")
    ] = False,
    subhalos: Annotated[
        str, typer.Option(help="Point masses to add: a number, auto, or sampled: all, by the laws.")
    ] = "0",
    free: Annotated[
        list[str] | None, typer.Option(help="Fit this too, though the preset holds it.")
    ] = None,
    figures: Annotated[bool, typer.Option(help="Draw data, model and residuals.")] = True,
    device: DeviceOption = "auto",
    map_: Annotated[
        bool, typer.Option("--map", help="Map the mass that explains what the model leaves.")
    ] = False,
) -> None:
    """Find the most likely lens, shear and source of images, with errors."""
    from halometry.lensfit.command import fit_lens as run
    from halometry.lensfit.tables import print_fits

    if map_ and out is None:
        raise UsageError("--map: say with --out FOLDER where the maps are to be written")
    answers = run(files, preset, out, vortex, subhalos, free or (), figures, device, map_)
    if not print_fits(answers, out_console):
        raise typer.Exit(1)
    if out is not None:
        tell(f"fits -> {out}")


@app.command("map")
def map_(
    data: Annotated[Path, typer.Argument(help="A store, or a folder of labeled images.")],
    out: Annotated[Path, typer.Option(help="The store to write (HDF5).")],
    preset: Annotated[
        str | None,
        typer.Option(help="What they are like, if the set does not say: a name or a YAML file."),
    ] = None,
    workers: WorkersOption = "auto",
    blind: Annotated[
        bool, typer.Option("--blind", help="Do not begin at the true lens of simulated images.")
    ] = False,
    overwrite: Annotated[bool, typer.Option(help="Remove a set that is there.")] = False,
) -> None:
    """Make a set in which networks see what a smooth lens leaves, and the mass behind it."""
    from halometry.datasets.shards import shard_folder
    from halometry.massmaps.dataset import map_mass

    made = map_mass(
        data,
        out,
        preset=preset,
        workers=processes(workers),
        no_truth_init=blind,
        overwrite=overwrite,
    )
    tell(f"mapped images -> {made}, with {shard_folder(made).name}/ beside it")
