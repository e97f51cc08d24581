"""Speed and agreement of halometry and lenstronomy on the same scenes.

lenstronomy renders an image at a time, as in Model 1 of DeepLenseSim: an isothermal ellipsoid,
external shear, a list of point masses (25 subhalos, or a vortex as 100 of them), a Sersic source, a
Gaussian PSF and noise. Both render the same scenes on one core, in turns: those of `model_1`, and
of `model_1_as_run`, whose masses and noise are those of DeepLenseSim.

There are two rates of lenstronomy. `published` computes the Einstein radii from astropy's distances
for each image, as DeepLenseSim does. `lenstronomy` is given the radii, and includes rendering and
noise only. The rate of halometry includes drawing the scenes.

python benchmarks/against_lenstronomy.py --out results/against_lenstronomy.json
"""

from __future__ import annotations

import os

os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

import importlib.metadata
import math
import time
from typing import Any

import numpy as np
import psutil
import torch
from astropy import constants, units
from astropy.cosmology import FlatLambdaCDM
from lenstronomy.Data.imaging_data import ImageData
from lenstronomy.Data.psf import PSF
from lenstronomy.ImSim.image_model import ImageModel
from lenstronomy.LensModel.lens_model import LensModel
from lenstronomy.LightModel.light_model import LightModel
from lenstronomy.Util import image_util, param_util, util
from measuring import begin_record, create_parser, format_rate, quartiles, write_record

from halometry.simulation import Scene, draw_scenes, load_preset, observe, render
from halometry.simulation.preset import DEFAULT_CLASSES, Preset

VORTEX_POINTS = 100  # point masses of a vortex, as published
PRESETS = ("model_1", "model_1_as_run")
SEED = 20261125


class PublishedScene:
    """One scene of a preset, rendered by lenstronomy.

    Args:
        preset: for the detector.
        scene: one lens.
        points: number of point masses of a vortex.
        truncation: of the PSF, in sigma; 3 in DeepLenseSim, 4 in halometry.
    """

    def __init__(
        self, preset: Preset, scene: Scene, points: int = VORTEX_POINTS, truncation: float = 3
    ) -> None:
        self.spec, self.truncation = preset.image, truncation
        self.values = {k: np.asarray(v[0]) for k, v in scene.parameters().items()}
        self.masses = self._point_masses(scene, points)

    def _point_masses(self, scene: Scene, points: int) -> list[tuple[float, float, float]]:
        v = self.values
        if v["vortex_mass"] > 0:
            along = np.linspace(-1, 1, points) * v["vortex_length"] / 2
            radius = float(scene.vortex_radius[0]) / math.sqrt(points)
            x = v["vortex_x"] + along * np.cos(v["vortex_angle"])
            y = v["vortex_y"] + along * np.sin(v["vortex_angle"])
            return [(radius, a, b) for a, b in zip(x, y, strict=True)]
        there = v["subhalo_mass"] > 0
        radii = scene.subhalo_radius[0].numpy()[there]
        return list(zip(radii, v["subhalo_x"][there], v["subhalo_y"][there], strict=True))

    def expected(self) -> np.ndarray:
        """Counts a second before noise, (H, W)."""
        spec, v = self.spec, self.values
        e1, e2 = param_util.phi_q2_ellipticity(v["lens_position_angle"], v["lens_axis_ratio"])
        lens = [
            {"theta_E": v["einstein_radius"], "e1": e1, "e2": e2, "center_x": 0, "center_y": 0},
            {
                "gamma1": v["shear"] * np.cos(2 * v["shear_angle"]),
                "gamma2": v["shear"] * np.sin(2 * v["shear_angle"]),
            },
        ]
        lens += [{"theta_E": r, "center_x": x, "center_y": y} for r, x, y in self.masses]
        names = ["SIE", "SHEAR"] + ["POINT_MASS"] * len(self.masses)
        _, _, ra, dec, _, _, to_sky, _ = util.make_grid_with_coordtransform(
            spec.pixels, spec.pixel_scale, inverse=False
        )
        data = ImageData(
            background_rms=spec.background_rms,
            exposure_time=float(v["exposure"]),
            ra_at_xy_0=ra,
            dec_at_xy_0=dec,
            transform_pix2angle=to_sky,
            image_data=np.zeros((spec.pixels, spec.pixels)),
        )
        psf = PSF(
            psf_type="GAUSSIAN",
            fwhm=spec.psf_sigma * math.sqrt(8 * math.log(2)),
            pixel_size=spec.pixel_scale,
            truncation=self.truncation,
        )
        model = ImageModel(
            data,
            psf,
            lens_model_class=LensModel(names),
            source_model_class=LightModel(["SERSIC_ELLIPSE"]),
            kwargs_numerics={"supersampling_factor": 1, "supersampling_convolution": False},
        )
        return model.image(lens, [self._source()])

    def _source(self) -> dict[str, Any]:
        """The source in lenstronomy's convention, whose b_n is a cruder one."""
        v, n = self.values, float(self.values["source_index"])
        k = 2 * n - 1 / 3 + 4 / 405 / n + 46 / 25515 / n**2 + 131 / 1148175 / n**3
        k -= 2194697 / 30690717750 / n**4
        b = 1.9992 * n - 0.3271
        e1, e2 = param_util.phi_q2_ellipticity(v["source_position_angle"], v["source_axis_ratio"])
        brightness = v["source_brightness"] / self.spec.pixel_scale**2
        return {
            "amp": brightness * math.exp(k - b),
            "R_sersic": v["source_radius"] * (b / k) ** n,
            "n_sersic": n,
            "e1": e1,
            "e2": e2,
            "center_x": v["source_x"],
            "center_y": v["source_y"],
        }

    def image(self) -> np.ndarray:
        """Counts (H, W), with the noise of DeepLenseSim."""
        expected, exposure = self.expected(), self.values["exposure"]
        noisy = expected + image_util.add_poisson(expected, exp_time=exposure)
        noisy += image_util.add_background(expected, self.spec.background_rms)
        return np.random.poisson((exposure * noisy).clip(min=0))  # noqa: NPY002


