"""Result of `explain_predictions`, its table and its files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from halometry.attribution.explain import Attribution, attribution_figure
from halometry.attribution.figure import pointing_figure
from halometry.attribution.maps import Method
from halometry.attribution.pointing_game import PointingGame
from halometry.io import atomic_write, write_json, write_table
from halometry.plotting import save_figure
from halometry.provenance import command, provenance

IMAGES_IN_FIGURE = 6
COLUMNS = ("image", "prediction", "peak_column", "peak_row")  # of attribution.csv


@dataclass(frozen=True)
class AttributionResult:
    """Result of `explain_predictions`.

    Attributes:
        run: name or path of the run.
        method: of the maps.
        preset, seed: of simulated images; None for given images.
        attributions: one per image.
        pointing: pointing game for each kind of substructure; empty for given images.
        device: device of the predictions.
    """

    run: str
    method: Method
    preset: str | None
    seed: int | None
    attributions: list[Attribution]
    pointing: list[PointingGame]
    device: str

    @cached_property
    def rows(self) -> list[list[str]]:
        """The table of the pointing games as text, with a header."""
        rows = [["maximum of the map at", "lenses", "radius", "hits", "by chance", "above chance"]]
        for game in self.pointing:
            radius, chance = f'{game.radius:.2f}"', f"{game.chance_fraction:.3f}"
            cells = [str(game.hit_fraction), chance, str(game.above_chance)]
            rows.append([game.target, str(len(game)), radius, *cells])
        return rows


def write_attribution(result: AttributionResult, out: Path) -> None:
    """Write `attribution.json`, `attribution.csv`, `maps.npz`, and figures.

    Raises:
        StorageError: no room or no permission.
    """
    write_json(out / "attribution.json", "attribution", attribution_record(result))
    rows = [[each.name, each.prediction, *reversed(each.peak)] for each in result.attributions]
    write_table(out / "attribution.csv", "attribution", COLUMNS, rows)
    with atomic_write(out / "maps.npz") as partial, partial.open("wb") as file:
        np.savez_compressed(file, *(each.map.astype(np.float32) for each in result.attributions))
    save_figure(attribution_figure(result.attributions[:IMAGES_IN_FIGURE]), out / "maps.png")
    if result.pointing:
        save_figure(pointing_figure(result.pointing), out / "pointing.png")


def attribution_record(result: AttributionResult) -> dict[str, Any]:
    """Return the content of `attribution.json` without its header."""
    return {
        "what": "fraction of attribution maps whose maximum lies within the width of the PSF from"
        " the substructure, and the same by chance, for the maxima of other lenses' maps",
        "command": command(),
        **provenance(result.device),
        "run": result.run,
        "method": result.method,
        "preset": result.preset,
        "seed": result.seed,
        "images": len(result.attributions),
        "interval": "95 %; binomial for hits, bootstrap over lenses for above chance",
        "rows": result.rows,
    }
