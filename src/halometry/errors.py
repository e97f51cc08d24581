"""Exceptions and warnings; each message says what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class HalometryError(Exception):
    """Error that a user can correct; the command prints its message without a traceback."""

    exit_code = 1


class HalometryWarning(UserWarning):
    """Reason why a result may be wrong or surprising."""


class ChanceWarning(HalometryWarning):
    """A trained network predicts no better than chance."""


class UsageError(HalometryError):
    """Invalid option or name, or an invalid combination."""

    exit_code = 2


class ConfigError(UsageError):
    """Unknown key, or invalid value, of a preset or recipe."""


class DataError(HalometryError):
    """Dataset or image that cannot be used as asked."""


class ReadError(DataError):
    """File that cannot be read as an image.

    Args:
        path: the file.
        reason: the reason, without the path.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type[ReadError], tuple[str, str]]:
        return ReadError, (self.path, self.reason)  # to pickle it between processes


class RunError(HalometryError):
    """Run folder that is missing, incomplete, or for another purpose."""


class FormatError(HalometryError):
    """File of another format, or of an unsupported version of it."""


class StorageError(HalometryError):
    """File or folder that cannot be written."""


class UnavailableError(HalometryError):
    """Something that is not available on this machine and cannot be fetched."""


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
