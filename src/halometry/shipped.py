"""YAML files by name: those that come with the package, and the user's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from halometry.errors import UsageError, did_you_mean

OWN = (".yaml", ".yml")  # how the name of a user's own file ends


def names(folder: str) -> list[str]:
    """The names of the files in a folder of the package, such as `training/recipes`."""
    files = _folder(folder).iterdir()
    return sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml"))


def is_own(name: str | Path) -> bool:
    """Whether it is a file of the user's own."""
    return Path(name).suffix in OWN


def called(folder: str, name: str | Path) -> str:
    """What messages call it: `recipe baseline`, or the path of the user's own file."""
    return str(name) if is_own(name) else f"{_kind(folder)} {name}"


@contextmanager
def located(folder: str, name: str | Path) -> Iterator[Path]:
    """The file of a name, or the user's own.

    Raises:
        UsageError: unknown name.
    """
    if is_own(name):
        yield Path(name)
        return
    known = names(folder)
    if name not in known:
        hint = did_you_mean(str(name), known)
        raise UsageError(f"unknown {_kind(folder)} '{name}', {hint} (or give a .yaml file)")
    with resources.as_file(_folder(folder) / f"{name}.yaml") as path:
        yield path


def _kind(folder: str) -> str:
    return folder.rpartition("/")[2].removesuffix("s")


def _folder(folder: str) -> Any:
    return resources.files("halometry").joinpath(*folder.split("/"))
