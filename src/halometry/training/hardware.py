"""Execution of a run: chosen from the recipe and the machine's instruction sets, never timed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from halometry.runs.execution import Execution
from halometry.runs.recipe import Recipe

# Multiply-accumulates between two checkpoints: two minutes of ResNet18 at 150 px on two cores.
MACS_PER_CHECKPOINT = 1.3e13
MAX_STEPS_PER_CHECKPOINT = 1000
PASSES_PER_STEP = 3  # a forward pass, and a backward pass that costs twice as much


@dataclass(frozen=True)
class ForwardCost:
    """Multiply-accumulates of a forward pass of one image.

    Attributes:
        macs: in all.
        convolution_macs: those in convolutions.
    """

    macs: int
    convolution_macs: int


def choose_execution(cost: ForwardCost, recipe: Recipe, device: str) -> Execution:
    """Choose how a network is trained.

    What the recipe leaves open is chosen as follows: bfloat16 where the device computes it
    natively, else float32; channels last for convolutional networks; PyTorch's number of
    threads. The same command therefore gives the same run on the same kind of machine.

    Args:
        cost: of the network that is trained.
        recipe: of the run, with `precision` and `channels_last`.
        device: of the run.
    """
    precision, channels_last = recipe.precision, recipe.channels_last
    if precision == "auto":
        precision = "bfloat16" if has_native_bfloat16(device) else "float32"
    if channels_last is None:
        channels_last = 2 * cost.convolution_macs > cost.macs
    return Execution(
        device=device,
        precision=precision,
        channels_last=channels_last,
        threads=torch.get_num_threads(),
    )


def has_native_bfloat16(device: str) -> bool:
    """Whether a device multiplies bfloat16 matrices in hardware.

    GPUs do since compute capability 8.0, x86 CPUs with AVX512_BF16 or AMX.
    """
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def measure_forward_cost(network: nn.Module, example: Tensor) -> ForwardCost:
    """Count the multiply-accumulates of a forward pass.

    Args:
        network: on the CPU.
        example: one input (1, C, H, W).
    """
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network.eval()(example)
    flops = counter.get_flop_counts()["Global"]
    convolutions = flops.get(torch.ops.aten.convolution, 0)
    return ForwardCost(macs=sum(flops.values()) // 2, convolution_macs=convolutions // 2)


def steps_per_checkpoint(cost: ForwardCost, batch_size: int) -> int:
    """Number of training steps between two checkpoints, from the multiply-accumulates of a step.

    Args:
        cost: of the network.
        batch_size: images a step.
    """
    macs_per_step = PASSES_PER_STEP * cost.macs * batch_size
    steps = int(MACS_PER_CHECKPOINT / max(1, macs_per_step))
    return min(max(1, steps), MAX_STEPS_PER_CHECKPOINT)
