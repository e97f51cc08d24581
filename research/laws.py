"""What fits of real images say of the laws that their parameters were drawn from."""

from __future__ import annotations

from typing import Any

import numpy as np
from fit_coverage import share
from scipy.stats import chi2, ks_2samp, kstest

from halometry.simulation import draw_scenes, load_preset

PRESET = "common_test_1"
LEVELS = {"68": 0.6827, "95": 0.9545}
TURN = np.radians(6.28)  # the published range of angles, taken as degrees
WELL_KNOWN = 0.02  # rad; directions of small shears and ellipticities are not
INNER = 0.1  # arcsec, within which radii are taken as this
PLACE = ("vortex_x", "vortex_y", "vortex_length", "vortex_fraction", "vortex_density")

Fits = dict[str, dict[str, Any]]


def analysis(done: Fits, seed: int) -> dict[str, Any]:
    """Everything that is said of the recipe, from the records of fits by their keys."""

    def of(*start: str) -> Fits:
        return {key: fit for key, fit in done.items() if key.startswith(start)}

    return {
        "chi_square": {kind: _chi_square(of(f"real/{kind}/")) for kind in ("no", "vort", "sphere")},
        "constants": _constants(of("free/no/")),
        "smooth_laws": _smooth_laws(of("real/")),
        "line": _line(of("real/vort/"), of("simulated/vort/"), seed),
        "subhalos": _subhalos(of("real/sphere/"), of("simulated/sphere/"), seed),
        "false_alarms": _false_alarms(of("simulated/false_alarms/")),
    }


def values(fits: Fits, name: str) -> np.ndarray:
    """One parameter of all fits."""
    return np.array([fit["parameters"][name]["value"] for fit in fits.values()])


def errors(fits: Fits, name: str) -> np.ndarray:
    """Its errors."""
    return np.array([fit["parameters"][name]["error"] for fit in fits.values()])


def uniform_law(drawn: np.ndarray) -> dict[str, Any]:
    """The ends of a uniform law from n draws, exactly.

    Of n + 1 spacings of a uniform law all are alike, so that the distance from the last draw to
    the end, over the range of the draws, exceeds t with a chance of (1 + t)^-(n - 1).
    """
    n, least, most = len(drawn), float(drawn.min()), float(drawn.max())
    reach = {k: (most - least) * ((1 - q) ** (-1 / (n - 1)) - 1) for k, q in LEVELS.items()}
    mean_reach = (most - least) / (n - 1)
    return {
        "images": n,
        "least": least,
        "most": most,
        "mean": float(drawn.mean()),
        "unbiased": [least - mean_reach, most + mean_reach],
        "low": {level: [least - r, least] for level, r in reach.items()},
        "high": {level: [most, most + r] for level, r in reach.items()},
    }


def disc_law(radius: np.ndarray) -> dict[str, Any]:
    """The radius R of a disc with n points in it, or of a law uniform in the radius, exactly.

    All radii are below r with a chance of (r / R)^2n, or (r / R)^n. `disc_over_uniform` is the
    difference of the greatest 2 ln L.
    """
    n, most = len(radius), float(radius.max())
    disc = 2 * np.log(2 * radius / most**2).sum()
    uniform = 2 * np.log(np.full(n, 1 / most)).sum()
    return {
        "images": n,
        "radii": radius.tolist(),
        "disc": {k: [most, most * (1 - q) ** (-1 / (2 * n))] for k, q in LEVELS.items()},
        "uniform": {k: [most, most * (1 - q) ** (-1 / n)] for k, q in LEVELS.items()},
        "unbiased": {"disc": most * (1 + 1 / n) ** 0.5, "uniform": most * (1 + 1 / n)},
        "disc_over_uniform": float(disc - uniform),
    }


def _chi_square(fits: Fits) -> dict[str, Any]:
    each = {key: fit["reduced_chi_square"] for key, fit in fits.items()}
    found = np.array(list(each.values()))
    scatter = float(np.mean([fit["scatter"] for fit in fits.values()]))
    return {
        "each": each,
        "mean": float(found.mean()),
        "error_of_mean": scatter / len(found) ** 0.5,
        "scatter_expected": scatter,
    }


