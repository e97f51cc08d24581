"""Which device to run on."""

from __future__ import annotations

import torch

from halometry.errors import UsageError


def find_device(name: str = "auto") -> str:
    """The device to use: the one named, or a GPU where there is one.

    Raises:
        UsageError: the device does not exist here.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device '{name}' is not usable here; use --device cpu") from error
    return name
