"""The layout of the package: which package may import which, and its public names."""

from __future__ import annotations

import ast
import builtins
import pkgutil
import types
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import halometry

HOME = Path(halometry.__file__).parent
# Packages and top-level modules. Each imports only those that follow it: in lower lines, or to its
# right in the same line.
LINES = (
    "cli demo doctor reproduction",
    "compare publish robustness sensitivity population attribution",
    "evaluation training",
    "runs",
    "models ood calibration massmaps",
    "lensfit",
    "datasets simulation",
    "hub plotting resources provenance parallel config log io extras errors seeds",
)
ORDER = " ".join(LINES).split()
SEPARATE = {"evaluation", "training"}  # neither imports the other


def may_import(importer: str, imported: str) -> bool:
    """Whether the package or module `importer` may import `imported`."""
    if importer == imported:
        return True
    if {importer, imported} == SEPARATE:
        return False
    return ORDER.index(importer) < ORDER.index(imported)


def imports(source: str) -> Iterator[tuple[int, str]]:
    """Line and package of each import from halometry, also inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        else:
            continue
        for module in modules:
            root, _, rest = module.partition(".")
            name = rest.partition(".")[0]
            if root == "halometry" and name != "__version__":
                yield node.lineno, name


def test_order_names_every_package_and_module() -> None:
    assert sorted(ORDER) == sorted(module.name for module in pkgutil.iter_modules([str(HOME)])
                                   if module.name != "__main__")  # fmt: skip


def test_imports_go_one_way() -> None:
    violations = []
    for file in sorted(HOME.rglob("*.py")):
        importer = file.relative_to(HOME).parts[0].removesuffix(".py")
        if importer not in ("__init__", "__main__"):
            violations += [
                f"{file.relative_to(HOME)}:{line} imports halometry.{imported}"
                for line, imported in imports(file.read_text(encoding="utf-8"))
                if not may_import(importer, imported)
            ]
    assert violations == []


def test_import_of_a_higher_package_is_found() -> None:
    source = "def f():\n    from halometry.cli import app\nimport halometry.errors\n"
    assert list(imports(source)) == [(3, "errors"), (2, "cli")]
    assert not may_import("runs", "cli")
    assert not may_import("simulation", "datasets")
    assert not may_import("evaluation", "training")
    assert may_import("runs", "errors")


def test_public_names_stay_functions_after_all_imports() -> None:
    for module in pkgutil.walk_packages([str(HOME)], "halometry."):
        if module.name != "halometry.__main__":  # it runs the command
            import_module(module.name)
    for name in halometry.__all__:
        assert callable(getattr(halometry, name)), name
        assert not isinstance(getattr(halometry, name), types.ModuleType), name


@pytest.mark.parametrize("name", halometry.__all__)
def test_public_name_is_unique(name: str) -> None:
    assert not hasattr(builtins, name)
    assert name not in ORDER


def test_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'halometry' has no attribute 'trian'"):
        halometry.trian  # noqa: B018
