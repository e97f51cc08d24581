"""Analysis of fits of published images: distributions that their parameters were drawn from."""

from __future__ import annotations

from typing import Any

import numpy as np
from fit_coverage import fraction_interval
from scipy.stats import chi2, ks_2samp, kstest

from halometry.simulation import draw_scenes, load_preset

PRESET = "common_test_1"
LEVELS = {"68": 0.6827, "95": 0.9545}
ANGLE_RANGE_RAD = np.radians(6.28)  # the published range, 6.28, taken as degrees
MAX_ANGLE_ERROR_RAD = 0.02  # directions of small shears and ellipticities are uncertain
MIN_RADIUS_ARCSEC = 0.1  # smaller radii are replaced by it
VORTEX_PARAMETERS = ("vortex_x", "vortex_y", "vortex_length", "vortex_fraction", "vortex_density")

Fits = dict[str, dict[str, Any]]


def analysis(done: Fits, seed: int) -> dict[str, Any]:
    """Return all results of the analysis.

    Args:
        done: records of fits by their keys.
        seed: of the simulated images.
    """

    def of(*start: str) -> Fits:
        return {key: fit for key, fit in done.items() if key.startswith(start)}

    return {
        "reduced_chi2": {
            kind: _reduced_chi2(of(f"published/{kind}/")) for kind in ("no", "vort", "sphere")
        },
        "constants": _constants(of("free/no/")),
        "smooth_lens": _smooth_lens(of("published/")),
        "vortex": _vortex(of("published/vort/"), of("simulated/vort/"), seed),
        "subhalos": _subhalos(of("published/sphere/"), of("simulated/sphere/"), seed),
        "false_alarms": _false_alarms(of("simulated/false_alarms/")),
    }


def values(fits: Fits, name: str) -> np.ndarray:
    """Return the values of parameter parameter in all fits."""
    return np.array([fit["parameters"][name]["value"] for fit in fits.values()])


def errors(fits: Fits, name: str) -> np.ndarray:
    """Return the errors of parameter parameter in all fits."""
    return np.array([fit["parameters"][name]["error"] for fit in fits.values()])


def uniform_limits(drawn: np.ndarray) -> dict[str, Any]:
    """Return intervals of the limits of a uniform distribution from n draws, exactly.

    All n + 1 spacings of a uniform distribution have the same distribution. The distance from the
    last draw to the limit, over the range of the draws, exceeds t with a probability of
    (1 + t)^-(n - 1).
    """
    n, least, most = len(drawn), float(drawn.min()), float(drawn.max())
    reach = {k: (most - least) * ((1 - q) ** (-1 / (n - 1)) - 1) for k, q in LEVELS.items()}
    mean_reach = (most - least) / (n - 1)
    return {
        "images": n,
        "min": least,
        "max": most,
        "mean": float(drawn.mean()),
        "unbiased": [least - mean_reach, most + mean_reach],
        "low": {level: [least - r, least] for level, r in reach.items()},
        "high": {level: [most, most + r] for level, r in reach.items()},
    }


def radius_limits(radius: np.ndarray) -> dict[str, Any]:
    """Return intervals of the radius R of n points, uniform in a disk or in the radius, exactly.

    All radii are below r with a probability of (r / R)^2n in a disk, and (r / R)^n otherwise.
    `delta_2lnL_disk_uniform` is the difference of the largest 2 ln L of both.
    """
    n, most = len(radius), float(radius.max())
    disk = 2 * np.log(2 * radius / most**2).sum()
    uniform = 2 * np.log(np.full(n, 1 / most)).sum()
    return {
        "images": n,
        "radii": radius.tolist(),
        "disk": {k: [most, most * (1 - q) ** (-1 / (2 * n))] for k, q in LEVELS.items()},
        "uniform": {k: [most, most * (1 - q) ** (-1 / n)] for k, q in LEVELS.items()},
        "unbiased": {"disk": most * (1 + 1 / n) ** 0.5, "uniform": most * (1 + 1 / n)},
        "delta_2lnL_disk_uniform": float(disk - uniform),
    }


def _reduced_chi2(fits: Fits) -> dict[str, Any]:
    each = {key: fit["reduced_chi2"] for key, fit in fits.items()}
    found = np.array(list(each.values()))
    std = float(np.mean([fit["reduced_chi2_std"] for fit in fits.values()]))
    return {
        "each": each,
        "mean": float(found.mean()),
        "error_of_mean": std / len(found) ** 0.5,
        "std_expected": std,
    }


