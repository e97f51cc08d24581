"""Learning curves on a folder in the published layout: plain, with `--preset`, and on mass maps.

    python research/folder_learning_curves.py --work runs/curves

The images are simulated from `common_test_1` and written as the community's classification set is:
`dataset/train/CLASS/N.npy` and `dataset/val/CLASS/N.npy`, min-max scaled float64 (1, 150, 150).
halometry then gets the folder alone. It does not know the true lenses. Three ways of training are
compared for each network: on the images, on the images with `preset="common_test_1"` (online
simulations, curriculum and auxiliary mass map), and on mass maps. All test on the same images.
Mass maps are made for the first images of each class only, since a map takes 0.3 s of one core.
Repeat the command to continue where it was stopped.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import halometry
from halometry.compare.compare import read_history
from halometry.datasets.dataset import LabeledImages
from halometry.evaluation.evaluate import Evaluation, evaluate
from halometry.io import header
from halometry.log import logger, track
from halometry.provenance import command, machine, versions

PRESET = "common_test_1"
TRAIN, TEST = 27_000, 7_500
ARMS: dict[str, dict[str, Any]] = {
    "images": {},
    "images, with preset": {"preset": PRESET},
    "mass maps": {},
}


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for images and runs")
    parser.add_argument("--results", type=Path, default=Path("results/folder_learning_curves.json"))
    parser.add_argument("--backbones", nargs="+", default=["d4net", "resnet18"])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--epochs", type=int, default=2, help="epochs over the 27,000 images")
    parser.add_argument("--mapped-train", type=int, default=9_000, help="training images mapped")
    parser.add_argument("--mapped-test", type=int, default=3_000, help="test images of all arms")
    parser.add_argument("--mapped-epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=2711)
    options = parser.parse_args()
    plain = write_folder(options.work, options.seed)
    fewer = link_folder(plain, options.mapped_train, options.mapped_test)
    mapped = options.work / "mapped.h5"
    if "mass maps" in options.arms and not mapped.exists():  # a file that stays
        halometry.map_mass(fewer, mapped, preset=PRESET, workers="auto")
    record = {
        **header("measurement"),
        "what": "validation AUC against images seen, for a folder in the published layout",
        "command": command(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "machine": machine("cpu"),
        "seed": options.seed,
        "preset": PRESET,
        "arms": [],
    }
    for backbone in options.backbones:
        for name in options.arms:
            is_mapped = name == "mass maps"
            run = halometry.train(
                "classification",
                mapped if is_mapped else plain,
                backbone,
                options.work / "runs" / f"{backbone}_{name.replace(', ', '_').replace(' ', '_')}",
                overrides={
                    "epochs": options.mapped_epochs if is_mapped else options.epochs,
                    "val_checks_per_epoch": 2,
                },
                **ARMS[name],
            )
            evaluation = evaluate(run, mapped if is_mapped else test_images(fewer))
            record["arms"].append(_arm(name, backbone, evaluation))
            options.results.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def write_folder(work: Path, seed: int) -> Path:
    """Simulate the images and write them in the published layout, once."""
    store, folder = work / "images.h5", work / "dataset"
    if (work / "dataset.complete").exists():
        return folder
    halometry.simulate(PRESET, TRAIN + TEST, seed=seed, n_test=TEST, out=store, workers="auto")
    data = halometry.open_dataset(store)
    assert data.class_names is not None
    assert data.roles is not None
    for name in data.class_names:
        for part in ("train", "val"):
            (folder / part / name).mkdir(parents=True, exist_ok=True)
    with track(f"writing {folder}", len(data)) as progress:
        for row in range(len(data)):
            image = np.asarray(data.images[np.array([row])])[0].astype(np.float64)
            image = (image - image.min()) / np.ptp(image)
            part = "train" if data.roles[row] == "train" else "val"
            np.save(folder / part / data.class_names[data.labels[row]] / f"{row}.npy", image)
            progress.advance(1)
    (work / "dataset.complete").touch()
    return folder


def link_folder(folder: Path, train: int, test: int) -> Path:
    """Folder with links to the first images of each class."""
    fewer = folder.with_name(f"{folder.name}_{train}_{test}")
    for part, count in (("train", train), ("val", test)):
        classes = sorted(path for path in (folder / part).iterdir() if path.is_dir())
        for source in classes:
            target = fewer / part / source.name
            target.mkdir(parents=True, exist_ok=True)
            files = sorted(source.iterdir(), key=lambda path: int(path.stem))
            for file in files[: count // len(classes)]:
                if not (target / file.name).exists():
                    (target / file.name).symlink_to(file.resolve())
    return fewer


def test_images(folder: Path) -> LabeledImages:
    """The images on which all runs are tested: the `val/` part of the smaller folder."""
    data = halometry.open_dataset(folder)
    assert data.roles is not None
    rows = np.flatnonzero(data.roles == "test")
    return replace(
        data,
        images=data.images[rows],
        labels=data.labels[rows],
        names=[data.names[row] for row in rows],
        roles=data.roles[rows],
    )


def _arm(name: str, backbone: str, evaluation: Evaluation) -> dict[str, Any]:
    run = evaluation.run
    assert isinstance(run, halometry.runs.run.Run)
    auc = evaluation.metrics["auc"]
    training = run.training_metrics()
    logger.info(f"{backbone}, {name}: test AUC {auc}")
    return {
        "name": name,
        "network": backbone,
        "inputs": "maps" if run.config.data.mass_map_preset else "raw",
        "train_images": len(run.split().train),
        "epochs": run.config.recipe.epochs,
        "online_images": training.get("online_images"),
        "seconds": training.get("seconds"),
        "history": [{"images": row.images, "val_auc": row.val_metric} for row in read_history(run)],
        "test_images": len(evaluation.truth),
        "test_auc": {"value": auc.value, "low": auc.low, "high": auc.high},
    }


if __name__ == "__main__":
    main()
