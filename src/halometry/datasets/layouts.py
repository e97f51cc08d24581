"""Layouts of class folders: how the folders of a dataset give classes and parts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from halometry.datasets.inputs import natural_sort_key
from halometry.datasets.readers import is_readable
from halometry.errors import DataError
from halometry.log import logger, warn

PUBLISHED_CLASS_ORDERS = (("no", "sphere", "vort"), ("no_sub", "sub"))

Role = Literal["train", "validation", "test"]
ROLE_ORDER: tuple[Role, ...] = ("train", "validation", "test")
Pairs = list[tuple[str, str]]  # name of a class, path of its folder from the root
ROLES: dict[str, Role] = {  # by the name of a folder, in small letters
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
_WORD = "|".join(sorted(ROLES, key=len, reverse=True))
_PREFIX = re.compile(rf"(?P<word>{_WORD})[-_. ](?P<name>.+)", re.IGNORECASE)
_SUFFIX = re.compile(rf"(?P<name>.+)[-_. ](?P<word>{_WORD})", re.IGNORECASE)


@dataclass(frozen=True)
class Part:
    """Class folders of one part of a dataset.

    Attributes:
        title: the folders as messages name them, such as `train/` or `train_*/`.
        role: of the images; None in a dataset of one part, which is split at random.
        folders: path of each class folder from the root, in the order of the class indices.
    """

    title: str
    role: Role | None
    folders: tuple[str, ...]


@dataclass(frozen=True)
class ClassLayout:
    """Classes of a dataset in class folders, and its parts."""

    class_names: tuple[str, ...]
    parts: tuple[Part, ...]


def visible_entries(path: Path) -> Iterator[os.DirEntry[str]]:
    """Files and folders in a folder, without those whose names begin with `.` or `__`.

    Raises:
        DataError: the folder cannot be read, or has a link without a target.
    """
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_symlink() and not os.path.exists(entry.path):
                    raise DataError(
                        f"{entry.path}: cannot be read (link without target); correct or remove it"
                    )
                if not entry.name.startswith((".", "__")):
                    yield entry
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def log_unused(root: Path, used: Sequence[str]) -> None:
    """Log which folders in a folder are not used."""
    if others := [name for name in _subfolders(root) if name not in used]:
        logger.info(f"{root}: not used: {'/, '.join(others)}/")


def find_part_folders(root: Path) -> ClassLayout | None:
    """Find class folders inside `train/`, `val/`, `test/` and folders of like names.

    Raises:
        DataError: the folders contradict each other.
    """
    names = [name for name in _subfolders(root) if name.casefold() in ROLES]
    classes = {name: _class_folders(root / name) for name in names}
    if not any(classes.values()):
        return None
    parts: dict[Role, tuple[str, Pairs]] = {}
    for name, found in classes.items():
        if not found:
            problem = "has images, but no class folders" if _has_image(root / name) else "is empty"
            raise DataError(f"{root / name}: {problem}; give it the classes, or move it elsewhere")
        role, title = ROLES[name.casefold()], f"{name}/"
        if role in parts:
            raise DataError(f"{root}: has {parts[role][0]} and {title} for one part; keep one")
        parts[role] = title, [(one, f"{name}/{one}") for one in found]
    log_unused(root, names)
    return _layout(root, parts)


def find_class_folders(root: Path) -> ClassLayout | None:
    """Find class folders side by side, with or without a part in their names.

    Raises:
        DataError: the folders contradict each other.
    """
    names = _class_folders(root)
    if not names:
        return None
    if images := [f"{name}/" for name in names if name.casefold() in ROLES]:
        raise DataError(
            f"{root}: has images directly in {' and '.join(images)}; classes need a folder each"
            " in these, and masses one folder of object arrays for all"
        )
    matches = {name: _PREFIX.fullmatch(name) or _SUFFIX.fullmatch(name) for name in names}
    if not any(matches.values()):
        return _layout(root, {"train": ("", [(name, name) for name in names])})
    parts: dict[Role, tuple[str, Pairs]] = {}
    for name, match in matches.items():
        if match is None:
            other = next(name for name, match in matches.items() if match)
            raise DataError(
                f"{root}: has {other}/ beside {name}/; name all folders as PART_CLASS, such as"
                " train_lenses, or none"
            )
        title = f"{match['word']}_*/" if match.re is _PREFIX else f"*_{match['word']}/"
        _, pairs = parts.setdefault(ROLES[match["word"].casefold()], (title, []))
        pairs.append((match["name"], name))
    return _layout(root, parts)


def _layout(root: Path, parts: Mapping[Role, tuple[str, Pairs]]) -> ClassLayout:
    """Match the classes of all parts, and decide what each part is for.

    Args:
        root: folder of the dataset.
        parts: for each role, the title of its folders, and their classes and paths.
    """
    first_role = "train" if "train" in parts else next(iter(parts))
    first_title, first_pairs = parts[first_role]
    by_class = {role: _by_class(root, pairs) for role, (_, pairs) in parts.items()}
    for role, folders in by_class.items():
        if set(folders) != set(by_class[first_role]):
            raise DataError(
                f"{root}: {parts[role][0]} has classes {', '.join(n for n, _ in parts[role][1])};"
                f" {first_title} has {', '.join(n for n, _ in first_pairs)}"
            )
    if len(first_pairs) < 2:
        raise DataError(
            f"{root / first_title}: has images of one class only ({first_pairs[0][0]});"
            " at least two class folders are needed"
        )
    keys = {name.casefold(): name for name, _ in first_pairs}
    names = next((order for order in PUBLISHED_CLASS_ORDERS if {*order} == {*keys}), None)
    class_names = names or tuple(keys[key] for key in sorted(keys, key=natural_sort_key))
    roles = _image_roles(root, {role: title for role, (title, _) in parts.items()})
    return ClassLayout(
        class_names,
        tuple(
            Part(
                parts[role][0],
                roles[role],
                tuple(by_class[role][n.casefold()] for n in class_names),
            )
            for role in ROLE_ORDER
            if role in parts
        ),
    )


def _image_roles(root: Path, titles: Mapping[Role, str]) -> dict[Role, Role | None]:
    """What the images of each part are used for, by the role that its name says.

    Raises:
        DataError: there are several parts, and none of them is for training.
    """
    if len(titles) == 1:
        ((role, title),) = titles.items()
        if title:
            logger.info(f"{root}: has {title} only; parts are taken from it at random as needed")
        return {role: None}
    if "train" not in titles:
        raise DataError(f"{root}: has {' and '.join(titles.values())}, but no train/; give one")
    if "test" not in titles:
        title = titles["validation"]
        logger.info(
            f"{root}: {title} is the test set, because there is no test/;"
            f" validation images are taken from {titles['train']}"
        )
        return {"train": "train", "validation": "test"}
    if "validation" in titles:
        logger.info(
            f"{root}: {titles['train']} is for training, {titles['validation']} for validation and"
            f" calibration, {titles['test']} for testing"
        )
    return {role: role for role in titles}


def _by_class(root: Path, pairs: Pairs) -> dict[str, str]:
    """Path of the folder of each class, by its name in small letters."""
    folders: dict[str, str] = {}
    for name, path in pairs:
        if (other := folders.setdefault(name.casefold(), path)) != path:
            raise DataError(
                f"{root}: has {other}/ and {path}/ for one class (capitals do not count);"
                " merge them or rename one"
            )
    return folders


def _subfolders(path: Path) -> list[str]:
    names = (entry.name for entry in visible_entries(path) if entry.is_dir())
    return sorted(names, key=natural_sort_key)


def _class_folders(path: Path) -> list[str]:
    """Names of the folders that have images directly in them, in natural order."""
    folders = _subfolders(path)
    classes = [name for name in folders if _has_image(path / name)]
    if classes and (others := [name for name in folders if name not in classes]):
        warn(f"{path}: no class, because no image is directly inside: {'/, '.join(others)}/")
    if classes and _has_image(path):
        warn(f"{path}: has images beside its class folders, which are not used")
    return classes


def _has_image(path: Path) -> bool:
    return any(is_readable(entry.name) for entry in visible_entries(path))
