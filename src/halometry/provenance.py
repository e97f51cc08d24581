"""TODO docstring."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch

from halometry import __version__


def command() -> str:
    """What was typed, the program by its name, or a script by its folder and name."""
    program = Path(sys.argv[0])
    if program.suffix != ".py":
        typed = [program.name]
    elif program.name == "__main__.py":
        typed = ["halometry"]
    else:
        typed = ["python", f"{program.absolute().parent.name}/{program.name}"]
    return shlex.join([*typed, *sys.argv[1:]])


def provenance(device: str = "cpu") -> dict[str, Any]:
    """When, by which version and on which device something was measured."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "halometry_version": __version__,
        "machine": machine(device),
    }


def machine(device: str = "cpu") -> dict[str, Any]:
    """The machine at hand, as a measurement on one of its devices names it."""
    return {
        "processor": _processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else "CPU",
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "torch": torch.__version__,
    }


def _processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


PACKAGES = ("torch", "caustics", "numpy")


def versions() -> dict[str, str]:
    """The attribute of a store that names each package, and its version here."""
    found = {f"{name}_version": version(name) for name in PACKAGES}
    return {"halometry_version": __version__, **found}
