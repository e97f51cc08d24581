"""Exceptions: each message says what is wrong, where, and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class HalometryError(Exception):
    """Something a user can mend; the command prints its message as one line, no traceback."""

    exit_code = 1


class HalometryWarning(UserWarning):
    """A result that is given, and the reason why it may not be what the user wants."""


class UsageError(HalometryError):
    """An option, a name or a combination of them that cannot work."""

    exit_code = 2


class ConfigError(UsageError):
    """A key or a value of a preset or recipe that is unknown or out of its range."""


class DataError(HalometryError):
    """A set of images that cannot be used as asked."""


class ReadError(DataError):
    """One file that cannot be read.

    Args:
        path: the file.
        reason: why it cannot be read, without the path.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type[ReadError], tuple[str, str]]:
        return ReadError, (self.path, self.reason)  # from one process to another


class RunError(HalometryError):
    """A run folder that is missing, incomplete, or made for something else."""


class FormatError(HalometryError):
    """A file that is not of the expected format, or of a version that is not read here."""


class StorageError(HalometryError):
    """A file or folder that cannot be written."""


class UnavailableError(HalometryError):
    """Something that is not on this machine and cannot be fetched."""


def did_you_mean(name: str, known: Iterable[str], fallback: str | None = None) -> str:
    """End of a message about an unknown name: the most similar known name, or all of them.

    Args:
        name: the unknown name.
        known: the known names.
        fallback: text instead of the list of known names, if none is similar.

    Example:
        >>> did_you_mean("resnet81", ["resnet18", "mobilenetv3_small"])
        "did you mean 'resnet18'?"
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean '{near[0]}'?"
    return fallback or "known: " + ", ".join(names)
