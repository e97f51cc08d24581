"""Which device to run on."""

from __future__ import annotations

import torch

from halometry.errors import UsageError

KINDS = ("cpu", "cuda")


def find_device(name: str = "auto") -> str:
    """The device to use: the one named, or a GPU where there is one.

    Raises:
        UsageError: the device does not exist here.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not _is_usable(name):
        raise UsageError(f"device '{name}' is not usable here; use --device cpu")
    return name


def _is_usable(name: str) -> bool:
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError):
        return False
    return name.partition(":")[0] in KINDS


def check_devices(device: str, devices: int, nodes: int = 1) -> str:
    """The device, if there are so many of its kind on this machine.

    Raises:
        UsageError: fewer GPUs, or one that is named by its number.
    """
    kind, _, number = device.partition(":")
    if kind == "cuda" and devices * nodes > 1:
        if number:
            raise UsageError(f"--device {device}: is one GPU; use --device cuda")
        if devices > (there := torch.cuda.device_count()):
            raise UsageError(
                f"--devices {devices}: this machine has {there} GPU{'s' if there != 1 else ''};"
                f" use --devices {there}, or --device cpu"
            )
    return device
