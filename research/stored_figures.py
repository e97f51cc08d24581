"""Figures that are drawn from result files alone.

    python research/stored_figures.py

Completeness and sensitivity maps of two networks and of ideal observers; checks of posteriors.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from halometry.evaluation.bootstrap import Interval
from halometry.evaluation.posterior_figures import posterior_figure
from halometry.evaluation.records import PosteriorRecord
from halometry.plotting import save_figure
from halometry.runs.run import load_run
from halometry.seeds import SENSITIVITY_SEED_OFFSET
from halometry.sensitivity.curves import NETWORK
from halometry.sensitivity.figure import OBSERVER_TITLES, completeness_figure, map_figure
from halometry.sensitivity.lenses import Detector
from halometry.sensitivity.maps import SensitivityMap
from halometry.simulation import load_preset

RESULTS = Path(__file__).resolve().parents[1] / "results"


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="a folder")
    options = parser.parse_args()
    save_figure(sensitivity(), options.out / "sensitivity_completeness.png")
    save_figure(masses_detected(), options.out / "sensitivity_map.png")
    record = _read("calibration_mass")
    checks = {record["run"]: PosteriorRecord.model_validate(record["posterior"])}
    save_figure(posterior_figure(checks), options.out / "calibration_mass.png")
    checks = {
        name: PosteriorRecord.model_validate(one)
        for name, one in _read("posteriors")["posteriors"].items()
    }
    save_figure(posterior_figure(checks), options.out / "posteriors.png")


def sensitivity() -> Figure:
    """Completeness of the networks on raw images and on mass maps, and of ideal observers."""
    raw, mapped = _read("sensitivity"), _read("sensitivity_mapped")
    panels: dict[str, dict[str, list[Interval]]] = {}
    for placement, observers in raw["placements"].items():
        networks = {one["run"]: one["placements"][placement]["network"] for one in (raw, mapped)}
        ideal = {name: observers[name] for name in OBSERVER_TITLES}
        panels[placement] = {
            name: [Interval(**interval) for interval in one["completeness"]]
            for name, one in (networks | ideal).items()
        }
    return completeness_figure(np.array(raw["log10_masses"]), panels, raw["false_positives"])


def masses_detected() -> Figure:
    """Mass detected half of the time at each place of one lens, by networks and ideal observers."""
    raw, mapped = _read("sensitivity"), _read("sensitivity_mapped")
    stored = raw["map"]
    preset = load_preset(raw["preset"])
    detector = Detector(
        load_run(raw["run"]).predict_fn("cpu"),
        preset.kinds.index("no"),
        preset,
        raw["seed"] + SENSITIVITY_SEED_OFFSET,
        raw["false_positives"],
    )
    lens = detector.draw_lenses(stored["lens_index"], 1)
    pixels = preset.image.pixels
    masses = {one["run"]: one["map"]["log10_mass"][NETWORK] for one in (raw, mapped)}
    masses |= {name: values for name, values in stored["log10_mass"].items() if name != NETWORK}
    log10_masses = {
        name: np.array([np.inf if value is None else value for value in values])
        for name, values in masses.items()
    }
    map_ = SensitivityMap(
        stored["lens_index"],
        lens.expected.view(pixels, pixels).numpy(),
        preset.image.pixel_scale,
        np.array(stored["x_arcsec"]),
        np.array(stored["y_arcsec"]),
        log10_masses,
        stored["einstein_radius"],
    )
    limits = raw["log10_masses"][0], raw["log10_masses"][-1]
    return map_figure(map_, {run: run.replace("/", "/\n") for run in log10_masses}, limits)


def _read(name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return record


if __name__ == "__main__":
    main()
