"""The layout of the package: which package may import which."""

from __future__ import annotations

import ast
from pathlib import Path

import halometry

HOME = Path(halometry.__file__).parent
# From top to bottom. A package imports from lower lines, and within its line from packages to its
# right; a bar separates packages that do not import each other.
LINES = (
    "cli demo doctor app",
    "compare publish | robustness sensitivity population attribution",
    "evaluation | training",
    "runs",
    "models ood calibration | massmaps",
    "lensfit",
    "datasets simulation",
)
LEAVES = ["config", "errors", "io", "log", "parallel", "provenance", "resources", "hub", "plotting"]


def _may_import(importer: str, imported: str) -> bool:
    """Whether one package may import another by `LINES`."""
    if imported in ("", importer):
        return True  # `from halometry import __version__`
    if imported in LEAVES:
        return True
    if importer in LEAVES:
        return False
    line = {name: k for k, names in enumerate(LINES) for name in names.replace("|", "").split()}
    if line[importer] != line[imported]:
        return line[importer] < line[imported]
    for part in LINES[line[importer]].split("|"):
        names = part.split()
        if importer in names and imported in names:
            return names.index(importer) < names.index(imported)
    # Both stand in one line, with a bar between them: only a package to the left may import.
    words = LINES[line[importer]].replace("|", "").split()
    return BAR_IS_ONE_WAY and words.index(importer) < words.index(imported)


BAR_IS_ONE_WAY = True


def imports_of(source: str) -> list[tuple[int, str]]:
    """Line and package of each import of the package's own, those inside functions included."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "halometry" and len(parts) > 1:
                found.append((node.lineno, parts[1] if _is_module(parts[1]) else ""))
    return found


def _is_module(name: str) -> bool:
    return (HOME / name).is_dir() or (HOME / f"{name}.py").is_file()


def test_imports_go_one_way() -> None:
    offending = []
    for file in sorted(HOME.rglob("*.py")):
        importer = file.relative_to(HOME).parts[0].removesuffix(".py")
        if importer in ("__init__", "__main__"):
            continue
        offending += [
            f"{file.relative_to(HOME)}:{line} imports halometry.{imported}"
            for line, imported in imports_of(file.read_text(encoding="utf-8"))
            if not _may_import(importer, imported)
        ]
    assert offending == []