def published_radius(mass: Any, z_lens: float, z_source: float) -> Any:
    """Compute Einstein radii in arcsec from astropy's distances, as DeepLenseSim does."""
    cosmology = FlatLambdaCDM(H0=70, Om0=0.3, Ob0=0.05)
    to_lens = cosmology.luminosity_distance(z_lens).to(units.m)
    to_source = cosmology.luminosity_distance(z_source).to(units.m)
    scale = 4 * constants.G * mass * constants.M_sun / constants.c**2
    return (np.sqrt(scale * (to_source - to_lens) / (to_lens * to_source)) * 206265).value


def seconds_published(preset: Preset, kind: int, start: int, count: int) -> tuple[float, float]:
    """Seconds an image of lenstronomy, with the computation of Einstein radii and without."""
    scenes = draw_scenes(preset, SEED, start, 3 * count).rows(slice(kind, None, 3))
    begin = time.perf_counter()
    for i in range(count):
        published_radius(scenes.halo_mass[i].numpy(), 0.5, 1.0)
        if kind:  # once more for all its substructure
            published_radius(np.full(VORTEX_POINTS if kind == 2 else 25, 1e8), 0.5, 1.0)
    found = time.perf_counter()
    for i in range(count):
        PublishedScene(preset, scenes.rows(slice(i, i + 1))).image()
    end = time.perf_counter()
    return (end - begin) / count, (end - found) / count


def seconds_halometry(preset: Preset, kind: int, start: int, count: int) -> float:
    """Seconds an image of halometry for one class; the draws are those of three classes."""
    begin = time.perf_counter()
    scenes = draw_scenes(preset, SEED, start, 3 * count)
    drawn = time.perf_counter()
    with torch.no_grad():
        expected = render(scenes.rows(slice(kind, None, 3)).to("cpu", torch.float32), preset)
    observe(expected, preset, SEED, start, scenes.background_rms[kind::3])
    return ((drawn - begin) / 3 + time.perf_counter() - drawn) / count


