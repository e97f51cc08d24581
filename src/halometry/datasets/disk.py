"""Writing HDF5 to a disk that may be full."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

from halometry.errors import StorageError


class Disk(io.FileIO):
    """A file that remembers the first failure to write and takes everything after it in silence.

    HDF5 cannot close a file that it cannot write to: it would lose data without a word, or fill
    the screen. So it never learns of a full disk; who writes looks at `failure` instead.
    """

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        if self.failure is None:
            try:
                written = 0
                while written < len(view):
                    written += super().write(view[written:]) or 0
            except OSError as error:
                self.failure = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.failure = self.failure or error
            return size or 0

    def flush(self) -> None:
        """Nothing to do: writes are not buffered."""


def storage_error(path: Path, error: Exception) -> StorageError:
    """What to tell a user whose file cannot be written."""
    code = getattr(error, "errno", None)
    if code in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        reason = "the disk is full; free space or choose another place"
    elif code in (errno.EACCES, errno.EPERM, errno.EROFS):
        reason = "no permission to write there; choose another place"
    else:
        reason = os.strerror(code) if code else " ".join(str(error).split())
    return StorageError(f"{path}: cannot be written: {reason}")
