"""Images a second of one GPU in training and inference, and the time to the published AUC.

    python benchmarks/gpu.py --out results/gpu.json

Rates are measured for each network, eager and compiled, in bfloat16, on simulated images that are
drawn, augmented and preprocessed on the device. Each rate is also given as a fraction of the peak,
which is the rate of products of large matrices on this device. A training step counts as three
forward passes. The time to an AUC is that of the published ResNet18 on simulated `common_test_1`:
`halometry.simulate` and then `halometry.train`, up to the first validation that reaches the AUC.

On a CPU it runs in small: --device cpu --size 48 --images 96 --seconds 1 --record-images 60
--no-compile.
"""

from __future__ import annotations

import csv
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measuring import begin_record, create_parser, format_rate, quartiles, write_record
from torch import Tensor
from torch.nn import functional

import halometry
from halometry.compare.cost import model_cost
from halometry.models import Network
from halometry.models.backbones import PLAIN_NAMES
from halometry.models.preprocessing import Preprocessing, PreprocessingConfig
from halometry.parallel import find_device
from halometry.runs.run import HISTORY
from halometry.simulation import load_preset, sample
from halometry.training.sampling import augment

PRESET, PUBLISHED_AUC = "common_test_1", 0.9871
PREPROCESSING = PreprocessingConfig(scale="minmax", stretch="sqrt")
MATRIX_SIDES = {"cuda": 8192, "cpu": 1024}  # of the matrices that measure the peak
ROUNDS = 7


def time_call(work: Callable[[], object], device: str) -> float:
    """Seconds that a call takes on a device."""
    start = time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def repeat(work: Callable[[], object], times: int) -> None:
    for _ in range(times):
        work()


def matrix_peak(device: str) -> float:
    """Multiply-accumulates per second of products of large matrices in bfloat16."""
    side = MATRIX_SIDES[device.partition(":")[0]]
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    time_call(lambda: a @ b, device)
    return side**3 / min(time_call(lambda: a @ b, device) for _ in range(ROUNDS))


def simulate_images(device: str, count: int, size: int) -> tuple[Tensor, Tensor]:
    """Simulate images (N, 1, size, size) in half precision, and labels, on a device."""
    images, scene = sample(load_preset(PRESET), 0, 0, count, device)
    if images.shape[-1] != size:
        images = functional.adaptive_avg_pool2d(images, size)
    return images.half(), scene.labels.to(device)


class NetworkBenchmark:
    """One network, eager or compiled, and images on its device."""

    def __init__(self, name: str, images: Tensor, labels: Tensor, batch: int, compiled: bool):
        self.images, self.labels = images, labels
        self.batch = min(batch, len(images))
        self.device = str(images.device)
        self.net = Network(name, 1, 3).to(self.device).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), fused=True)
        self.preprocess = Preprocessing(PREPROCESSING)
        self.forward = torch.compile(self.outputs) if compiled else self.outputs
        self.steps = 0

    def outputs(self, raw: Tensor) -> Tensor:
        images = self.preprocess(raw).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.partition(":")[0], torch.bfloat16):
            return self.net(images).float()

    def next_batch(self) -> Tensor:
        """Indices of the images of the next step."""
        self.steps += 1
        first = self.steps * self.batch
        return torch.arange(first, first + self.batch, device=self.device) % len(self.images)

    def train(self) -> None:
        rows = self.next_batch()
        images = augment(self.images[rows], 0.5, True, seed=self.steps)
        self.optimizer.zero_grad()
        functional.cross_entropy(self.forward(images), self.labels[rows]).backward()
        self.optimizer.step()

    def predict(self) -> None:
        with torch.no_grad():
            self.forward(self.images[self.next_batch()])

    def rates(self, seconds: float) -> dict[str, Any]:
        """Images per second in training and inference, and seconds of the first step."""
        record: dict[str, Any] = {}
        for kind, step in (("training", self.train), ("inference", self.predict)):
            self.net.train(kind == "training")
            first = time_call(step, self.device)
            each = min(time_call(step, self.device) for _ in range(2))
            steps = max(1, round(seconds / ROUNDS / each))
            rates = [
                steps * self.batch / time_call(partial(repeat, step, steps), self.device)
                for _ in range(ROUNDS)
            ]
            record[kind] = quartiles(rates) | {"first_seconds": first}
        return record


def time_to_published_auc(device: str, network: str, count: int, folder: Path) -> dict[str, Any]:
    """Measure the seconds until the validation AUC is the published one; None if it never is."""
    start = time.perf_counter()
    store = halometry.simulate(PRESET, count, out=folder / "images.h5", device=device)
    rendered = time.perf_counter() - start
    run = halometry.train("classification", store, network, folder / "run", device=device)
    trained = time.perf_counter() - start - rendered
    with (run.path / HISTORY).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    reached = [row for row in rows if float(row["val_metric"]) >= PUBLISHED_AUC]
    # Seconds that the history does not hold were spent before the first step or after the last.
    setup = trained - float(rows[-1]["seconds"])
    return {
        "network": network,
        "images": count,
        "rendering_seconds": rendered,
        "training_seconds": trained,
        "best_auc": max(float(row["val_metric"]) for row in rows),
        "seconds": rendered + setup + float(reached[0]["seconds"]) if reached else None,
    }


def main() -> None:
    parser = create_parser(__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--networks", nargs="+", default=list(PLAIN_NAMES))
    parser.add_argument("--size", type=int, default=150, help="of the images in pixels")
    parser.add_argument("--images", type=int, default=30_000, help="on the device, for the rates")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=10, help="for each rate")
    parser.add_argument("--no-compile", action="store_true", help="eager only")
    parser.add_argument("--record-network", default="resnet18")
    parser.add_argument("--record-images", type=int, default=30_000, help="0 leaves it out")
    options = parser.parse_args()
    device = find_device(options.device)
    record = begin_record("images a second on one device, median and quartiles", device)
    peak = matrix_peak(device)
    record |= {"batch": options.batch, "matrix_peak_macs": peak, "networks": {}, "record": None}
    record["rows"] = [["network", "way", "training", "of the peak", "inference", "of the peak"]]
    images, labels = simulate_images(device, options.images, options.size)
    for name in options.networks:
        example = torch.zeros(1, 1, options.size, options.size)
        macs = model_cost(Network(name, 1, 3).eval().to(device), example)["macs"]
        ways = {"eager": False} | ({} if options.no_compile else {"compiled": True})
        record["networks"][name] = {"macs": macs}
        for way, compiled in ways.items():
            rates = NetworkBenchmark(name, images, labels, options.batch, compiled).rates(
                options.seconds
            )
            record["networks"][name][way] = rates
            cells = []
            for kind, passes in (("training", 3), ("inference", 1)):
                fraction = passes * macs * rates[kind]["median"] / peak
                cells += [format_rate(rates[kind]), f"{fraction:.1%}"]
            record["rows"].append([name, way, *cells])
    if options.record_images:
        with tempfile.TemporaryDirectory(prefix="halometry-") as folder:
            record["record"] = time_to_published_auc(
                device, options.record_network, options.record_images, Path(folder)
            )
        print(record["record"])
    write_record(record, options.out)


if __name__ == "__main__":
    main()