def rates(preset: Preset, rounds: int, theirs: int, ours: int) -> dict[str, Any]:
    """Measure images per second and their ratios for each class, in turns."""
    measured: dict[str, dict[str, list[float]]] = {name: {} for name in DEFAULT_CLASSES}
    for k in range(rounds + 1):  # the first warms up
        for kind, name in enumerate(DEFAULT_CLASSES):
            whole, rendering = seconds_published(preset, kind, 3 * theirs * k, theirs)
            fast = seconds_halometry(preset, kind, 3 * ours * k, ours)
            values = {
                "published": 1 / whole,
                "lenstronomy": 1 / rendering,
                "halometry": 1 / fast,
                "ratio_to_published": whole / fast,
                "ratio_to_lenstronomy": rendering / fast,
            }
            for key, value in values.items() if k else ():
                measured[name].setdefault(key, []).append(value)
    return {
        name: {key: quartiles(values) for key, values in by_way.items()}
        for name, by_way in measured.items()
    }


def differences(preset: Preset, count: int) -> dict[str, Any]:
    """Differences between noiseless images of the same scenes: median and largest, by class."""
    scenes = draw_scenes(preset, SEED, 0, 3 * count)
    with torch.no_grad():
        single = render(scenes.to("cpu", torch.float32), preset).double()
        double = render(scenes, preset)
    result: dict[str, Any] = {"images_each": count}
    for kind, name in enumerate(DEFAULT_CLASSES):
        apart: dict[str, dict[str, list[float]]] = {}
        for i in range(kind, 3 * count, 3):
            scene = scenes.rows(slice(i, i + 1))
            for points in (VORTEX_POINTS, 1000, 10_000) if name == "vort" else (0,):
                reference = PublishedScene(preset, scene, points, truncation=4).expected()
                reference *= float(scene.exposure)
                for precision, images in (("float32", single), ("float64", double)):
                    key = f"{precision}, {points} points" if points else precision
                    for measure, value in _apart(images[i, 0].numpy(), reference).items():
                        apart.setdefault(key, {}).setdefault(measure, []).append(value)
        result[name] = {
            key: {
                measure: {"median": float(np.median(values)), "worst": max(values)}
                for measure, values in by_measure.items()
            }
            for key, by_measure in apart.items()
        }
    return result


def _apart(image: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    difference = image - reference
    return {
        "norm": float(np.linalg.norm(difference) / np.linalg.norm(reference)),
        "largest_of_peak": float(np.abs(difference).max() / reference.max()),
    }


def main() -> None:
    parser = create_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--images", type=int, default=32, help="for the differences, a class")
    options = parser.parse_args()
    process = psutil.Process()
    core = None
    if hasattr(process, "cpu_affinity"):
        core = process.cpu_affinity()[-1]
        process.cpu_affinity([core])
    torch.set_num_threads(1)
    record = begin_record("150 px, images/s on one core, noise included: median and quartiles")
    record |= {
        "core": core,
        "lenstronomy": importlib.metadata.version("lenstronomy"),
        "seed": SEED,
        "rounds": options.rounds,
        "presets": {},
    }
    for name in PRESETS:
        preset = load_preset(name)
        record["presets"][name] = {
            "rates": rates(preset, options.rounds, theirs=4, ours=48),
            "differences": differences(preset, options.images),
        }
    record["rows"] = table_rows(record["presets"])
    write_record(record, options.out)


def table_rows(presets: dict[str, Any]) -> list[list[str]]:
    """Rows of the table."""
    ways = ("halometry", "published", "ratio_to_published", "lenstronomy", "ratio_to_lenstronomy")
    rows = [["preset", "class", *(way.replace("_", " ") for way in ways), "difference"]]
    for preset, measured in presets.items():
        for name, rate in measured["rates"].items():
            cells = [format_rate(rate[way]) for way in ways]
            apart = next(iter(measured["differences"][name].values()))["norm"]
            cells.append(f"{apart['median']:.0e}, worst {apart['worst']:.0e}")
            rows.append([preset, name, *cells])
    return rows


if __name__ == "__main__":
    main()
