"""Verbs that tell what there is."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from halometry.cli.app import TaskName, app, listing, out_console, tell


@app.command()
def backbones(
    names: Annotated[list[str] | None, typer.Argument(help="Any of timm's names.")] = None,
) -> None:
    """List the networks there are."""
    from halometry.models import list_backbones as look

    table = listing("name", "in timm", "parameters", "features", "stride (px)")
    for info in look(names):
        parameters = f"{info.parameters / 1e6:.2f} M"
        timm_name = info.timm_name or "-"
        table.add_row(info.name, timm_name, parameters, str(info.features), str(info.stride))
    out_console.print(table)
    tell("Any other name of timm's works too: python -c 'import timm; print(timm.list_models())'")


@app.command()
def weights(
    name: Annotated[
        str | None, typer.Argument(help="One of them, or hf://USER/REPO: its card.")
    ] = None,
) -> None:
    """List the trained weights there are, or show the card of one."""
    from halometry.publish.card import card_of, summary_of
    from halometry.resources import list_weights as names
    from halometry.resources import weights_folder

    if name is not None:
        tell(card_of(name).rstrip())
        return
    if not names():
        tell("no weights came with this halometry; see 'halometry train'")
        return
    table = listing("name", "task", "parameters", "on test images")
    table.columns[1].no_wrap = True
    for known in names():
        table.add_row(known, *map(escape, summary_of(weights_folder(known))))
    out_console.print(table)


@app.command()
def presets(
    name: Annotated[str | None, typer.Argument(help="One of them, in full.")] = None,
) -> None:
    """List the presets there are, or one with all its parameters, units and sources."""
    from halometry.simulation import list_presets as names
    from halometry.simulation import load_preset, preset_text

    if name is None:
        table = listing("name", "task", "image", "what it is")
        for known in names():
            preset = load_preset(known)
            size = f'{preset.image.pixels} px of {preset.image.pixel_scale:g}"'
            table.add_row(known, preset.task, size, escape(preset.summary))
        out_console.print(table)
        return
    tell(preset_text(name).rstrip())


@app.command()
def instruments(
    name: Annotated[str | None, typer.Argument(help="One of them, in full.")] = None,
) -> None:
    """List the instruments there are, or one with all its figures, units and sources."""
    from halometry.simulation import list_instruments as names
    from halometry.simulation import load_instrument
    from halometry.simulation.instrument import instrument_text

    if name is not None:
        tell(instrument_text(name).rstrip())
        return
    table = listing("name", "pixel", "PSF", "what it is")
    for known in names():
        one = load_instrument(known)
        width = f'{one.psf_fwhm.value}"' if one.psf_fwhm else "file"
        table.add_row(known, f'{one.pixel_scale.value}"', width, escape(one.description))
    out_console.print(table)


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(help="One of them, resolved.")] = None,
    task: Annotated[TaskName, typer.Option(help="For which task.")] = TaskName.classification,
    backbone: Annotated[str, typer.Option(help="For which backbone.")] = "resnet18",
) -> None:
    """List the recipes there are, or one as it is for a task and a backbone."""
    from halometry.runs.recipe import list_recipes as names
    from halometry.runs.recipe import load_recipe

    if name is None:
        table = listing("name", "what it is")
        for known in names():
            table.add_row(known, load_recipe(known).description)
        out_console.print(table)
        return
    resolved = load_recipe(name).resolve(task.value, backbone)
    tell(f"{name}, {task.value}, {backbone}")
    table = listing("key", "value")
    for key, value in resolved.model_dump(exclude={"name", "description"}).items():
        table.add_row(key, escape(str(value)))
    out_console.print(table)


@app.command()
def doctor(
    measure: Annotated[bool, typer.Option(help="Also time a small network.")] = True,
) -> None:
    """Tell what a bug report needs, and what is wrong here."""
    from halometry.doctor import diagnose as look

    found = look(measure)
    table = listing("what", "here")
    for key, value in found.facts.items():
        table.add_row(key, escape(value))
    out_console.print(table)
    for problem in found.problems:
        tell(f"problem: {problem}")
    if found.problems:
        raise typer.Exit(1)
    tell("all is well")