def _constants(fits: Fits) -> dict[str, Any]:
    """Return the preset's constants as weighted means over images, with their chi-square."""
    preset = load_preset(PRESET)
    source, spec = preset.source, preset.image
    assert source.brightness is not None
    assert source.sersic_index is not None
    held = {
        "source_radius": source.radius.value,
        "source_index": source.sersic_index.value,
        "source_brightness": source.brightness.value,
        "psf_sigma": spec.psf_sigma,
        "sky": spec.sky,
        "lens_e1": 0.0,
        "lens_e2": 0.0,
    }
    found: dict[str, Any] = {}
    for name, expected in held.items():
        v, weight = values(fits, name), errors(fits, name) ** -2
        mean = float((v * weight).sum() / weight.sum())
        found[name] = {
            "mean": mean,
            "error": float(weight.sum() ** -0.5),
            "chi2": float((weight * (v - mean) ** 2).sum()),
            "preset": expected,
            "degrees_of_freedom": len(v) - 1,
            "each": v.tolist(),
        }
    return found | {"reduced_chi2": _reduced_chi2(fits)}


def _smooth_lens(fits: Fits) -> dict[str, Any]:
    """Return distributions of lens, shear and source, in the orientation of the files."""
    angles = {}
    for name in ("shear_angle", "source_position_angle"):
        known = errors(fits, name) < MAX_ANGLE_ERROR_RAD
        wrapped = ((values(fits, name) + np.pi / 2) % np.pi - np.pi / 2)[known]
        angles[name] = uniform_limits(wrapped) | _uniform_p_value(wrapped, -ANGLE_RANGE_RAD, 0.0)
    radius = np.hypot(values(fits, "source_x"), values(fits, "source_y"))
    return angles | {
        "einstein_radius": uniform_limits(values(fits, "einstein_radius")),
        "shear": uniform_limits(values(fits, "shear")),
        "source_axis_ratio": uniform_limits(values(fits, "source_axis_ratio")),
        "source_offset": radius_limits(radius),
    }


def _vortex(published: Fits, simulated: Fits, seed: int) -> dict[str, Any]:
    offset = np.hypot(values(published, "vortex_x"), values(published, "vortex_y"))
    preset = load_preset(PRESET)
    assert preset.vortex is not None
    quantities = {"mass_fraction": preset.vortex.mass_fraction, "length": preset.vortex.length}
    drawn = {name: values(published, f"vortex_{name.removeprefix('mass_')}") for name in quantities}
    uniform = {
        name: uniform_limits(drawn[name]) | _uniform_p_value(drawn[name], *quantity.support)
        for name, quantity in quantities.items()
    }
    return {
        "each": {
            key: {name: fit["parameters"][name] for name in (*VORTEX_PARAMETERS, "vortex_angle")}
            | {"delta_2lnL": fit["delta_2lnL"]}
            for key, fit in published.items()
        },
        **uniform,
        "density": uniform_limits(values(published, "vortex_density")),
        "offset": radius_limits(offset) | {"preset": preset.vortex.offset.support[1]},
        "simulated": _vortex_pulls(simulated, seed),
    }


def _uniform_p_value(drawn: np.ndarray, low: float, high: float) -> dict[str, Any]:
    """Return the Kolmogorov-Smirnov p-value of draws under a uniform distribution."""
    p = float(kstest(drawn, "uniform", args=(low, high - low)).pvalue)
    return {"preset": [low, high], "p_value_preset": p}


def _vortex_pulls(fits: Fits, seed: int) -> dict[str, Any]:
    """Return statistics of (value - truth) / error of vortices in simulated images."""
    pulls: dict[str, list[float]] = {name: [] for name in VORTEX_PARAMETERS}
    for key, fit in fits.items():
        scene = draw_scenes(load_preset(PRESET), seed, int(key.rsplit("/", 1)[1]), 1)
        fraction = float(scene.vortex_mass / scene.halo_mass)
        truth = {name: float(getattr(scene, name)) for name in VORTEX_PARAMETERS[:3]}
        truth |= {
            "vortex_fraction": fraction,
            "vortex_density": fraction / float(scene.vortex_length),
        }
        for name in VORTEX_PARAMETERS:
            parameter = fit["parameters"][name]
            pulls[name].append((parameter["value"] - truth[name]) / parameter["error"])
    return {
        "images": len(fits),
        "reduced_chi2": _reduced_chi2(fits),
        "pulls": {
            name: {
                "root_mean_square": float(np.sqrt(np.mean(np.square(p)))),
                "within": {
                    level: float(np.mean(np.abs(p) < chi2.ppf(q, 1) ** 0.5))
                    for level, q in LEVELS.items()
                },
            }
            for name, p in pulls.items()
        },
    }


def _subhalos(published: Fits, simulated: Fits, seed: int) -> dict[str, Any]:
    """Return statistics of point masses found in published and in simulated images."""
    a, b = _found_subhalos(published), _found_subhalos(simulated)
    ratio = (len(a["fraction"]) / len(published)) / (len(b["fraction"]) / len(simulated))
    spread = float(np.hypot(_relative_error(a["number"]), _relative_error(b["number"])))
    return {
        "published": _found_statistics(a, published),
        "simulated": _found_statistics(b, simulated) | {"recovered": _recovered(simulated, seed)},
        "number_published_over_simulated": {"value": ratio, "error": ratio * spread},
        "p_value_fraction": float(ks_2samp(a["fraction"], b["fraction"]).pvalue),
        "p_value_radius": float(ks_2samp(a["radius"], b["radius"]).pvalue),
        "radius_delta_2lnL_disk_uniform": _disk_over_uniform(a["radius"], b["radius"]),
        "p_value_delta_2lnL": float(ks_2samp(a["delta_2lnL"], b["delta_2lnL"]).pvalue),
    }


