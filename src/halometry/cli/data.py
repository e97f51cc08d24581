"""Subcommands that make and show datasets: simulate, map, show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from halometry.cli.app import DeviceOption, SeedOption, WorkersOption, parse_workers, subcommand
from halometry.cli.output import print_line

PANEL = "Data"


@subcommand(PANEL, "halometry simulate common_test_1 --count 3000 --seed 1 --out lenses.h5")
def simulate(
    preset: Annotated[str, typer.Argument(help="Name of a preset, or a YAML file.")],
    out: Annotated[Path, typer.Option(help="HDF5 dataset to write.")],
    count: Annotated[int, typer.Option(min=1, help="Number of images.")] = 1000,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    n_test: Annotated[
        int, typer.Option(min=0, help="Number of images at the end that form the test set.")
    ] = 0,
    workers: WorkersOption = "auto",
    shard_size: Annotated[
        int | None, typer.Option(min=1, help="Number of images in one file (a shard).")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler whose workers are used.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing dataset.")] = False,
) -> None:
    """Simulate labeled images. Repeat the command to continue after a stop."""
    from halometry.datasets.generate import simulate as simulate_dataset
    from halometry.datasets.shards import shard_folder

    path = simulate_dataset(
        preset,
        count,
        seed=seed,
        out=out,
        device=device,
        n_test=n_test,
        overwrite=overwrite,
        workers=parse_workers(workers),
        shard_size=shard_size,
        scheduler=scheduler,
    )
    print_line(f"{count:,} images -> {path}, with {shard_folder(path).name}/ beside it")


@subcommand(PANEL, "halometry map lenses.h5 --out mapped.h5", name="map")
def map_(
    data: Annotated[Path, typer.Argument(help="HDF5 dataset or folder of labeled images.")],
    out: Annotated[Path, typer.Option(help="HDF5 dataset to write.")],
    preset: Annotated[
        str | None,
        typer.Option(help="Preset of the images (name or YAML file), if the dataset has none."),
    ] = None,
    workers: WorkersOption = "auto",
    no_truth_init: Annotated[
        bool,
        typer.Option(
            "--no-truth-init", help="Do not start the fit at the true lens of simulated images."
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing dataset.")] = False,
) -> None:
    """Fit a smooth lens to each image; write image, residual and mass map as channels."""
    from halometry.datasets.shards import shard_folder
    from halometry.massmaps.dataset import map_mass

    path = map_mass(
        data,
        out,
        preset=preset,
        workers=parse_workers(workers),
        no_truth_init=no_truth_init,
        overwrite=overwrite,
    )
    print_line(f"mapped images -> {path}, with {shard_folder(path).name}/ beside it")


@subcommand(PANEL, "halometry show common_test_1 --out montage.png")
def show(
    source: Annotated[
        str, typer.Argument(help="HDF5 dataset, folder of images, image, or preset.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Picture to write; without it a window opens.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Number of images.")] = 12,
    seed: SeedOption = 0,
) -> None:
    """Draw a montage of images with their labels."""
    from halometry.datasets.show import show as draw_montage

    path = draw_montage(source, out, count=count, seed=seed)
    if path is not None:
        print_line(f"montage -> {path}")
