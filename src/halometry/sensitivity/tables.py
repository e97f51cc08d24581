"""A sensitivity in words, tables, files and figures."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from halometry.evaluation.bootstrap import Interval, format_interval
from halometry.io import write_table, write_text
from halometry.plotting import save_figure
from halometry.provenance import command, provenance
from halometry.sensitivity.core import BLIND_SEARCH, FITTED_LENS
from halometry.sensitivity.curves import COMPLETENESS_LEVELS, NETWORK, DetectionOutcomes
from halometry.sensitivity.figure import completeness_figure, map_figure
from halometry.sensitivity.maps import SensitivityMap

HEAD = ["subhalo", "observer", *(f"{100 * level:.0f} % found" for level in COMPLETENESS_LEVELS)]


@dataclass(frozen=True)
class Sensitivity:
    """The outcome of `sensitivity`.

    Attributes:
        run: what was asked for.
        name: of the network.
        preset: of the lenses.
        seed: of these.
        false_positives: share of smooth lenses that everybody calls lumpy.
        cut: log odds against a smooth lens at which the network does.
        sought: noise that a matched filter has to exceed when every place is looked at.
        outcomes: by place, `anywhere` the preset draws subhalos and `on the ring`.
        map: of one lens.
        device: the network ran on.
    """

    run: str
    name: str
    preset: str
    seed: int
    false_positives: float
    threshold_log_odds: float
    trials_threshold_sigma: float
    outcomes: dict[str, DetectionOutcomes]
    map: SensitivityMap
    device: str

    @cached_property
    def record(self) -> dict[str, Any]:
        """All that there is to say of it, as plain data."""
        return _record(self)


def _rows(seen: Sensitivity) -> list[list[str]]:
    """A line for each place and observer: log10 of the masses found so often."""
    return [
        [
            place,
            _called(seen, observer),
            *(format_log10_mass(of, observer, level) for level in COMPLETENESS_LEVELS),
        ]
        for place, of in seen.outcomes.items()
        for observer in of.observers
    ]


def _called(seen: Sensitivity, observer: str) -> str:
    """The network by its own name."""
    return seen.name if observer == NETWORK else observer


def format_log10_mass(of: DetectionOutcomes, observer: str, level: float) -> str:
    """A mass as text, or that it is heavier than all that were tried."""
    if not of.is_reached(observer, level):
        return f"above {of.log10_masses[-1]:.2f}"
    mass = of.log10_mass(observer, level)
    if mass.high >= of.log10_masses[-1]:  # of some resamples so many are not found even there
        return f"{mass.value:.2f}, above {mass.low:.2f}"
    return f"{mass.value:.2f} [{mass.low:.2f}, {mass.high:.2f}]"


def _conclusion(seen: Sensitivity) -> list[str]:
    """How far the network is from what the data allow, a sentence a place."""
    return [_sentence(seen, place, of) for place, of in seen.outcomes.items()]


def _sentence(seen: Sensitivity, place: str, of: DetectionOutcomes) -> str:
    level, heaviest = COMPLETENESS_LEVELS[0], _solar(of.log10_masses[-1])
    begin = f"{place.capitalize()}, at {seen.false_positives:.2g} false alarms a smooth lens: "
    if not of.is_reached(FITTED_LENS, level):
        return f"{begin}the data themselves show half of no mass up to {heaviest} solar masses."
    allowed = _solar(of.log10_mass(FITTED_LENS, level).value)
    if not of.is_reached(NETWORK, level):
        least = 10 ** of.delta_log10_mass(NETWORK, FITTED_LENS, level).value
        return (
            f"{begin}{seen.name} finds less than half even at {heaviest} solar masses, where the"
            f" data allow {allowed}: behind by a factor above {least:.1f}."
        )
    found, times = _solar(of.log10_mass(NETWORK, level).value), format_mass_ratio(of, FITTED_LENS)
    text = (
        f"{begin}{seen.name} finds half at {found} solar masses, where the data allow {allowed}"
        f" with the lens fitted, a factor of {times} in mass"
    )
    if of.is_reached(BLIND_SEARCH, level):
        text += f"; {format_mass_ratio(of, BLIND_SEARCH)} where the place has to be sought too"
    return f"{text}."


def format_mass_ratio(of: DetectionOutcomes, other: str) -> str:
    """How many times as heavy a subhalo must be for the network."""
    behind = of.delta_log10_mass(NETWORK, other, COMPLETENESS_LEVELS[0])
    value, low, high = format_interval(
        *(10**dex for dex in (behind.value, behind.low, behind.high))
    )
    cut_off = of.log10_mass(NETWORK, COMPLETENESS_LEVELS[0]).high >= of.log10_masses[-1]
    return f"{value}, above {low}" if cut_off else f"{value} [{low}, {high}]"


def _solar(log_mass: float) -> str:
    return f"{10**log_mass:.1e}".replace("e+", "e")


def _record(seen: Sensitivity) -> dict[str, Any]:
    some = next(iter(seen.outcomes.values()))
    return {
        "format": "halometry-sensitivity",
        "what": "single subhalos found at a fixed share of false positives, by mass and place",
        "command": command(),
        **provenance(seen.device),
        "run": seen.run,
        "preset": seen.preset,
        "seed": seen.seed,
        "false_positives": seen.false_positives,
        "smooth_lenses": len(some.smooth_scores),
        "lenses": some.scores.shape[1],
        "cut_log_odds": seen.threshold_log_odds,
        "search_threshold_sigma": seen.trials_threshold_sigma,
        "interval": "95 %; shares found by the network: binomial; all else: bootstrap over lenses",
        "rows": [HEAD, *_rows(seen)],
        "conclusion": _conclusion(seen),
        "log10_masses": some.log10_masses.tolist(),
        "places": {place: _place(of) for place, of in seen.outcomes.items()},
        "map": _map(seen),
    }


def _place(of: DetectionOutcomes) -> dict[str, Any]:
    return {
        observer: {
            "completeness": [one.to_dict() for one in of.completeness(observer)],
            "log10_mass": {
                f"{level:g}": of.log10_mass(observer, level).to_dict()
                | {"reached": of.is_reached(observer, level)}
                for level in COMPLETENESS_LEVELS
            },
            "behind_dex": {
                other: of.delta_log10_mass(observer, other, COMPLETENESS_LEVELS[0]).to_dict()
                for other in of.observers
                if other != observer
            },
        }
        for observer in of.observers
    }


def _map(seen: Sensitivity) -> dict[str, Any]:
    one, heaviest = seen.map, next(iter(seen.outcomes.values())).log10_masses[-1]
    steps = [float(heaviest - down) for down in (1.5, 1.0, 0.5)]
    return {
        "lens": one.lens_index,
        "einstein_radius": one.einstein_radius,
        "x_arcsec": one.x.round(4).tolist(),
        "y_arcsec": one.y.round(4).tolist(),
        "log10_mass": {
            observer: [round(v, 2) if math.isfinite(v) else None for v in masses.tolist()]
            for observer, masses in one.log10_masses.items()
        },
        "share_of_places": {
            observer: {
                f"{mass:g}": round(one.fraction_detected(observer, mass), 3) for mass in steps
            }
            for observer in one.log10_masses
        },
    }


def write_sensitivity(folder: Path, seen: Sensitivity) -> None:
    """Write `sensitivity.json`, `sensitivity.csv`, `completeness.png` and `map.png`.

    Raises:
        StorageError: no room or no permission.
    """
    write_text(folder / "sensitivity.json", json.dumps(seen.record, indent=1) + "\n")
    columns = ["place", "observer", "log10_mass", "share", "low", "high"]
    write_table(folder / "sensitivity.csv", "sensitivity", columns, _lines(seen))
    panels = {
        place: {_called(seen, name): of.completeness(name) for name in of.observers}
        for place, of in seen.outcomes.items()
    }
    masses = next(iter(seen.outcomes.values())).log10_masses
    save_figure(
        completeness_figure(masses, panels, seen.false_positives), folder / "completeness.png"
    )
    one = seen.map
    maps = {_called(seen, name): map_ for name, map_ in one.log10_masses.items()}
    ends = float(masses[0]), float(masses[-1])
    drawn = map_figure(one.image, one.pixel_scale, one.x, one.y, maps, ends, one.einstein_radius)
    save_figure(drawn, folder / "map.png")


def _lines(seen: Sensitivity) -> Iterator[list[str]]:
    for place, of in seen.outcomes.items():
        for observer in of.observers:
            for mass, share in zip(of.log10_masses, of.completeness(observer), strict=True):
                yield [place, _called(seen, observer), f"{mass:g}", *_numbers(share)]


def _numbers(share: Interval) -> list[str]:
    return [f"{value:.4f}" for value in (share.value, share.low, share.high)]
