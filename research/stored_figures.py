"""Figures that are drawn from result files alone.

    python research/stored_figures.py

Completeness of two networks and of ideal observers; checks of posteriors.
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
from halometry.sensitivity.figure import OBSERVER_TITLES, completeness_figure

RESULTS = Path(__file__).resolve().parents[1] / "results"


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="a folder")
    options = parser.parse_args()
    save_figure(sensitivity(), options.out / "sensitivity_completeness.png")
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


def _read(name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return record


if __name__ == "__main__":
    main()