def _disk_over_uniform(published: np.ndarray, simulated: np.ndarray) -> dict[str, float]:
    """Return twice the log likelihood ratio of a uniform disk over a uniform radius, with error.

    The simulated subhalos are uniform in the radius. Those that are found define the selection of
    the search; a factor r turns it into that of a uniform disk. The error is by bootstrap of both
    samples.
    """
    rng = np.random.default_rng(0)

    def ratio(r: np.ndarray, s: np.ndarray) -> float:
        weight, norm = np.maximum(r, MIN_RADIUS_ARCSEC), np.maximum(s, MIN_RADIUS_ARCSEC).mean()
        return float(2 * (np.log(weight) - np.log(norm)).sum())

    again = [
        ratio(rng.choice(published, len(published)), rng.choice(simulated, len(simulated)))
        for _ in range(1000)
    ]
    return {"value": ratio(published, simulated), "error": float(np.std(again))}


def _relative_error(number: np.ndarray) -> float:
    """Return the relative error of the mean of counts, from their scatter."""
    return float(number.std(ddof=1) / len(number) ** 0.5 / number.mean())


def _found_subhalos(fits: Fits) -> dict[str, np.ndarray]:
    fraction, radius = [], []
    for fit in fits.values():
        for i in range(1, len(fit["delta_2lnL_steps"]) + 1):
            parameter = {
                k: fit["parameters"][f"subhalo_{i}_{k}"]["value"] for k in ("fraction", "x", "y")
            }
            fraction.append(parameter["fraction"])
            radius.append(float(np.hypot(parameter["x"], parameter["y"])))
    return {
        "number": np.array([len(fit["delta_2lnL_steps"]) for fit in fits.values()]),
        "delta_2lnL": np.array([fit["delta_2lnL"] for fit in fits.values()]),
        "fraction": np.array(fraction),
        "radius": np.array(radius),
    }


def _found_statistics(found: dict[str, np.ndarray], fits: Fits) -> dict[str, Any]:
    number = found["number"]
    return {
        "images": len(fits),
        "reduced_chi2": _reduced_chi2(fits),
        "found_each": number.tolist(),
        "found_mean": float(number.mean()),
        "found_error": float(number.std(ddof=1) / len(number) ** 0.5),
        "fraction_quartiles": np.quantile(found["fraction"], (0.25, 0.5, 0.75)).tolist(),
        "fraction_max": float(found["fraction"].max()),
        "radius_quartiles": np.quantile(found["radius"], (0.25, 0.5, 0.75)).tolist(),
        "radius_max": float(found["radius"].max()),
        "delta_2lnL_median": float(np.median(found["delta_2lnL"])),
    }


def _recovered(fits: Fits, seed: int) -> dict[str, Any]:
    """Return the fraction of true subhalos, by mass, with a found one within 0.2 arcsec."""
    edges = np.array([0.0, 3e-4, 1e-3, 3e-3, 1.1e-2])
    seen, all_ = np.zeros(len(edges) - 1), np.zeros(len(edges) - 1)
    for key, fit in fits.items():
        scene = draw_scenes(load_preset(PRESET), seed, int(key.rsplit("/", 1)[1]), 1)
        fraction = (scene.subhalo_mass[0] / scene.halo_mass[0]).numpy()
        x, y = scene.subhalo_x[0].numpy(), scene.subhalo_y[0].numpy()
        places = [
            [fit["parameters"][f"subhalo_{i}_{k}"]["value"] for k in "xy"]
            for i in range(1, len(fit["delta_2lnL_steps"]) + 1)
        ]
        for m, px, py in zip(fraction, x, y, strict=True):
            if m > 0:
                cell = int(np.searchsorted(edges, m)) - 1
                all_[cell] += 1
                seen[cell] += any(np.hypot(px - qx, py - qy) < 0.2 for qx, qy in places)
    return {
        "fraction_edges": edges.tolist(),
        "true": all_.tolist(),
        "fraction_recovered": (seen / np.maximum(all_, 1)).tolist(),
    }


def _false_alarms(fits: Fits) -> dict[str, Any]:
    """Return the gain in 2 ln L of the best point mass in smooth lenses."""
    gains = np.array([fit["delta_2lnL"] for fit in fits.values()])
    return {
        "images": len(gains),
        "quantiles": {
            q: float(np.quantile(gains, float(q))) for q in ("0.5", "0.9", "0.95", "0.99", "1")
        },
        "above": {str(t): fraction_interval(gains > t) for t in (12, 16, 20, 25)},
    }
