"""Parameters of the simulation behind the images of the ML4SCI hackathon of 2020.

    python research/hackathon_2020.py --data ../shared/data/hackathon_2020/no_sub

1.  Single images are fitted by least squares with the package's renderer. Fits with free constants
    of the lens and the profiles give these constants. Fits with the constants of the preset give
    the distributions of the other parameters, which a Kolmogorov-Smirnov test compares with those
    of the preset.
2.  The noise, most of which compression removes, is estimated from the corners of all images
    together (`hackathon_noise.py`), the width of the PSF from the profile of the center.

The model of a pixel is the mean of |light + noise|; the standard deviation of the noise is fitted.
Residuals are weighted by the error of the compression at each brightness. Only the first images by
name are used; the last ones are for `two_sample_test.py`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hackathon_images import load_one_class, read, simulate
from hackathon_noise import noise_distribution, psf_width
from scipy.optimize import OptimizeResult, least_squares
from scipy.special import erf
from scipy.stats import kstest

from halometry.io import write_json
from halometry.provenance import machine, versions
from halometry.simulation import Preset, Scene, draw_scenes, render

EDGE = 15  # pixels without light on each side, which are left out
STEP = 1e-4  # of numerical derivatives
MAX_RESIDUAL = 1.2  # weighted rms residual of a good fit
BRIGHTNESS = (0, 5, 14, 30, 55, 90, 135, 255)
COMPRESSION_RMS = (0.38, 0.75, 0.99, 1.28, 1.68, 2.03, 2.42, 2.6)  # at that brightness
START = {
    "shear_1": 0.1,
    "shear_2": -0.01,
    "source_x": 0.0,
    "source_y": 0.0,
    "source_e1": 0.05,
    "source_e2": -0.003,
    "source_brightness": 18.0,
    "lens_e1": 0.1,
    "lens_e2": -0.01,
    "lens_brightness": 24.65,
    "noise": 1.3,
}
CONSTANTS = {
    "einstein_radius": 1.2,
    "source_radius": 0.5,
    "source_index": 1.5,
    "lens_light_radius": 0.5,
    "lens_light_index": 2.5,
}


@dataclass(frozen=True)
class Fit:
    """Result for one image: values, their errors, and the weighted rms of the residuals."""

    values: Mapping[str, float]
    errors: Mapping[str, float]
    residual: float


class Model:
    """Images as functions of the free parameters."""

    def __init__(self, preset: Preset, free: Sequence[str]) -> None:
        self.preset, self.free = preset, tuple(free)
        self.template = draw_scenes(preset, 0, 0, 1)

    def scene(self, rows: np.ndarray) -> Scene:
        """Scenes with parameters (B, P), in the order of `free`."""
        count = len(rows)
        p = {name: torch.full((count,), v) for name, v in (START | CONSTANTS).items()}
        p |= {name: torch.from_numpy(rows[:, k]) for k, name in enumerate(self.free)}
        batch = self.template.rows(torch.zeros(count, dtype=torch.int64))
        source, lens = (_ellipse(p[f"{of}_e1"], p[f"{of}_e2"]) for of in ("source", "lens"))
        values: dict[str, Any] = {name: p[name] for name in CONSTANTS}
        return replace(
            batch,
            shear=torch.hypot(p["shear_1"], p["shear_2"]),
            shear_angle=0.5 * torch.atan2(p["shear_2"], p["shear_1"]),
            source_x=p["source_x"],
            source_y=p["source_y"],
            source_axis_ratio=source[0],
            source_position_angle=source[1],
            source_brightness=p["source_brightness"],
            lens_light_axis_ratio=lens[0],
            lens_light_position_angle=lens[1],
            lens_light_brightness=p["lens_brightness"],
            **values,
        ).to("cpu", torch.float64)

    def images(self, rows: np.ndarray) -> np.ndarray:
        """Mean of |light + noise| in gray levels (B, H, W), without the edges."""
        with torch.no_grad():
            light = render(self.scene(rows), self.preset)[:, 0].numpy()
        return _folded(light[:, EDGE:-EDGE, EDGE:-EDGE], rows[:, self.free.index("noise")])


def _ellipse(e1: torch.Tensor, e2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    size = torch.hypot(e1, e2).clamp(max=0.9)
    return (1 - size) / (1 + size), 0.5 * torch.atan2(e2, e1)


def _folded(light: np.ndarray, rms: np.ndarray) -> np.ndarray:
    """Mean of the absolute value of a normal variable (Leone, Nelson & Nottingham 1961, eq. 2)."""
    sigma = np.hypot(rms, 0.01)[:, None, None]
    ratio = light / (np.sqrt(2) * sigma)
    return sigma * np.sqrt(2 / np.pi) * np.exp(-(ratio**2)) + light * erf(ratio)


def fit(image: np.ndarray, model: Model, starts: np.ndarray) -> Fit:
    """Fit one image from the best few of the starts (S, P)."""
    inner = image[EDGE:-EDGE, EDGE:-EDGE].astype(np.float64)
    weight = 1 / np.interp(inner, BRIGHTNESS, COMPRESSION_RMS)

    def residuals(values: np.ndarray) -> np.ndarray:
        return ((model.images(values[None])[0] - inner) * weight).ravel()

    def derivatives(values: np.ndarray) -> np.ndarray:
        rows = np.concatenate([values[None], values + STEP * np.eye(len(values))])
        images = (model.images(rows) * weight).reshape(len(rows), -1)
        return (images[1:] - images[0]).T / STEP

    costs = [np.mean(residuals(start) ** 2) for start in starts]
    best: OptimizeResult | None = None
    for k in np.argsort(costs)[:3]:
        found = least_squares(residuals, starts[k], derivatives, x_scale="jac", max_nfev=25)
        best = found if best is None or found.cost < best.cost else best
        if np.sqrt(2 * best.cost / inner.size) < MAX_RESIDUAL:
            break
    assert best is not None
    residual = float(np.sqrt(2 * best.cost / inner.size))
    covariance = np.linalg.pinv(best.jac.T @ best.jac) * residual**2
    errors = np.sqrt(np.diag(covariance))
    return Fit(
        dict(zip(model.free, best.x.tolist(), strict=True)),
        dict(zip(model.free, errors.tolist(), strict=True)),
        residual,
    )


def starting_points(free: Sequence[str]) -> np.ndarray:
    """Parameters with many positions of the source, (S, P)."""
    first = START | CONSTANTS
    points = []
    for offset in (0.02, 0.3, 0.6, 0.9, 1.15):
        for angle in np.arange(0, 2 * np.pi, np.pi / 4):
            for shear in (0.07, 0.22):
                place = {"source_x": offset * np.cos(angle), "source_y": offset * np.sin(angle)}
                point = first | place | {"shear_1": shear}
                points.append([point[name] for name in free])
    return np.array(points)


def constants(images: np.ndarray, preset: Preset) -> dict[str, Any]:
    """Constants, free in each image: mean over images, its error, and standard deviation."""
    free = (*START, *CONSTANTS)
    fits = _fit_all(images, Model(preset, free), starting_points(free))
    good = [one for one in fits if one.residual < MAX_RESIDUAL]
    found: dict[str, Any] = {"images": len(fits), "good": len(good)}
    for name in CONSTANTS:
        values = np.array([one.values[name] for one in good])
        found[name] = {
            "mean": float(values.mean()),
            "error": float(values.std(ddof=1) / np.sqrt(len(values))),
            "std": float(values.std(ddof=1)),
        }
    return found


def parameter_distributions(images: np.ndarray, preset: Preset) -> dict[str, Any]:
    """Distributions of the other parameters, compared with the uniform ones of the preset."""
    fits = _fit_all(images, Model(preset, tuple(START)), starting_points(tuple(START)))
    columns = {name: np.array([one.values[name] for one in fits]) for name in START}
    lens, source = preset.lens_light, preset.source
    assert lens is not None
    assert lens.axis_ratio is not None
    assert source.axis_ratio is not None
    assert source.offset is not None
    assert source.brightness is not None
    source_q, lens_q = (_axis_ratio(columns, of) for of in ("source", "lens"))
    shear = np.hypot(columns["shear_1"], columns["shear_2"])
    angle = 0.5 * np.arctan2(columns["shear_2"], columns["shear_1"])
    angle = angle[shear > 0.08]  # not defined without shear
    compared = {
        "shear": (shear, preset.lens.shear.uniform),
        "shear_angle": (angle, preset.lens.shear_angle.uniform),
        "source_offset": (
            np.hypot(columns["source_x"], columns["source_y"]),
            source.offset.uniform,
        ),
        "source_axis_ratio": (source_q, source.axis_ratio.uniform),
        "lens_light_axis_ratio": (lens_q, lens.axis_ratio.uniform),
        "source_brightness": (columns["source_brightness"], source.brightness.uniform),
    }
    found: dict[str, Any] = {
        "images": len(fits),
        "median_residual": float(np.median([one.residual for one in fits])),
        "lens_brightness": _spread(columns["lens_brightness"]),
    }
    for name, (values, limits) in compared.items():
        assert limits is not None
        low, high = limits
        test = kstest(values, "uniform", (low, high - low))
        found[name] = _spread(values) | {
            "uniform": [low, high],
            "ks": float(test.statistic),
            "p": float(test.pvalue),
        }
    return found


def _spread(values: np.ndarray) -> dict[str, float]:
    quantiles = np.quantile(values, [0.02, 0.25, 0.5, 0.75, 0.98]).tolist()
    return dict(zip(("q02", "q25", "median", "q75", "q98"), quantiles, strict=True))


def _axis_ratio(columns: Mapping[str, np.ndarray], of: str) -> np.ndarray:
    size = np.hypot(columns[f"{of}_e1"], columns[f"{of}_e2"])
    return (1 - size) / (1 + size)


def _fit_all(images: np.ndarray, model: Model, starts: np.ndarray) -> list[Fit]:
    fits = []
    for k, image in enumerate(images):
        fits.append(fit(image, model, starts))
        if k % 10 == 9:
            print(f"  {k + 1} of {len(images)} images fitted", file=sys.stderr)
    return fits


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    started = time.perf_counter()
    preset = load_one_class(options.preset)
    files = sorted(Path(options.data).glob("*.jpg"))[: options.population]
    images, others = read(files), Path(options.data).parent / "sub"
    simulated = simulate(options.preset, options.free, options.seed, {})
    record = {
        "what": "parameters of the simulation from single fits and from all images together",
        "data": f"{Path(options.data).parent.name}/{Path(options.data).name}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": f"python research/hackathon_2020.py --data {options.data} --free {options.free}"
        f" --fixed {options.fixed} --population {options.population} --seed {options.seed}",
        "seed": options.seed,
        "noise": noise_distribution(images, options.seed),
        "psf": psf_width(images, options.preset, options.seed),
        "constants": constants(images[: options.free], preset),
        "constants_of_simulated": constants(simulated, preset),
        "constants_with_subhalos": constants(
            read(sorted(others.glob("*.jpg"))[: options.free]), preset
        ),
        "distributions": parameter_distributions(images[: options.fixed], preset),
        "seconds": round(time.perf_counter() - started, 1),
        "versions": versions(),
        "machine": machine(),
    }
    write_json(Path(options.out), "measurement", record)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="the folder of published images, no_sub")
    parser.add_argument("--preset", default="hackathon_2020")
    parser.add_argument("--out", default="results/hackathon_2020_recipe.json")
    parser.add_argument("--free", type=int, default=20, help="images fitted with free constants")
    parser.add_argument("--fixed", type=int, default=60, help="images fitted for the distributions")
    parser.add_argument("--population", type=int, default=2500, help="images for the noise")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
