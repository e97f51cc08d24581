"""Result of `measure_sensitivity`, its tables and its files."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from halometry.evaluation.bootstrap import Interval, format_interval
from halometry.io import write_json, write_table
from halometry.plotting import save_figure
from halometry.provenance import command, provenance
from halometry.sensitivity.curves import COMPLETENESS_LEVELS, NETWORK, DetectionOutcomes
from halometry.sensitivity.figure import completeness_figure, map_figure
from halometry.sensitivity.maps import SensitivityMap

HEADER = [
    "subhalo",
    "observer",
    *(f"{100 * level:.0f} % detected" for level in COMPLETENESS_LEVELS),
    "mass ratio",
]
COLUMNS = ("placement", "observer", "log10_mass", "completeness", "low", "high")
MAP_STEPS = (1.5, 1.0, 0.5)  # dex below the largest mass, of the fractions of a map


@dataclass(frozen=True)
class Sensitivity:
    """Result of `measure_sensitivity`.

    Attributes:
        run: name or path of the run.
        name: name of the network.
        preset: preset of the lenses.
        seed: of the lenses.
        threshold_log_odds: log odds against a smooth lens above which the network detects.
        trials_threshold_sigma: threshold of a matched filter in a blind search.
        outcomes: by placement of the subhalo, `anywhere` and `on the ring`.
        map: sensitivity map of one lens.
        device: device of the predictions.
    """

    run: str
    name: str
    preset: str
    seed: int
    threshold_log_odds: float
    trials_threshold_sigma: float
    outcomes: dict[str, DetectionOutcomes]
    map: SensitivityMap
    device: str

    @property
    def any_outcomes(self) -> DetectionOutcomes:
        """Outcomes of one placement, for what all placements share."""
        return next(iter(self.outcomes.values()))

    @cached_property
    def record(self) -> dict[str, Any]:
        """Content of `sensitivity.json` without its header."""
        return sensitivity_record(self)


def table_rows(result: Sensitivity) -> list[list[str]]:
    """The table as text: log10 of the masses for each placement and observer, with a header.

    The last column is the mass that the network detects over that of an ideal observer.
    """
    rows = [HEADER]
    for placement, outcomes in result.outcomes.items():
        for observer in outcomes.observers:
            masses = [format_log10_mass(outcomes, observer, level) for level in COMPLETENESS_LEVELS]
            ratio = format_mass_ratio(outcomes, observer)
            rows.append([placement, _observer_name(result, observer), *masses, ratio])
    return rows


def _observer_name(result: Sensitivity, observer: str) -> str:
    """The network by its own name."""
    return result.name if observer == NETWORK else observer


def format_log10_mass(outcomes: DetectionOutcomes, observer: str, level: float) -> str:
    """Format the mass at which a fraction is detected, or a lower limit."""
    largest = outcomes.log10_masses[-1]
    if not outcomes.is_reached(observer, level):
        return f"above {largest:.2f}"
    mass = outcomes.log10_mass(observer, level)
    if mass.high >= largest:  # some resamples do not reach the fraction
        return f"{mass.value:.2f}, above {mass.low:.2f}"
    return f"{mass.value:.2f} [{mass.low:.2f}, {mass.high:.2f}]"


def format_mass_ratio(outcomes: DetectionOutcomes, observer: str) -> str:
    """Format the mass that the network detects half of the time, over that of an ideal observer.

    Empty for the network itself, and if the ideal observer does not detect half of any mass.
    """
    level = COMPLETENESS_LEVELS[0]
    if observer == NETWORK or not outcomes.is_reached(observer, level):
        return ""
    return format_ratio(
        outcomes.delta_log10_mass(NETWORK, observer, level),
        is_reached=outcomes.is_reached(NETWORK, level),
        is_cut_off=outcomes.log10_mass(NETWORK, level).high >= outcomes.log10_masses[-1],
    )


def format_ratio(delta_log10: Interval, *, is_reached: bool, is_cut_off: bool) -> str:
    """Format the ratio of two masses.

    Args:
        delta_log10: log10 of the ratio.
        is_reached: whether the larger mass is known; if not, the ratio is a lower limit.
        is_cut_off: whether the interval of the larger mass ends at the largest mass.
    """
    ends = (delta_log10.value, delta_log10.low, delta_log10.high)
    value, low, high = format_interval(*(10**dex for dex in ends))
    if not is_reached:
        return f"above {value}"
    return f"{value}, above {low}" if is_cut_off else f"{value} [{low}, {high}]"


def sensitivity_record(result: Sensitivity) -> dict[str, Any]:
    """Return the content of `sensitivity.json` without its header."""
    outcomes = result.any_outcomes
    return {
        "what": "mass of single subhalos that are detected at a fixed false-positive rate",
        "command": command(),
        **provenance(result.device),
        "run": result.run,
        "preset": result.preset,
        "seed": result.seed,
        "false_positives": outcomes.false_positives,
        "smooth_lenses": len(outcomes.smooth_scores),
        "lenses": outcomes.scores.shape[1],
        "threshold_log_odds": result.threshold_log_odds,
        "trials_threshold_sigma": result.trials_threshold_sigma,
        "interval": "95 %; binomial for the network's completeness, else bootstrap over lenses",
        "rows": table_rows(result),
        "log10_masses": outcomes.log10_masses.tolist(),
        "placements": {name: _outcomes_record(each) for name, each in result.outcomes.items()},
        "map": _map_record(result),
    }


def _outcomes_record(outcomes: DetectionOutcomes) -> dict[str, Any]:
    return {
        observer: {
            "completeness": [each.to_dict() for each in outcomes.completeness(observer)],
            "log10_mass": {
                f"{level:g}": outcomes.log10_mass(observer, level).to_dict()
                | {"is_reached": outcomes.is_reached(observer, level)}
                for level in COMPLETENESS_LEVELS
            },
            "delta_log10_mass": {
                other: outcomes.delta_log10_mass(observer, other, COMPLETENESS_LEVELS[0]).to_dict()
                for other in outcomes.observers
                if other != observer
            },
        }
        for observer in outcomes.observers
    }


def _map_record(result: Sensitivity) -> dict[str, Any]:
    map_, largest = result.map, result.any_outcomes.log10_masses[-1]
    steps = [float(largest - step) for step in MAP_STEPS]
    return {
        "lens_index": map_.lens_index,
        "einstein_radius": map_.einstein_radius,
        "x_arcsec": map_.x.round(4).tolist(),
        "y_arcsec": map_.y.round(4).tolist(),
        "log10_mass": {
            observer: [round(v, 2) if math.isfinite(v) else None for v in masses.tolist()]
            for observer, masses in map_.log10_masses.items()
        },
        "fraction_detected": {
            observer: {f"{step:g}": round(map_.fraction_detected(observer, step), 3)
                       for step in steps}
            for observer in map_.log10_masses
        },
    }  # fmt: skip


def write_sensitivity(result: Sensitivity, out: Path) -> None:
    """Write `sensitivity.json`, `sensitivity.csv`, `completeness.png` and `map.png`.

    Raises:
        StorageError: no room or no permission.
    """
    write_json(out / "sensitivity.json", "sensitivity", result.record)
    write_table(out / "sensitivity.csv", "sensitivity", COLUMNS, _csv_rows(result))
    completeness = {
        placement: {
            _observer_name(result, name): outcomes.completeness(name) for name in outcomes.observers
        }
        for placement, outcomes in result.outcomes.items()
    }
    outcomes = result.any_outcomes
    figure = completeness_figure(outcomes.log10_masses, completeness, outcomes.false_positives)
    save_figure(figure, out / "completeness.png")
    names = {observer: _observer_name(result, observer) for observer in result.map.log10_masses}
    limits = float(outcomes.log10_masses[0]), float(outcomes.log10_masses[-1])
    save_figure(map_figure(result.map, names, limits), out / "map.png")


def _csv_rows(result: Sensitivity) -> Iterator[list[str]]:
    for placement, outcomes in result.outcomes.items():
        for observer in outcomes.observers:
            completeness = outcomes.completeness(observer)
            for mass, fraction in zip(outcomes.log10_masses, completeness, strict=True):
                numbers = (fraction.value, fraction.low, fraction.high)
                cells = [f"{mass:g}", *(f"{number:.4f}" for number in numbers)]
                yield [placement, _observer_name(result, observer), *cells]
