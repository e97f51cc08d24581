"""YAML files by name: those that come with the package, and the user's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from halometry.errors import UsageError, did_you_mean

Folder = Literal["presets", "instruments"]
OWN = (".yaml", ".yml")  # how the name of a user's own file ends


def shipped(folder: Folder) -> list[str]:
    """The names of those that come with the package."""
    files = _folder(folder).iterdir()
    return sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml"))


def is_own(name: str | Path) -> bool:
    """Whether it is a file of the user's own."""
    return Path(name).suffix in OWN


@contextmanager
def located(folder: Folder, name: str | Path) -> Iterator[Path]:
    """The file of a name, or the user's own.

    Raises:
        UsageError: unknown name.
    """
    if is_own(name):
        yield Path(name)
        return
    known = shipped(folder)
    if name not in known:
        kind, hint = folder.removesuffix("s"), did_you_mean(str(name), known)
        raise UsageError(f"unknown {kind} '{name}', {hint} (or give a .yaml file)")
    with resources.as_file(_folder(folder) / f"{name}.yaml") as path:
        yield path


def _folder(folder: Folder) -> Any:
    return resources.files("halometry.simulation") / folder
