"""Files of the package by name: YAML files of presets and recipes, and bundled weights."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from halometry.errors import UsageError, did_you_mean

USER_FILE_SUFFIXES = (".yaml", ".yml")
WEIGHTS = "runs/weights"


def list_resources(folder: str) -> list[str]:
    """Names of the YAML files in a folder of the package, such as `runs/recipes`."""
    files = _folder(folder).iterdir()
    return sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml"))


def is_user_file(name: str | Path) -> bool:
    """Whether a name is the path of a YAML file of the user."""
    return Path(name).suffix in USER_FILE_SUFFIXES


def resource_label(folder: str, name: str | Path) -> str:
    """Name of a file for messages: `recipe baseline`, or the path of a user's file."""
    return str(name) if is_user_file(name) else f"{_resource_type(folder)} {name}"


@contextmanager
def resource_path(folder: str, name: str | Path) -> Iterator[Path]:
    """Context with the path of a file of the package, or of a user's file.

    Args:
        folder: folder of the package.
        name: name of a file in it, or the path of a user's YAML file.

    Raises:
        UsageError: unknown name.
    """
    if is_user_file(name):
        yield Path(name)
        return
    known = list_resources(folder)
    if name not in known:
        hint = did_you_mean(str(name), known)
        raise UsageError(
            f"unknown {_resource_type(folder)} '{name}', {hint} (or give a .yaml file)"
        )
    with resources.as_file(_folder(folder) / f"{name}.yaml") as path:
        yield path


def list_weights() -> list[str]:
    """Names of the bundled weights, as `PRESET/NAME`; `load_run` takes them."""
    root = _folder(WEIGHTS)
    folders = [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    return sorted(
        f"{folder.name}/{run.name}"
        for folder in folders
        for run in folder.iterdir()
        if run.joinpath("config.yaml").is_file()
    )


def weights_folder(name: str) -> Path:
    """Run folder of bundled weights, by a name of `list_weights`."""
    folder = _folder(f"{WEIGHTS}/{name}")
    return folder if isinstance(folder, Path) else _unpacked(name)


def weights_name(folder: Path) -> str:
    """Name of a run folder: that of bundled weights as in `list_weights`, else the folder's."""
    root = _folder(WEIGHTS)
    if isinstance(root, Path) and folder.resolve().is_relative_to(root.resolve()):
        return folder.resolve().relative_to(root.resolve()).as_posix()
    return folder.name


@cache
def _unpacked(name: str) -> Path:
    """Copy of a run folder of a package in a zip archive; removed when the process ends."""
    copy = Path(tempfile.mkdtemp(prefix="halometry-"))
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    for file in _folder(f"{WEIGHTS}/{name}").iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def _resource_type(folder: str) -> str:
    return folder.rpartition("/")[2].removesuffix("s")


def _folder(folder: str) -> Traversable:
    return resources.files("halometry").joinpath(*folder.split("/"))
