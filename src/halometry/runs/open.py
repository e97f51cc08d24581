"""Open any run: a run folder, an exported file, or an ensemble of these."""

from __future__ import annotations

from pathlib import Path

from halometry.errors import UsageError
from halometry.runs.ensemble import SEPARATOR, Ensemble
from halometry.runs.exported import ONNX_SUFFIX, ExportedRun, load_exported
from halometry.runs.run import Run, load_run

AnyRun = Run | ExportedRun | Ensemble


def open_run(run: str | Path | AnyRun) -> AnyRun:
    """Open a run folder, an exported file, or several of these separated by commas.

    Raises:
        RunError: it is none of these, or cannot be used.
        UsageError: a name is missing before or after a comma.
    """
    if isinstance(run, Run | ExportedRun | Ensemble):
        return run
    names = [name.strip() for name in str(run).split(SEPARATOR)]
    if len(names) > 1 and not Path(run).exists():
        if not all(names):
            raise UsageError(f"{run}: give runs with commas between them")
        return Ensemble(tuple(_open_one(name) for name in names))
    return _open_one(run)


def _open_one(run: str | Path) -> Run | ExportedRun:
    return load_exported(run) if Path(run).suffix == ONNX_SUFFIX else load_run(run)
