"""Peak memory of a process that predicts images in one way; used by inference.py.

python benchmarks/peak_memory.py onnxruntime MODEL.onnx --channels 1 --pixels 150 --batch 64
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=["pytorch", "halometry", "onnxruntime"])
    parser.add_argument("model", help="an .onnx file; for pytorch a backbone")
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--size", type=int, help="resize to so many pixels")
    parser.add_argument("--pixels", type=int, default=150)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    shape = (options.batch, 1, options.pixels, options.pixels)
    images = np.random.default_rng(0).random(shape, dtype=np.float32)
    {"pytorch": with_pytorch, "halometry": with_halometry, "onnxruntime": with_onnxruntime}[
        options.way
    ](options, images)
    print(peak_bytes())


def with_pytorch(options: argparse.Namespace, images: np.ndarray) -> None:
    import torch

    from halometry.models import Network, Predictor, Preprocessing, PreprocessingConfig

    torch.set_num_threads(options.threads)
    config = PreprocessingConfig(scale="minmax", size=options.size, channels=options.channels)
    network = Network(options.model, options.channels, 3)
    predictor = Predictor(Preprocessing(config), network, "classification").eval()
    predictor.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        predictor(torch.from_numpy(images))


def with_halometry(options: argparse.Namespace, images: np.ndarray) -> None:
    import torch

    from halometry.models.onnx import OnnxPredictor

    torch.set_num_threads(options.threads)
    OnnxPredictor(Path(options.model), options.model, "cpu")(images)


def with_onnxruntime(options: argparse.Namespace, images: np.ndarray) -> None:
    """Predict the whole batch at once, without PyTorch in the process."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    session = onnxruntime.InferenceSession(
        options.model, settings, providers=["CPUExecutionProvider"]
    )
    session.run(None, {"images": images})


def peak_bytes() -> int:
    """Largest resident set of this process; `getrusage` would include its parent's."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return 1024 * int(kilobytes)


if __name__ == "__main__":
    main()
