"""Images a second in training: a published loop, `halometry.train`, and an upper limit.

    python benchmarks/training_loop.py --out results/training_loop.json

All run on the same simulated images, in processes of their own, in turns:

- published: the loop of published notebooks. A dataset loads one .npy file a sample, resizes it to
  224 pixels and repeats it to three channels. A DataLoader without workers, batches of 32, Adam,
  float32, channels first; loss and running accuracy are read in each step. The files were just
  written, so the system may hold them in memory.
- default: `halometry.train` with the default recipe. A round is an epoch with all that it costs:
  online simulation, loading, augmentation, EMA, logging, validation on a ninth as many images,
  writing weights and checkpoint. Images and seconds are those of the run's `metrics.json`.
- stored: the same without online simulation.
- ceiling: network, precision, memory format, threads and optimizer of `stored`, on one preprocessed
  batch that never changes.

The interval of a ratio is a bootstrap over rounds.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import (
    Contender,
    Round,
    begin_record,
    create_parser,
    format_rate,
    median_ratio,
    quartiles,
    run_in_turns,
    write_record,
)
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

import halometry
from halometry.datasets.store import open_store
from halometry.log import console
from halometry.models import Network
from halometry.models.preprocessing import Preprocessing
from halometry.runs.execution import pinned_threads
from halometry.runs.run import METRICS
from halometry.simulation import load_preset
from halometry.training.memory import keep_freed_memory
from halometry.training.module import TrainingModule
from halometry.training.sampling import EpochSampler, TrainingBatches

MIN_RATIOS = {"default / published": 2.5, "stored / ceiling": 0.90, "default / ceiling": 0.75}
WAYS = ("published", "default", "stored", "ceiling")
PUBLISHED_SIZE, PUBLISHED_BATCH = 224, 32
SEED = 20261125


class PublishedDataset(Dataset[tuple[Tensor, int]]):
    """The published dataset: files `CLASS/N.npy`, each read when its sample is needed."""

    def __init__(self, root: Path) -> None:
        self.files = sorted(root.glob("*/*.npy"))
        self.classes = sorted({file.parent.name for file in self.files})

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        file = self.files[index]
        image = torch.from_numpy(np.load(file)).float()
        size = (PUBLISHED_SIZE, PUBLISHED_SIZE)
        image = functional.interpolate(image[None], size, mode="bilinear", align_corners=False)[0]
        return image.repeat(3, 1, 1), self.classes.index(file.parent.name)


def published_loop(name: str, folder: Path, seconds: float) -> Round:
    """Prepare the published loop."""
    torch.manual_seed(SEED)
    loader = DataLoader(
        PublishedDataset(folder / "train"), batch_size=PUBLISHED_BATCH, shuffle=True
    )
    net = Network(name, channels=3, n_outputs=3).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    criterion = nn.CrossEntropyLoss()

    def steps() -> Iterator[int]:
        while True:
            running_loss, correct, total = 0.0, 0, 0
            for images, labels in loader:
                optimizer.zero_grad()
                outputs = net(images)
                loss = criterion(outputs, labels)
                loss.backward()
                optimizer.step()
                running_loss += loss.item() * len(images)
                correct += (outputs.argmax(1) == labels).sum().item()
                total += len(labels)
                yield len(images)

    iterator = steps()
    return lambda: time_steps(lambda: next(iterator), seconds)


def halometry_loop(name: str, folder: Path, way: str, changed: dict[str, Any]) -> Round:
    """Prepare `halometry.train` with overrides of the default recipe."""
    console.quiet = True
    overrides = changed | {"epochs": 1}

    def one_round() -> dict[str, Any]:
        run = halometry.train(
            "classification", folder / "images.h5", name, folder / f"{name}-{way}",
            overrides=overrides, seed=SEED, device="cpu", overwrite=True,
        )  # fmt: skip
        execution = run.config.execution
        metrics = json.loads((run.path / METRICS).read_text(encoding="utf-8"))
        return {key: metrics[key] for key in ("images", "seconds")} | execution.model_dump()

    return one_round


def fixed_batch_loop(name: str, folder: Path, seconds: float) -> Round:
    """Prepare steps on one batch, with the settings of the run `stored`."""

    def one_round() -> dict[str, Any]:
        torch.manual_seed(SEED)
        config = halometry.load_run(folder / f"{name}-stored").config
        execution = config.execution
        with open_store(folder / "images.h5") as store:
            rows = slice(config.recipe.batch_size)
            raw, labels = store["images"][rows], torch.from_numpy(store["labels"][rows])
        images = Preprocessing(config.preprocessing)(torch.from_numpy(raw))
        images = images.contiguous(memory_format=execution.memory_format)
        net = config.build_network().to(memory_format=execution.memory_format).train()
        sampler = EpochSampler(len(images), len(images), SEED)
        batches = TrainingBatches(images, labels, np.arange(len(images)), sampler)
        module = TrainingModule(config.build_predictor(net), config, batches)
        optimizer = module.configure_optimizers()["optimizer"]

        def step() -> int:
            optimizer.zero_grad()
            with execution.autocast():
                outputs = net(images)
            functional.cross_entropy(outputs.float(), labels).backward()
            optimizer.step()
            return len(images)

        with keep_freed_memory(), pinned_threads(execution.threads):
            step()  # allocates
            return time_steps(step, seconds)

    return one_round


def time_steps(step: Callable[[], int], seconds: float) -> dict[str, Any]:
    """Repeat a step for some seconds, twice at least; return images and seconds."""
    images = steps = 0
    start = time.perf_counter()
    while steps < 2 or time.perf_counter() - start < seconds:
        images += step()
        steps += 1
    return {"images": images, "seconds": time.perf_counter() - start}


def write_images(folder: Path, preset: str, count: int) -> None:
    """Write images as a store and, min-max scaled, as published files."""
    store = halometry.simulate(preset, count, seed=SEED, out=folder / "images.h5", device="cpu")
    with open_store(store) as file:
        for k, (image, label) in enumerate(zip(file["images"], file["labels"], strict=True)):
            place = folder / "train" / str(label)
            place.mkdir(parents=True, exist_ok=True)
            image = image.astype(np.float64)
            np.save(place / f"{k}.npy", (image - image.min()) / (image.max() - image.min()))


def measure(name: str, folder: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure all rates of one network, and their ratios."""
    ways = {
        "published": Contender(published_loop, name, folder, seconds),
        "default": Contender(halometry_loop, name, folder, "default", {}),
        "stored": Contender(halometry_loop, name, folder, "stored", {"online_fraction": 0}),
        "ceiling": Contender(fixed_batch_loop, name, folder, seconds),
    }
    results = run_in_turns(ways, rounds)
    rates = {way: [one["images"] / one["seconds"] for one in all_] for way, all_ in results.items()}
    last = results["stored"][-1]
    return {
        "execution": {key: last[key] for key in ("precision", "channels_last", "threads")},
        "images_per_second": {way: quartiles(values) for way, values in rates.items()},
        "ratios": {pair: _ratio(rates, pair) for pair in MIN_RATIOS},
        "rounds": rates,
    }


