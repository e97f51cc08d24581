"""What comes with the package, by name: YAML files beside the user's own, and trained weights."""

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

USER_FILE_SUFFIXES = (".yaml", ".yml")  # how the name of a user's own file ends
WEIGHTS = "runs/weights"


def list_resources(folder: str) -> list[str]:
    """The names of the files in a folder of the package, such as `runs/recipes`."""
    files = _folder(folder).iterdir()
    return sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml"))


def is_user_file(name: str | Path) -> bool:
    """Whether it is a file of the user's own."""
    return Path(name).suffix in USER_FILE_SUFFIXES


def resource_label(folder: str, name: str | Path) -> str:
    """What messages call it: `recipe baseline`, or the path of the user's own file."""
    return str(name) if is_user_file(name) else f"{_resource_type(folder)} {name}"


@contextmanager
def resource_path(folder: str, name: str | Path) -> Iterator[Path]:
    """The file of a name, or the user's own.

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
    """The trained weights that come with the package, as `SET/NAME`; `load_run` takes these."""
    home = _folder(WEIGHTS)
    sets = [one for one in home.iterdir() if one.is_dir()] if home.is_dir() else []
    return sorted(
        f"{one.name}/{run.name}"
        for one in sets
        for run in one.iterdir()
        if run.joinpath("config.yaml").is_file()
    )


def weights_folder(name: str) -> Path:
    """The run folder of one of `weights()`."""
    there = _folder(f"{WEIGHTS}/{name}")
    return there if isinstance(there, Path) else _unpacked(name)


def weights_name(folder: Path) -> str:
    """What a run folder is called: where it is one of the package's, its name there."""
    home = _folder(WEIGHTS)
    if isinstance(home, Path) and folder.resolve().is_relative_to(home.resolve()):
        return folder.resolve().relative_to(home.resolve()).as_posix()
    return folder.name


@cache
def _unpacked(name: str) -> Path:
    """The same where the package is in an archive: a copy that lasts as long as the process."""
    copy = Path(tempfile.mkdtemp(prefix="halometry-"))
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    for file in _folder(f"{WEIGHTS}/{name}").iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def _resource_type(folder: str) -> str:
    return folder.rpartition("/")[2].removesuffix("s")


def _folder(folder: str) -> Traversable:
    return resources.files("halometry").joinpath(*folder.split("/"))
