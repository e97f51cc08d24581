"""A predictor as a graph of ONNX operations, by PyTorch's exporter."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from halometry.errors import RunError
from halometry.models.onnx_predictor import INPUT, OUTPUT

LARGEST = 2**31 - 2**24  # bytes of weights: Protocol Buffers, which ONNX is kept in, end at 2 GiB


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
    if weights > LARGEST:
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