def _ratio(rates: dict[str, list[float]], pair: str) -> dict[str, float]:
    """Ratio of the rates of a pair of ways, written `OVER / UNDER`."""
    over, under = pair.split(" / ")
    return median_ratio(rates[over], rates[under])


def main() -> None:
    parser = create_parser(__doc__)
    parser.add_argument("--networks", nargs="+", default=["mobilenetv3_small", "resnet18"])
    parser.add_argument("--preset", default="common_test_1", help="of the images")
    parser.add_argument("--images", type=int, default=4000, help="of which 81 %% train ours")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument(
        "--seconds", type=float, default=5, help="of a round of the published loop and the ceiling"
    )
    options = parser.parse_args()
    shape = load_preset(options.preset).image.shape
    what = f"training, images of {shape[1]} x {shape[2]} pixels a second, median and quartiles"
    record = begin_record(what) | {"preset": options.preset, "images": options.images, "seed": SEED}
    record |= {"rounds": options.rounds, "bars": MIN_RATIOS, "networks": {}}
    with tempfile.TemporaryDirectory(prefix="halometry-") as folder:
        write_images(Path(folder), options.preset, options.images)
        for name in options.networks:
            measured = measure(name, Path(folder), options.rounds, options.seconds)
            record["networks"][name] = measured
    record["rows"] = [
        ["network", *WAYS, *(f"{pair} (aim {bar:g})" for pair, bar in MIN_RATIOS.items())],
        *(
            [name]
            + [format_rate(one["images_per_second"][way]) for way in WAYS]
            + [format_rate(one["ratios"][pair]) for pair in MIN_RATIOS]
            for name, one in record["networks"].items()
        ),
    ]
    write_record(record, options.out)


if __name__ == "__main__":
    main()
