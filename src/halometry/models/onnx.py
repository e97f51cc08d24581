"""ONNX: run a predictor from an ONNX file, and convert one to ONNX operations."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from halometry.errors import RunError, UsageError
from halometry.extras import import_optional

INPUT, OUTPUT = "images", "predictions"
CPU_BATCH_SIZE = 4  # larger batches do not fit into the caches: 32 images take twice the time


class OnnxPredictor:
    """Predictor in an ONNX file, run by ONNX Runtime on NumPy arrays.

    Args:
        source: the file, or its content.
        name: name of the file, for messages.
        device: `auto`, `cpu`, or `cuda` with or without a number. A GPU needs the package
            onnxruntime-gpu; `auto` uses it if it is installed.
        cpu_batch_size: images in a batch on a CPU.

    Raises:
        RunError: it is not an ONNX file, or is damaged.
        UnavailableError: ONNX Runtime is not installed.
        UsageError: the device does not exist here.
    """

    def __init__(
        self,
        source: Path | bytes,
        name: str,
        device: str = "auto",
        cpu_batch_size: int = CPU_BATCH_SIZE,
    ) -> None:
        runtime = import_optional("onnxruntime", extra="onnx")
        self.name = name
        content = str(source) if isinstance(source, Path) else source
        providers = _providers(runtime, device)
        self._batch_size = cpu_batch_size if len(providers) == 1 else None
        try:
            session = runtime.InferenceSession(content, _options(runtime), providers=providers)
        except Exception as error:  # exceptions of ONNX Runtime have no common base class
            raise RunError(
                f"{name}: is not an ONNX file, or is damaged ({_first_line(error)}); export it"
                " again with 'halometry export'"
            ) from error
        self._session: Any = session
        self.metadata: Mapping[str, str] = session.get_modelmeta().custom_metadata_map

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Map raw images (B, c, H, W) of any type to predictions, see `Predictor.forward`.

        One channel is repeated where the network takes three.

        Raises:
            RunError: the network cannot take images of this shape.
        """
        channels = self._session.get_inputs()[0].shape[1]
        raw = np.asarray(images, dtype=np.float32)
        if raw.shape[1] == 1:
            raw = np.broadcast_to(raw, (len(raw), channels, *raw.shape[2:]))
        size = self._batch_size or len(raw)
        parts = [raw[i : i + size] for i in range(0, len(raw), size)]
        try:
            predictions = [
                self._session.run([OUTPUT], {INPUT: np.ascontiguousarray(part)})[0]
                for part in parts
            ]
        except Exception as error:  # as above
            raise RunError(
                f"{self.name}: cannot predict images of shape {images.shape} ({_first_line(error)})"
            ) from error
        return np.concatenate(predictions)


def _options(runtime: Any) -> Any:
    options = runtime.SessionOptions()
    # By default it takes all cores, also those that this process may not use.
    options.intra_op_num_threads = torch.get_num_threads()
    # Waiting threads spin, which takes cores from other programs; without a limit a busy machine is
    # half as fast.
    options.add_session_config_entry("session.intra_op.spin_duration_us", "100")
    options.log_severity_level = 3  # errors only, which also raise exceptions
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


MAX_WEIGHT_BYTES = 2**31 - 2**24  # Protocol Buffers, the file format of ONNX, end at 2 GiB


def to_onnx(predictor: nn.Module, shape: tuple[int, int, int], any_size: bool, name: str) -> Any:
    """Convert a predictor to ONNX operations, from raw pixel values to predictions.

    Args:
        predictor: predictor in evaluation mode on the CPU.
        shape: shape of an image (C, H, W).
        any_size: whether height and width may vary, besides the batch.
        name: name of the network, for messages.

    Returns:
        An `onnx.ModelProto` with the input `images` and the output `predictions`.

    Raises:
        RunError: the predictor cannot be converted, or is too large.
    """
    weights = sum(t.nbytes for t in predictor.state_dict().values())
    if weights > MAX_WEIGHT_BYTES:
        raise RunError(
            f"{name}: has {weights / 2**30:.1f} GiB of weights, the limit of ONNX is 2 GiB"
        )
    example = torch.rand(2, *shape)  # an axis of length one would become a constant
    axes = {0: "batch"} | ({2: "height", 3: "width"} if any_size else {})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter warns of its own internals
            program: Any = torch.onnx.export(
                predictor,
                (example,),
                dynamo=True,
                dynamic_shapes=({axis: torch.export.Dim(label) for axis, label in axes.items()},),
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
    """Remove the metadata of operations, which contain paths of this machine."""
    del graph.value_info[:]
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
