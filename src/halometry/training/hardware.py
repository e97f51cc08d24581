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
class NetworkProfile:
    """Properties of a network that its execution depends on.

    Attributes:
        macs: multiply-accumulates of a forward pass of one image.
        convolution_macs: of these, those in convolutions.
        has_depthwise: whether it has depthwise (grouped) convolutions.
    """

    macs: int
    convolution_macs: int
    has_depthwise: bool = False


def choose_execution(profile: NetworkProfile, recipe: Recipe, device: str) -> Execution:
    """Choose how a network is trained.

    What the recipe leaves open is chosen as follows. The precision is bfloat16 where the device
    computes it natively, else float32. Networks with depthwise convolutions have float32 on CPUs,
    where bfloat16 makes these slower. The memory format is channels last for
    convolutional networks. The number of threads is PyTorch's. The same command therefore gives the
    same run on the same kind of machine.

    Args:
        profile: of the network that is trained.
        recipe: of the run, with `precision` and `channels_last`.
        device: of the run.
    """
    precision, channels_last = recipe.precision, recipe.channels_last
    if precision == "auto":
        is_fast = has_native_bfloat16(device) and not (device == "cpu" and profile.has_depthwise)
        precision = "bfloat16" if is_fast else "float32"
    if channels_last is None:
        channels_last = 2 * profile.convolution_macs > profile.macs
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


def profile_network(network: nn.Module, example: Tensor) -> NetworkProfile:
    """Count the multiply-accumulates of a forward pass, and look for depthwise convolutions.

    Args:
        network: on the CPU.
        example: one input (1, C, H, W).
    """
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network.eval()(example)
    flops = counter.get_flop_counts()["Global"]
    convolutions = flops.get(torch.ops.aten.convolution, 0)
    return NetworkProfile(
        macs=sum(flops.values()) // 2,
        convolution_macs=convolutions // 2,
        has_depthwise=any(
            isinstance(module, nn.Conv2d) and module.groups > 1 for module in network.modules()
        ),
    )


def steps_per_checkpoint(profile: NetworkProfile, batch_size: int) -> int:
    """Number of training steps between two checkpoints, from the multiply-accumulates of a step.

    Args:
        profile: of the network.
        batch_size: images a step.
    """
    macs_per_step = PASSES_PER_STEP * profile.macs * batch_size
    steps = int(MACS_PER_CHECKPOINT / max(1, macs_per_step))
    return min(max(1, steps), MAX_STEPS_PER_CHECKPOINT)
