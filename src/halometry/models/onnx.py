"""A predictor in an ONNX file, run by ONNX Runtime; see `halometry.publish.export`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from halometry.errors import RunError, UnavailableError, UsageError

INPUT, OUTPUT = "images", "answers"
INSTALL = "pip install 'halometry[onnx]'"
CPU_BATCH_SIZE = 4  # images on a CPU, whose caches do not hold more: 32 at once take twice the time


class OnnxPredictor:
    """From raw images to class probabilities or mass fractions, as `Predictor`, on NumPy arrays.

    Args:
        source: a file, or what is in one.
        name: of the file, for messages.
        device: `auto`, `cpu`, or `cuda` with or without a number. A GPU needs the package
            onnxruntime-gpu; `auto` takes it where it is there.
        at_once: images that a CPU is given at once, whatever the batch.

    Raises:
        RunError: it is not an ONNX file, or is damaged.
        UnavailableError: ONNX Runtime is not installed.
        UsageError: the device does not exist here.
    """

    def __init__(
        self, source: Path | bytes, name: str, device: str = "auto", at_once: int = CPU_BATCH_SIZE
    ) -> None:
        runtime = _runtime()
        self.name = name
        content = str(source) if isinstance(source, Path) else source
        providers = _providers(runtime, device)
        self._at_once = at_once if len(providers) == 1 else None
        try:
            session = runtime.InferenceSession(content, _options(runtime), providers=providers)
        except Exception as error:  # its exceptions have no common ancestor of their own
            raise RunError(
                f"{name}: is not an ONNX file, or is damaged ({_first_line(error)}); export it"
                " again with 'halometry export'"
            ) from error
        self._session: Any = session
        self.metadata: Mapping[str, str] = session.get_modelmeta().custom_metadata_map

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Map raw images (B, c, H, W) of any type to probabilities (B, K) or masses (B,).

        One channel does for three equal ones.

        Raises:
            RunError: the file cannot answer for images of this shape.
        """
        channels = self._session.get_inputs()[0].shape[1]
        raw = np.asarray(images, dtype=np.float32)
        if raw.shape[1] == 1:
            raw = np.broadcast_to(raw, (len(raw), channels, *raw.shape[2:]))
        size = self._at_once or len(raw)
        parts = [raw[i : i + size] for i in range(0, len(raw), size)]
        try:
            answers = [
                self._session.run([OUTPUT], {INPUT: np.ascontiguousarray(part)})[0]
                for part in parts
            ]
        except Exception as error:  # as above
            raise RunError(
                f"{self.name}: cannot answer for images of shape {images.shape}"
                f" ({_first_line(error)})"
            ) from error
        return np.concatenate(answers)


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise UnavailableError(f".onnx files need the package onnxruntime: {INSTALL}") from error
    return onnxruntime


def _options(runtime: Any) -> Any:
    options = runtime.SessionOptions()
    # Without a number it takes all cores, those that this process may not use among them.
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that spin while they wait are quick to go on, but take the cores from whatever else
    # runs: without end they make a busy machine half as fast, for this long they do not.
    options.add_session_config_entry("session.intra_op.spin_duration_us", "100")
    options.log_severity_level = 3  # errors; they also come as exceptions
    return options


def _providers(runtime: Any, device: str) -> list[Any]:
    kind, _, number = device.partition(":")
    gpu = "CUDAExecutionProvider" in runtime.get_available_providers()
    if kind == "cpu" or (kind == "auto" and not gpu):
        return ["CPUExecutionProvider"]
    if kind not in ("auto", "cuda") or not gpu:
        raise UsageError(
            f"device '{device}' is not usable by ONNX Runtime here (a GPU needs the package"
            " onnxruntime-gpu); use --device cpu"
        )
    return [("CUDAExecutionProvider", {"device_id": int(number or 0)}), "CPUExecutionProvider"]


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


MAX_WEIGHT_BYTES = (
    2**31 - 2**24
)  # bytes of weights: Protocol Buffers, which ONNX is kept in, end at 2 GiB


def to_onnx(predictor: nn.Module, shape: tuple[int, int, int], any_size: bool, name: str) -> Any:
    """Write down a predictor as ONNX operations, from raw pixel values to answers.

    Args:
        predictor: in evaluation mode, on the CPU; from (B, C, H, W) to (B, K) or (B,).
        shape: of an image, (C, H, W).
        any_size: leave height and width open, besides the batch.
        name: of the network, for messages.

    Returns:
        An `onnx.ModelProto` with the input `images` and the output `answers`.

    Raises:
        RunError: it cannot be expressed, or is too large.
    """
    weights = sum(t.nbytes for t in predictor.state_dict().values())
    if weights > MAX_WEIGHT_BYTES:
        raise RunError(f"{name}: has {weights / 2**30:.1f} GiB of weights, ONNX ends at 2 GiB")
    example = torch.rand(2, *shape)  # an axis of length one would be taken for a constant
    axes = {0: "batch"} | ({2: "height", 3: "width"} if any_size else {})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its remarks on its own workings
            program: Any = torch.onnx.export(
                predictor,
                (example,),
                dynamo=True,
                dynamic_shapes=({axis: torch.export.Dim(of) for axis, of in axes.items()},),
                input_names=[INPUT],
                output_names=[OUTPUT],
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = [line.strip() for line in str(error).splitlines() if line.strip()][-1]
        raise RunError(f"{name}: PyTorch cannot export it to ONNX ({reason})") from error
    model = program.model_proto
    _clean(model.graph)
    return model


def _clean(graph: Any) -> None:
    """Take out what the exporter notes of each operation: paths of this machine among it."""
    del graph.value_info[:]
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
