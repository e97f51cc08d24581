"""Provenance of results: command, date, machine, versions of packages."""

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

PACKAGES = ("torch", "timm", "lightning", "caustics", "numpy")  # results depend on these
SIMULATION_PACKAGES = ("halometry", "torch", "caustics", "numpy")  # simulated bytes depend on these


def command() -> str:
    """Command line of this process, with the program's name, or a script's folder and name."""
    program = Path(sys.argv[0])
    if program.suffix != ".py":
        words = [program.name]
    elif program.name == "__main__.py":
        words = ["halometry"]
    else:
        words = ["python", f"{program.absolute().parent.name}/{program.name}"]
    return shlex.join([*words, *sys.argv[1:]])


def provenance(device: str = "cpu") -> dict[str, Any]:
    """Date, version and machine of a measurement.

    Args:
        device: the device that it used.
    """
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "halometry_version": __version__,
        "machine": machine(device),
    }


def machine(device: str = "cpu") -> dict[str, Any]:
    """Description of this machine.

    Args:
        device: the device to name.
    """
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


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    packages = {name: version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **packages}


def simulation_versions() -> dict[str, str]:
    """Versions of the packages that simulated images depend on, as attributes of a store."""
    installed = versions() | {"halometry": __version__}
    return {f"{name}_version": installed[name] for name in SIMULATION_PACKAGES}
