"""Estimate of how long a training takes on this machine."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from halometry.runs.config import build_network
from halometry.runs.execution import Execution, pinned_threads
from halometry.runs.recipe import Recipe
from halometry.training.hardware import choose_execution, profile_network

TIMED_STEPS = 4
TIMED_BATCH = 16  # images


def training_seconds(
    backbone: str,
    recipe: Recipe,
    *,
    shape: tuple[int, int, int],
    n_outputs: int,
    images: int,
    device: str,
) -> float:
    """Estimate how long a network takes for a number of training images.

    A few steps are timed on random pixels. Reading, online simulation and validation are not
    included; they add a few per cent to a half.

    Args:
        backbone: name of the network.
        recipe: resolved for the task and the network.
        shape: of an image, (C, H, W).
        n_outputs: number of outputs of the network.
        images: number of training images, times the number of epochs.
        device: checked, not `auto`.

    Returns:
        Seconds.
    """
    channels, height, width = recipe.channels or shape[0], *shape[1:]
    if recipe.size is not None:
        height = width = recipe.size
    pixels = torch.rand(TIMED_BATCH, channels, height, width)
    with torch.random.fork_rng(devices=[]):
        network = build_network(backbone, recipe, channels=channels, n_outputs=n_outputs)
    execution = choose_execution(profile_network(network, pixels[:1]), recipe, device)
    return images / training_speed(network, pixels, execution)


def training_speed(
    network: nn.Module, images: Tensor, execution: Execution, steps: int = TIMED_STEPS
) -> float:
    """Measure images per second in training: the fastest of a few steps.

    Args:
        network: with initial weights; is changed.
        images: a batch (B, C, H, W).
        execution: to measure.
        steps: number of steps; the first also allocates memory and is not counted.
    """
    network = network.to(execution.device).to(memory_format=execution.memory_format).train()
    images = images.to(execution.device, memory_format=execution.memory_format)
    fastest = float("inf")
    with pinned_threads(execution.threads):
        for step in range(steps):
            start = time.monotonic()
            with execution.autocast():
                loss = network(images).float().square().mean()
            loss.backward()
            if images.is_cuda:
                torch.cuda.synchronize(images.device)
            if step:
                fastest = min(fastest, time.monotonic() - start)
    return len(images) / fastest
