"""Latency, throughput and memory of predictions, by PyTorch and by ONNX Runtime.

python benchmarks/inference.py --out results/inference.json

Weights are random and batch statistics are those of simulated images, so that predictions differ
between images like those of a trained network. Preprocessing is included. Both run in turns.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from measuring import begin_record, create_parser, write_record
from torch import Tensor

from halometry.compare.cost import measure_speed
from halometry.models import Network, Predictor, Preprocessing, PreprocessingConfig
from halometry.models.backbones import PLAIN_NAMES
from halometry.models.onnx import OnnxPredictor, to_onnx
from halometry.simulation import OnlineImages

PIXELS = 150
SETTINGS = {
    "150 px, one channel": PreprocessingConfig(scale="minmax"),
    "224 px, three channels, as published": PreprocessingConfig(
        scale="minmax", size=224, channels=3
    ),
}
BATCH_SIZE = 64
COMPARED_IMAGES = 64  # whose predictions are compared
LAYOUTS = {
    "PyTorch, channels last": torch.channels_last,
    "PyTorch, channels first": torch.contiguous_format,
}
ONNX = "ONNX Runtime"


HEAD = ["network", "input", "PyTorch", "ONNX Runtime", "latency", "throughput", "difference",
        "memory, batch of 64"]  # fmt: skip


def main() -> None:
    parser = create_parser(__doc__)
    parser.add_argument("--backbones", default=",".join(PLAIN_NAMES))
    parser.add_argument("--seconds", type=float, default=60.0, help="for each network's timing")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    record = begin_record("raw images to probabilities: one image, and batches of 64")
    record |= {"seed": options.seed, "threads": options.threads, "batch": BATCH_SIZE}
    record["onnxruntime"] = onnxruntime.__version__
    batches = OnlineImages("common_test_1", options.seed, batch_size=COMPARED_IMAGES, batches=1)
    images = next(iter(batches))[0].float()
    record["measured"] = [
        {"network": name, "input": setting} | measure(name, config, images, options)
        for setting, config in SETTINGS.items()
        for name in print_names(options.backbones)
    ]
    record["rows"] = [HEAD, *map(table_row, record["measured"])]
    write_record(record, options.out)


def print_names(names: str) -> Iterator[str]:
    """Yield names that are separated by commas, and print each."""
    for name in names.split(","):
        print(f"{name} ...", flush=True)
        yield name


def measure(
    name: str, config: PreprocessingConfig, images: Tensor, options: argparse.Namespace
) -> dict[str, Any]:
    """Measure one network with one kind of input."""
    predictors = {
        layout: build_predictor(name, config, images, options.seed).to(memory_format=memory_format)
        for layout, memory_format in LAYOUTS.items()
    }
    first = next(iter(predictors.values()))
    shape = (1, PIXELS, PIXELS)
    model = to_onnx(first, shape, config.size is not None, name).SerializeToString()
    onnx = OnnxPredictor(model, name, "cpu")
    ways: dict[str, Callable[[Tensor], Any]] = {**predictors, ONNX: lambda raw: onnx(raw.numpy())}
    speeds = measure_speed(ways, images[:1], batch_size=BATCH_SIZE, seconds=options.seconds)
    eager = [speeds[layout] for layout in LAYOUTS]
    latency = min(way["latency_ms"]["median"] for way in eager)
    throughput = max(way["throughput"]["median"] for way in eager)
    onnx_speed = speeds[ONNX]
    with torch.inference_mode():
        expected, other = (predictor(images).numpy() for predictor in predictors.values())
    return {
        "ways": speeds,
        "latency_ratio": latency / onnx_speed["latency_ms"]["median"],
        "throughput_ratio": onnx_speed["throughput"]["median"] / throughput,
        "largest_difference": float(np.abs(onnx(images.numpy()) - expected).max()),
        "largest_difference_of_layouts": float(np.abs(other - expected).max()),
        "answers_vary_by": float(expected.std(axis=0).min()),
        "file_bytes": len(model),
        "peak_memory_bytes": peak_memory(name, config, model, options.threads),
    }


def build_predictor(name: str, config: PreprocessingConfig, images: Tensor, seed: int) -> Predictor:
    """Build a predictor with random weights and the batch statistics of images."""
    torch.manual_seed(seed)
    network = Network(name, config.channels, 3)
    for module in network.modules():
        if hasattr(module, "momentum"):
            setattr(module, "momentum", 1.0)  # noqa: B010
    preprocessing = Preprocessing(config)
    with torch.no_grad():
        network.train()(preprocessing(images[:16]))
    return Predictor(preprocessing, network, "classification").eval()


def peak_memory(
    name: str, config: PreprocessingConfig, model: bytes, threads: int
) -> dict[str, dict[str, int]]:
    """Peak resident memory of processes that predict one image, or a batch, in each way."""
    peaks: dict[str, dict[str, int]] = {}
    script = [sys.executable, str(Path(__file__).with_name("peak_memory.py"))]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        file.write_bytes(model)
        for way, what in (("pytorch", name), ("halometry", file), ("onnxruntime", file)):
            words = [*script, way, str(what), "--channels", str(config.channels)]
            words += ["--size", str(config.size)] if config.size else []
            words += ["--pixels", str(PIXELS), "--threads", str(threads)]
            peaks[way] = {
                key: int(subprocess.check_output([*words, "--batch", str(count)], text=True))
                for key, count in (("one", 1), ("batch", BATCH_SIZE))
            }
    return peaks


def table_row(one: dict[str, Any]) -> list[str]:
    """Row of the table for a network, with the faster one of PyTorch's memory formats."""
    latency = {way: values["latency_ms"]["median"] for way, values in one["ways"].items()}
    peaks = [one["peak_memory_bytes"][way]["batch"] / 1e6 for way in ("pytorch", "halometry")]
    return [
        one["network"],
        one["input"],
        f"{min(latency[layout] for layout in LAYOUTS):.2f} ms",
        f"{latency[ONNX]:.2f} ms",
        f"{one['latency_ratio']:.1f} times",
        f"{one['throughput_ratio']:.1f} times",
        f"{one['largest_difference']:.0e}",
        "{:.0f} and {:.0f} MB".format(*peaks),
    ]


if __name__ == "__main__":
    main()
