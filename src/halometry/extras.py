"""Extras: optional packages, by what needs them, and how to install them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from halometry.errors import UnavailableError


@dataclass(frozen=True)
class Extra:
    """Optional packages that are installed together.

    Attributes:
        purpose: what needs them.
        modules: names by which they are imported.
    """

    purpose: str
    modules: tuple[str, ...]


EXTRAS = {
    "attribution": Extra("attribution maps", ("captum",)),
    "cluster": Extra("simulation on a Dask cluster", ("distributed",)),
    "halos": Extra(
        "presets with halos from pyHalo", ("pyHalo", "lenstronomy", "colossus", "mcfit")
    ),
    "onnx": Extra(".onnx files", ("onnx", "onnxscript", "onnxruntime")),
    "tensorboard": Extra("training curves in TensorBoard", ("tensorboard",)),
}


def install_command(extra: str) -> str:
    """Command that installs an extra beside an installed halometry, from wherever that came.

    Example:
        >>> install_command("onnx")
        "pip install 'halometry[onnx]'"
    """
    return f"pip install 'halometry[{extra}]'"


def is_installed(module: str) -> bool:
    """Whether a module can be found; it is not imported."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def missing_modules(extra: str) -> list[str]:
    """Modules of an extra that are not installed."""
    return [module for module in EXTRAS[extra].modules if not is_installed(module)]


def import_optional(module: str, *, extra: str) -> Any:
    """Import a module of an extra.

    Args:
        module: its name, such as `captum.attr`.
        extra: name of the extra, a key of `EXTRAS`.

    Raises:
        UnavailableError: it is not installed; the message has the command that installs it.
    """
    package = module.partition(".")[0]
    problem = "is not installed"
    if is_installed(package):
        try:
            return import_module(module)
        except ImportError as error:
            problem = f"cannot be imported ({error})"
    raise UnavailableError(
        f"the package {package}, needed for {EXTRAS[extra].purpose}, {problem}:"
        f" {install_command(extra)}"
    )