def _constants(fits: Fits) -> dict[str, Any]:
    """The preset's constants, as weighted means over images with their own chi-square."""
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
            "chi_square": float((weight * (v - mean) ** 2).sum()),
            "preset": expected,
            "degrees_of_freedom": len(v) - 1,
            "each": v.tolist(),
        }
    return found | {"chi_square": _chi_square(fits)}


def _smooth_laws(fits: Fits) -> dict[str, Any]:
    """Laws of lens, shear and source over all 18 images, in the files' own orientation."""
    angles = {}
    for name in ("shear_angle", "source_position_angle"):
        known = errors(fits, name) < WELL_KNOWN
        wrapped = ((values(fits, name) + np.pi / 2) % np.pi - np.pi / 2)[known]
        angles[name] = uniform_law(wrapped) | _against(wrapped, -TURN, 0.0)
    radius = np.hypot(values(fits, "source_x"), values(fits, "source_y"))
    return angles | {
        "einstein_radius": uniform_law(values(fits, "einstein_radius")),
        "shear": uniform_law(values(fits, "shear")),
        "source_axis_ratio": uniform_law(values(fits, "source_axis_ratio")),
        "source_offset": disc_law(radius),
    }


def _line(real: Fits, simulated: Fits, seed: int) -> dict[str, Any]:
    offset = np.hypot(values(real, "vortex_x"), values(real, "vortex_y"))
    preset = load_preset(PRESET)
    assert preset.vortex is not None
    laws = {"mass_fraction": preset.vortex.mass_fraction, "length": preset.vortex.length}
    drawn = {name: values(real, f"vortex_{name.removeprefix('mass_')}") for name in laws}
    uniform = {
        name: uniform_law(drawn[name]) | _against(drawn[name], *law.support)
        for name, law in laws.items()
    }
    return {
        "each": {
            key: {name: fit["parameters"][name] for name in (*PLACE, "vortex_angle")}
            | {"gain": fit["gain"]}
            for key, fit in real.items()
        },
        **uniform,
        "density": uniform_law(values(real, "vortex_density")),
        "offset": disc_law(offset) | {"preset": preset.vortex.offset.support[1]},
        "simulated": _line_control(simulated, seed),
    }


def _against(drawn: np.ndarray, low: float, high: float) -> dict[str, Any]:
    """How well draws agree with a uniform law, such as the preset's (Kolmogorov-Smirnov)."""
    p = float(kstest(drawn, "uniform", args=(low, high - low)).pvalue)
    return {"preset": [low, high], "p_value_preset": p}


