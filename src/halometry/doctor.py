"""Diagnosis of an installation and its machine: what a bug report needs, problems and remedies."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import numpy as np
import psutil
import torch

from halometry.extras import EXTRAS, install_command, missing_modules
from halometry.provenance import machine
from halometry.runs.execution import Execution

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
BUSY_LOAD_PER_CORE = 0.5  # above which timings cannot be trusted
MIN_FREE_MEMORY_BYTES = 2e9
MIN_FREE_DISK_BYTES = 5e9
PRECISIONS: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
BENCHMARK_BATCH_SIZE, BENCHMARK_PIXELS = 16, 64


@dataclass
class Diagnosis:
    """Facts about an installation and its machine, missing extras, and problems.

    Attributes:
        facts: names and values.
        notes: extras that are not installed, each with its purpose and the command to install it.
        problems: each with its remedy.
    """

    facts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def diagnose(*, benchmark: bool = False) -> Diagnosis:
    """Check versions, devices, memory and cache.

    Args:
        benchmark: also time the training of a small network with each precision, memory format
            and number of threads.
    """
    diagnosis = Diagnosis()
    _check_versions(diagnosis)
    _check_torchvision(diagnosis)
    _check_extras(diagnosis)
    can_benchmark = not diagnosis.problems
    _check_machine(diagnosis)
    _check_cache(diagnosis)
    if benchmark and can_benchmark:
        _benchmark(diagnosis.facts)
    return diagnosis


def _check_versions(diagnosis: Diagnosis) -> None:
    for name in PACKAGES:
        try:
            diagnosis.facts[name] = version(name)
        except PackageNotFoundError:
            diagnosis.facts[name] = "missing"
            diagnosis.problems.append(f"{name} is not installed: pip install {name}")


def _check_torchvision(diagnosis: Diagnosis) -> None:
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError, AttributeError) as error:
        diagnosis.problems.append(
            f"torchvision does not fit torch ({str(error).splitlines()[0]}): let pip choose the"
            " pair with 'pip install --force-reinstall torch torchvision'"
        )


def _check_extras(diagnosis: Diagnosis) -> None:
    missing = {name: modules for name in EXTRAS if (modules := missing_modules(name))}
    diagnosis.facts["extras"] = ", ".join(name for name in EXTRAS if name not in missing) or "none"
    diagnosis.notes += [
        f"{EXTRAS[name].purpose}: not available without {', '.join(modules)};"
        f" to install: {install_command(name)}"
        for name, modules in missing.items()
    ]


def _check_machine(diagnosis: Diagnosis) -> None:
    facts = machine()
    diagnosis.facts |= {key: str(value) for key, value in facts.items() if key != "torch"}
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        diagnosis.facts["GPU"] = f"{torch.cuda.get_device_name()}, {free / 1e9:.0f} of"
        diagnosis.facts["GPU"] += f" {total / 1e9:.0f} GB free"
    elif shutil.which("nvidia-smi"):
        diagnosis.problems.append(
            "there is an NVIDIA driver but PyTorch cannot use the GPU: install a PyTorch build"
            " for this driver's CUDA version (see pytorch.org)"
        )
    memory = psutil.virtual_memory()
    diagnosis.facts["memory free"] = f"{memory.available / 1e9:.1f} GB"
    if memory.available < MIN_FREE_MEMORY_BYTES:
        diagnosis.problems.append("less than 2 GB of memory is free: close other programs")
    if hasattr(os, "getloadavg"):
        load, cores = os.getloadavg()[0], os.cpu_count() or 1
        if load > BUSY_LOAD_PER_CORE * cores:
            diagnosis.problems.append(
                f"other programs keep this machine busy (load {load:.1f} on {cores} cores):"
                " training will be several times slower, timings mean little"
            )


def _check_cache(diagnosis: Diagnosis) -> None:
    from halometry.datasets.cache import cache_info

    info = cache_info()
    diagnosis.facts["cache"] = f"{info.path} ({info.bytes / 1e6:.1f} MB)"
    try:
        Path(info.path).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=info.path):
            pass
    except OSError as error:
        diagnosis.problems.append(
            f"the cache folder {info.path} cannot be written ({error.strerror}):"
            " set HALOMETRY_CACHE to a folder that can"
        )
        return
    free = shutil.disk_usage(info.path).free
    diagnosis.facts["disk free"] = f"{free / 1e9:.0f} GB beside the cache"
    if free < MIN_FREE_DISK_BYTES:
        diagnosis.problems.append(
            f"only {free / 1e9:.1f} GB are free beside the cache; packing 30,000 images takes"
            " about 3 GB: free some, or set HALOMETRY_CACHE elsewhere"
        )


def _benchmark(facts: dict[str, str]) -> None:
    """Add training speeds of ResNet18, and the options that give the fastest."""
    from halometry.models import Network
    from halometry.parallel import find_device
    from halometry.training.estimate import training_speed

    images = torch.rand(BENCHMARK_BATCH_SIZE, 1, BENCHMARK_PIXELS, BENCHMARK_PIXELS)
    executions = candidate_executions(find_device())
    speeds = [training_speed(Network("resnet18", 1, 3), images, e) for e in executions]
    for execution, speed in zip(executions, speeds, strict=True):
        facts[execution.summary()] = f"{speed:.0f} images/s"
    facts["fastest"] = recipe_options(executions[int(np.argmax(speeds))])


def candidate_executions(device: str) -> list[Execution]:
    """All combinations of precision, memory format and, on the CPU, number of threads."""
    threads = torch.get_num_threads()
    counts = sorted({1, threads // 2 or 1, threads}) if device == "cpu" else [threads]
    return [
        Execution(device=device, precision=precision, channels_last=channels_last, threads=count)
        for precision in PRECISIONS
        for channels_last in (True, False)
        for count in counts
    ]


def recipe_options(execution: Execution) -> str:
    """Options of `halometry train` that choose an execution, to copy."""
    options = (
        f"--set precision={execution.precision}"
        f" --set channels_last={str(execution.channels_last).lower()}"
    )
    if execution.device == "cpu" and execution.threads != torch.get_num_threads():
        return f"{options} (with OMP_NUM_THREADS={execution.threads})"
    return options
