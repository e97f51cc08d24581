"""Verbs that tell how far answers carry: to a population, and to images of another kind."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from halometry.cli.app import DeviceOption, RunArgument, SeedOption, app, out_console, tell


class Law(StrEnum):
    gamma = "gamma"
    log_normal = "log_normal"


@app.command()
def population(
    predictions: Annotated[Path, typer.Argument(help="A CSV file that 'predict' wrote.")],
    prior: Annotated[
        str | None,
        typer.Option(
            help="What the network was trained on: a run, a preset, a labelled set, a CSV file of"
            " masses, or shares of classes as no=1,sphere=1,vort=1 (equal if not given)."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="A folder for population.json, .csv and .png.")
    ] = None,
    law: Annotated[Law, typer.Option(help="Of the masses.")] = Law.gamma,
    seed: SeedOption = 0,
) -> None:
    """Infer class fractions, or mean and spread of the mass, from many lenses' answers."""
    from halometry.inference.population import population as infer
    from halometry.inference.population_tables import print_population

    print_population(infer(predictions, prior, out, law.value, seed), out_console)
    if out is not None:
        tell(f"population -> {out}")


@app.command()
def robustness(
    run: RunArgument,
    out: Annotated[
        Path | None, typer.Option(help="A folder for robustness.json, .csv and .png.")
    ] = None,
    count: Annotated[int, typer.Option(min=30, help="Images a step.")] = 300,
    shifts: Annotated[
        str | None, typer.Option(help="Only these, separated by commas, such as sky,psf.")
    ] = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
) -> None:
    """Judge a run on images that move away from those it was trained on."""
    from halometry.evaluation.robustness import robustness as measure
    from halometry.evaluation.robustness_tables import print_robustness

    names = [name.strip() for name in shifts.split(",") if name.strip()] if shifts else None
    print_robustness(measure(run, out, count, names, seed, device), out_console)
    if out is not None:
        tell(f"robustness -> {out}")