def _line_control(fits: Fits, seed: int) -> dict[str, Any]:
    """The same fits of simulated images: (estimate - truth) / error, which should be standard."""
    pulls: dict[str, list[float]] = {name: [] for name in PLACE}
    for key, fit in fits.items():
        scene = draw_scenes(load_preset(PRESET), seed, int(key.rsplit("/", 1)[1]), 1)
        fraction = float(scene.vortex_mass / scene.halo_mass)
        truth = {name: float(getattr(scene, name)) for name in PLACE[:3]}
        truth |= {
            "vortex_fraction": fraction,
            "vortex_density": fraction / float(scene.vortex_length),
        }
        for name in PLACE:
            one = fit["parameters"][name]
            pulls[name].append((one["value"] - truth[name]) / one["error"])
    return {
        "images": len(fits),
        "chi_square": _chi_square(fits),
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


def _subhalos(real: Fits, simulated: Fits, seed: int) -> dict[str, Any]:
    """Point masses found in real and in simulated images by the identical search."""
    a, b = _found(real), _found(simulated)
    ratio = (len(a["fraction"]) / len(real)) / (len(b["fraction"]) / len(simulated))
    spread = float(np.hypot(_relative_error(a["number"]), _relative_error(b["number"])))
    return {
        "real": _told(a, real),
        "simulated": _told(b, simulated) | {"recovered": _recovered(simulated, seed)},
        "number_real_over_simulated": {"value": ratio, "error": ratio * spread},
        "p_value_fraction": float(ks_2samp(a["fraction"], b["fraction"]).pvalue),
        "p_value_radius": float(ks_2samp(a["radius"], b["radius"]).pvalue),
        "radius_disc_over_uniform": _disc_over_uniform(a["radius"], b["radius"]),
        "p_value_total_gain": float(ks_2samp(a["gain"], b["gain"]).pvalue),
    }


def _disc_over_uniform(real: np.ndarray, simulated: np.ndarray) -> dict[str, float]:
    """2 ln of the likelihood ratio of subhalos uniform in a disc to uniform in the radius.

    The simulated ones are uniform in the radius; what is found of them has the search's validation
    in it, which a factor of r turns into that of the other law. Its error is by bootstrap of both.
    """
    rng = np.random.default_rng(0)

    def ratio(r: np.ndarray, s: np.ndarray) -> float:
        weight, norm = np.maximum(r, INNER), np.maximum(s, INNER).mean()
        return float(2 * (np.log(weight) - np.log(norm)).sum())

    again = [
        ratio(rng.choice(real, len(real)), rng.choice(simulated, len(simulated)))
        for _ in range(1000)
    ]
    return {"value": ratio(real, simulated), "error": float(np.std(again))}


def _relative_error(number: np.ndarray) -> float:
    """Of the mean of counts, from their own spread."""
    return float(number.std(ddof=1) / len(number) ** 0.5 / number.mean())


def _found(fits: Fits) -> dict[str, np.ndarray]:
    fraction, radius = [], []
    for fit in fits.values():
        for i in range(1, len(fit["gains"]) + 1):
            one = {
                k: fit["parameters"][f"subhalo_{i}_{k}"]["value"] for k in ("fraction", "x", "y")
            }
            fraction.append(one["fraction"])
            radius.append(float(np.hypot(one["x"], one["y"])))
    return {
        "number": np.array([len(fit["gains"]) for fit in fits.values()]),
        "gain": np.array([fit["gain"] for fit in fits.values()]),
        "fraction": np.array(fraction),
        "radius": np.array(radius),
    }


def _told(found: dict[str, np.ndarray], fits: Fits) -> dict[str, Any]:
    number = found["number"]
    return {
        "images": len(fits),
        "chi_square": _chi_square(fits),
        "found_each": number.tolist(),
        "found_mean": float(number.mean()),
        "found_error": float(number.std(ddof=1) / len(number) ** 0.5),
        "fraction_quartiles": np.quantile(found["fraction"], (0.25, 0.5, 0.75)).tolist(),
        "fraction_most": float(found["fraction"].max()),
        "radius_quartiles": np.quantile(found["radius"], (0.25, 0.5, 0.75)).tolist(),
        "radius_most": float(found["radius"].max()),
        "gain_median": float(np.median(found["gain"])),
    }


def _recovered(fits: Fits, seed: int) -> dict[str, Any]:
    """Of the true subhalos by mass: the share with a found one within 0.2 arcsec."""
    edges = np.array([0.0, 3e-4, 1e-3, 3e-3, 1.1e-2])
    seen, all_ = np.zeros(len(edges) - 1), np.zeros(len(edges) - 1)
    for key, fit in fits.items():
        scene = draw_scenes(load_preset(PRESET), seed, int(key.rsplit("/", 1)[1]), 1)
        share = (scene.subhalo_mass[0] / scene.halo_mass[0]).numpy()
        x, y = scene.subhalo_x[0].numpy(), scene.subhalo_y[0].numpy()
        places = [
            [fit["parameters"][f"subhalo_{i}_{k}"]["value"] for k in "xy"]
            for i in range(1, len(fit["gains"]) + 1)
        ]
        for m, px, py in zip(share, x, y, strict=True):
            if m > 0:
                cell = int(np.searchsorted(edges, m)) - 1
                all_[cell] += 1
                seen[cell] += any(np.hypot(px - qx, py - qy) < 0.2 for qx, qy in places)
    return {
        "fraction_edges": edges.tolist(),
        "true": all_.tolist(),
        "share_recovered": (seen / np.maximum(all_, 1)).tolist(),
    }


def _false_alarms(fits: Fits) -> dict[str, Any]:
    """The gain of the best point mass where there is none."""
    gains = np.array([fit["gain"] for fit in fits.values()])
    return {
        "images": len(gains),
        "quantiles": {
            q: float(np.quantile(gains, float(q))) for q in ("0.5", "0.9", "0.95", "0.99", "1")
        },
        "above": {str(t): share(gains > t) for t in (12, 16, 20, 25)},
    }
