"""Subcommands that analyze runs and their predictions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from halometry.cli.app import (
    DeviceOption,
    FolderArgument,
    LensPresetOption,
    MappersOption,
    RunArgument,
    SeedOption,
    parse_workers,
    split_names,
    subcommand,
)
from halometry.cli.output import out_console, print_line, print_rows

if TYPE_CHECKING:
    from halometry.attribution.maps import Method

PANEL = "Analyze"


@subcommand(PANEL, "halometry robustness common_test_1/d4net --shifts sky,psf --out robustness")
def robustness(
    run: RunArgument,
    out: Annotated[
        Path | None, typer.Option(help="Folder for robustness.json, .csv and .png.")
    ] = None,
    count: Annotated[int, typer.Option(min=30, help="Number of images in each step.")] = 300,
    shifts: Annotated[
        str | None, typer.Option(help="Shifts separated by commas, such as sky,psf; default all.")
    ] = None,
    preset: LensPresetOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    workers: MappersOption = "auto",
) -> None:
    """Measure how a run degrades on images that differ more and more from its training set."""
    from halometry.robustness.command import measure_robustness
    from halometry.robustness.tables import print_robustness

    result = measure_robustness(
        run,
        out=out,
        count=count,
        shifts=split_names(shifts) if shifts else None,
        seed=seed,
        device=device,
        preset=preset,
        workers=parse_workers(workers),
    )
    print_robustness(result, out_console)
    if out is not None:
        print_line(f"robustness -> {out}")


@subcommand(PANEL, "halometry attribution common_test_1/d4net my_images/ --out attribution")
def attribution(
    run: FolderArgument,
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Images, or folders of these; default: simulated images."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for maps, figures and tables.")] = Path(
        "attribution"
    ),
    method: Annotated[
        str,
        typer.Option(help="Method of the maps: integrated_gradients, saliency or occlusion."),
    ] = "integrated_gradients",
    count: Annotated[int, typer.Option(min=12, help="Number of simulated images.")] = 200,
    preset: LensPresetOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    workers: MappersOption = "auto",
) -> None:
    """Map which pixels a run's predictions depend on, and compare with the true substructure."""
    from halometry.attribution.command import explain_predictions

    result = explain_predictions(
        run,
        files,
        out=out,
        method=cast("Method", method),  # the library checks it
        count=count,
        preset=preset,
        seed=seed,
        device=device,
        workers=parse_workers(workers),
    )
    if result.pointing:
        print_rows(result.rows)
    print_line(f"{len(result.attributions)} maps -> {out}")


@subcommand(PANEL, "halometry sensitivity common_test_1/d4net --count 100 --out sensitivity")
def sensitivity(
    run: RunArgument,
    out: Annotated[Path, typer.Option(help="Folder for numbers and figures.")] = Path(
        "sensitivity"
    ),
    preset: LensPresetOption = None,
    count: Annotated[int, typer.Option(min=2, help="Number of lenses for each mass.")] = 100,
    seed: SeedOption = 0,
    false_positives: Annotated[
        float, typer.Option(help="False-positive rate: fraction of smooth lenses detected.")
    ] = 0.01,
    lens_index: Annotated[int, typer.Option(min=0, help="Index of the lens to map.")] = 0,
    grid: Annotated[int, typer.Option(help="Number of positions along a side of the map.")] = 13,
    device: DeviceOption = "auto",
    workers: MappersOption = "auto",
) -> None:
    """Measure the masses of single subhalos that a run detects, and that the data allow."""
    from halometry.sensitivity.command import measure_sensitivity

    result = measure_sensitivity(
        run,
        out=out,
        preset=preset,
        count=count,
        seed=seed,
        false_positives=false_positives,
        lens_index=lens_index,
        grid=grid,
        device=device,
        workers=parse_workers(workers),
    )
    print_line("log10 of the mass (Msun) at which this fraction is detected, 95 % intervals")
    print_rows(result.record["rows"])
    print_line(f"curves and maps -> {out}")


@subcommand(PANEL, "halometry population predictions.csv --prior no=1,sphere=1,vort=1")
def population(
    predictions: Annotated[Path, typer.Argument(help="CSV file that 'predict' wrote.")],
    prior: Annotated[
        str | None,
        typer.Option(
            help="Prior of the training set: a run, a preset, a labeled dataset, a CSV file of"
            " masses, or class weights such as no=1,sphere=1,vort=1 (default: equal)."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for population.json, .csv and .png.")
    ] = None,
    mass_distribution: Annotated[
        str, typer.Option(help="Distribution of the mass fractions: gamma or log_normal.")
    ] = "gamma",
    seed: SeedOption = 0,
) -> None:
    """Infer class fractions, or mean and spread of the mass, from predictions of many lenses."""
    from halometry.population.command import infer_population
    from halometry.population.tables import print_population

    result = infer_population(
        predictions, prior=prior, out=out, mass_distribution=mass_distribution, seed=seed
    )
    print_population(result, out_console)
    if out is not None:
        print_line(f"population -> {out}")
