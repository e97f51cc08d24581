"""Numbers that a change of names or layout must not change: record them, or compare with a record.

    python research/reference_numbers.py --data FOLDER --out results/reference_numbers.json
    python research/reference_numbers.py --data FOLDER --check results/reference_numbers.json

Recorded are the images of every preset (SHA-256 of their bytes), the predictions of all bundled
weights, fits, mass maps and sampled masses of published images, and the metrics
of one small training run of each task. FOLDER holds the published images as `no/1.npy`, ...

Images must be equal to the byte, all other numbers within TOLERANCE.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from halometry.config import Task
from halometry.errors import ReadError, UnavailableError
from halometry.evaluation.evaluate import evaluate
from halometry.evaluation.predict import predict
from halometry.evaluation.predictions import Prediction
from halometry.io import read_json, write_json
from halometry.lensfit.command import fit_lens
from halometry.provenance import command, provenance
from halometry.resources import list_weights
from halometry.runs.run import load_run
from halometry.simulation import list_presets, load_preset
from halometry.simulation.render import sample
from halometry.training.train import train

IMAGES = 60  # of each preset
SIMULATED = 200  # images that each run predicts
SIMULATED_SEED = 20_261_130
DIGITS = 9
TOLERANCE = 1e-6  # relative; absolute for numbers below one
FITTED = ("no/1.npy", "no/2.npy", "sphere/1.npy", "sphere/2.npy", "vort/1.npy", "vort/2.npy")
PARTS = ("images", "predictions", "fits", "training")


def text(values: Any) -> str:
    """Values of any shape in one line, with `DIGITS` significant digits."""
    return " ".join(f"{v:.{DIGITS}g}" for v in np.asarray(values, dtype=float).ravel())


def images() -> dict[str, str]:
    """SHA-256 of the first images of each preset; presets whose packages are missing say so."""
    found = {}
    for name in list_presets():
        try:
            pixels, scene = sample(load_preset(name), seed=1, start=0, count=IMAGES)
        except UnavailableError as error:
            found[name] = f"unavailable: {error}"
            continue
        digest = hashlib.sha256(pixels.numpy().tobytes())
        digest.update(scene.labels.numpy().tobytes())
        found[name] = digest.hexdigest()
    return found


def predictions(data: Path) -> dict[str, dict[str, str]]:
    """Predictions of all bundled runs for published and for simulated images."""
    found = {}
    published = sorted(data.glob("*/*.npy"))
    for name in list_weights():
        run = load_run(name)
        preset = load_preset(name.split("/")[0])
        simulated = sample(preset, SIMULATED_SEED, 0, SIMULATED)[0].numpy()
        found[name] = {
            "published": _predicted(predict(run, published, workers=2)),
            "simulated": _predicted(predict(run, simulated, workers=2)),
        }
    return found


def _predicted(predictions: list[Prediction]) -> str:
    values: list[float] = []
    for prediction in predictions:
        values += list(prediction.probabilities.values())
        values += [] if prediction.f_sub is None else [prediction.f_sub]
        values += [end for ends in prediction.intervals.values() for end in ends]
        if prediction.ood is not None:
            values.append(prediction.ood.p_value)
    return text(values)


def fits(data: Path) -> dict[str, dict[str, str]]:
    """Fits with a mass map, with a vortex, with point masses, and with sampled subhalos."""
    found = {}
    files = [data / name for name in FITTED]
    ways: dict[str, dict[str, Any]] = {
        "smooth": {"mass_map": True},
        "line": {"vortex": True},
        "points": {"subhalos": 2},
        "sampled": {"subhalo_method": "mcmc"},
    }
    for way, options in ways.items():
        for file, made in zip(
            FITTED, fit_lens(files, "common_test_1", figures=False, **options), strict=True
        ):
            if isinstance(made, ReadError):
                raise made
            values = [v for e in made.parameters for v in (e.value, e.error)]
            values += [made.reduced_chi2, made.deviance]
            if made.convergence is not None:
                values += made.convergence[::9, ::9].ravel().tolist()
            if made.subhalo_posterior is not None:
                values += made.subhalo_posterior.mass_fractions[:50].tolist()
            found[f"{way} {file}"] = {"values": text(values)}
    return found


def training() -> dict[str, dict[str, str]]:
    """Metrics of one small run of each task, with precision, memory format and threads fixed."""
    from halometry.datasets.generate import simulate

    found = {}
    tasks: tuple[tuple[Task, str], ...] = (
        ("classification", "demo_classification"),
        ("regression", "demo_mass"),
    )
    fixed = {"epochs": 2, "precision": "float32", "channels_last": True}
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        for task, preset in tasks:
            store = simulate(preset, 300, seed=3, out=home / f"{preset}.h5", n_test=60)
            for recipe in ("default", "baseline"):
                more = {"size": 48, "pretrained": False} if recipe == "baseline" else {}
                run = train(
                    task,
                    store,
                    "d4net" if recipe == "default" else "test_resnet",
                    home / f"{task}-{recipe}",
                    recipe=recipe,
                    overrides=fixed | more,
                    seed=5,
                    device="cpu",
                )
                made = evaluate(run, store)
                found[f"{task} {recipe}"] = {
                    name: text(metric.value) for name, metric in made.metrics.items()
                }
    return found


def differences(recorded: Any, measured: Any, where: str = "") -> list[str]:
    """Differences of two records that exceed `TOLERANCE`, a line each."""
    if isinstance(recorded, dict):
        if recorded.keys() != measured.keys():
            return [f"{where}: {sorted(recorded.keys() ^ measured.keys())} only in one"]
        return [
            line
            for key in recorded
            for line in differences(recorded[key], measured[key], f"{where}/{key}")
        ]
    try:
        pairs = list(zip(map(float, recorded.split()), map(float, measured.split()), strict=True))
    except ValueError:  # a checksum, or other numbers of values
        return [] if recorded == measured else [f"{where}: {recorded} recorded, {measured} now"]
    errors = [abs(a - b) / max(1.0, abs(a)) for a, b in pairs]
    differs = [e for e, (a, b) in zip(errors, pairs, strict=True) if str(a) != str(b)]
    wrong = [e for e in differs if not e <= TOLERANCE]
    return [f"{where}: {len(wrong)} values differ, by {wrong[0]:.3g}"] if wrong else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="published images, in classes")
    parser.add_argument("--out", type=Path, help="the record to write")
    parser.add_argument("--check", type=Path, help="the record to compare with")
    parser.add_argument("--parts", default=",".join(PARTS), help="which, separated by commas")
    options = parser.parse_args()
    torch.set_num_threads(1)
    makers = {
        "images": images,
        "predictions": lambda: predictions(options.data),
        "fits": lambda: fits(options.data),
        "training": training,
    }
    record = {part: makers[part]() for part in options.parts.split(",")}
    if options.out:
        about = {"command": command(), **provenance()}
        write_json(options.out, "measurement", about | record)
    if options.check:
        recorded = read_json(options.check, "measurement")
        found = differences({part: recorded[part] for part in record}, record)
        print("\n".join(found) or "no number differs")
        raise SystemExit(bool(found))


if __name__ == "__main__":
    main()
