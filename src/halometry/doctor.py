"""What a bug report needs, and what is wrong with this installation, with its remedy."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

PACKAGES = (
    "halometry",
    "torch",
    "torchvision",
    "timm",
    "lightning",
    "torchmetrics",
    "caustics",
    "astropy",
    "numpy",
    "h5py",
    "pydantic",
    "safetensors",
)
BUSY = 0.5  # load per core above which timings cannot be trusted


@dataclass
class Diagnosis:
    """What `doctor` found.

    Attributes:
        facts: name and value of everything worth telling.
        problems: what is wrong, each with what to do.
    """

    facts: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def diagnose(measure: bool = True) -> Diagnosis:
    """Look at versions, devices, memory and cache, and try the main parts.

    Args:
        measure: also time a small network, to say which precision would be chosen.
    """
    found = Diagnosis()
    _versions(found)
    _torchvision(found)
    _machine(found)
    _cache(found)
    if measure and not found.problems:
        _precision(found)
    return found


def _versions(found: Diagnosis) -> None:
    for name in PACKAGES:
        try:
            found.facts[name] = version(name)
        except PackageNotFoundError:
            found.facts[name] = "missing"
            found.problems.append(f"{name} is not installed: pip install {name}")


def _torchvision(found: Diagnosis) -> None:
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError, AttributeError) as error:
        found.problems.append(
            f"torchvision does not fit torch ({str(error).splitlines()[0]}): let pip choose the"
            " pair with 'pip install --force-reinstall torch torchvision'"
        )


def _machine(found: Diagnosis) -> None:
    import torch

    from halometry.provenance import machine

    facts = machine()
    found.facts |= {key: str(value) for key, value in facts.items() if key != "torch"}
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        found.facts["GPU"] = f"{torch.cuda.get_device_name()}, {free / 1e9:.0f} of"
        found.facts["GPU"] += f" {total / 1e9:.0f} GB free"
    elif shutil.which("nvidia-smi"):
        found.problems.append(
            "there is an NVIDIA driver but PyTorch cannot use the GPU: install a PyTorch build"
            " for this driver's CUDA version (see pytorch.org)"
        )
    memory = psutil.virtual_memory()
    found.facts["memory free"] = f"{memory.available / 1e9:.1f} GB"
    if memory.available < 2e9:
        found.problems.append("less than 2 GB of memory is free: close other programs")
    if hasattr(os, "getloadavg"):
        load, cores = os.getloadavg()[0], os.cpu_count() or 1
        if load > BUSY * cores:
            found.problems.append(
                f"other programs keep this machine busy (load {load:.1f} on {cores} cores):"
                " training will be several times slower, timings mean little"
            )


def _cache(found: Diagnosis) -> None:
    from halometry.datasets.cache import cache_info

    info = cache_info()
    found.facts["cache"] = f"{info.path} ({info.bytes / 1e6:.1f} MB)"
    try:
        Path(info.path).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=info.path):
            pass
    except OSError as error:
        found.problems.append(
            f"the cache folder {info.path} cannot be written ({error.strerror}):"
            " set HALOMETRY_CACHE to a folder that can"
        )
        return
    free = shutil.disk_usage(info.path).free
    found.facts["disk free"] = f"{free / 1e9:.0f} GB beside the cache"
    if free < 5e9:
        found.problems.append(
            f"only {free / 1e9:.1f} GB are free beside the cache; packing 30,000 images takes"
            " about 3 GB: free some, or set HALOMETRY_CACHE elsewhere"
        )


def _precision(found: Diagnosis) -> None:
    import torch

    from halometry.models import Network
    from halometry.parallel import find_device
    from halometry.training.hardware import choose_execution

    example = torch.rand(16, 1, 64, 64)
    way = choose_execution(lambda: Network("resnet18", 1, 3), example, find_device())
    found.facts["runs fastest with"] = f"{way.summary()} (training ResNet18 at 64 px)"
