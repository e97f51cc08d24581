"""The wheel and the source archive: both are complete, and the wheel runs from another folder.

They are built here, or taken from the folder that HALOMETRY_DIST names.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from halometry.extras import is_installed

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "halometry"
MAX_WHEEL_BYTES, MAX_SDIST_BYTES = 6e6, 20e6


def files_below(folder: Path, root: Path) -> set[str]:
    """Names, relative to `root`, of the files below a folder, without what Python writes."""
    return {
        path.relative_to(root).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the source archive and the wheel that is built from it."""
    if folder := os.environ.get("HALOMETRY_DIST"):
        return ROOT / folder
    for module in ("build", "hatchling"):
        if not is_installed(module):
            pytest.skip(f"the package {module} is not installed; it is in the extra `test`")
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def wheel(archives: Path) -> Path:
    (path,) = archives.glob("halometry-*-py3-none-any.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the unpacked wheel; its dependencies are those of this environment."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder)
    return folder


def run_in(folder: Path, installed: Path, *words: str) -> str:
    """Output of a command of the unpacked wheel in a folder."""
    done = subprocess.run(
        [sys.executable, "-m", "halometry", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(installed), "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
        (entry_points,) = (n for n in file.namelist() if n.endswith("entry_points.txt"))
        assert "halometry = halometry.cli:main" in file.read(entry_points).decode()
        assert any(name.endswith("licenses/LICENSE") for name in file.namelist())
    assert names == files_below(PACKAGE, PACKAGE.parent)
    assert {Path(name).suffix for name in names} >= {".yaml", ".json", ".j2", ".safetensors"}
    assert wheel.stat().st_size < MAX_WHEEL_BYTES


def test_source_archive_has_what_its_tests_need(archives: Path) -> None:
    (path,) = archives.glob("halometry-*.tar.gz")
    with tarfile.open(path) as file:
        members = {m.name.partition("/")[2] for m in file.getmembers() if m.isfile()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    expected = {"README.md", "LICENSE", "pyproject.toml"}
    for name in project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]:
        entry = ROOT / name.lstrip("/")
        expected |= files_below(entry, ROOT) if entry.is_dir() else {entry.name}
    assert expected <= members
    assert members - expected <= {"PKG-INFO", ".gitignore"}
    assert path.stat().st_size < MAX_SDIST_BYTES


def test_wheel_lists_its_resources(installed: Path, tmp_path: Path) -> None:
    listed = run_in(tmp_path, installed, "presets")
    for file in (PACKAGE / "simulation" / "presets").glob("*.yaml"):
        assert file.stem in listed
    listed = run_in(tmp_path, installed, "weights")
    for config in (PACKAGE / "runs" / "weights").glob("*/*/config.yaml"):
        assert config.parent.relative_to(PACKAGE / "runs" / "weights").as_posix() in listed


def test_wheel_simulates_and_predicts(installed: Path, tmp_path: Path) -> None:
    run_in(tmp_path, installed, "simulate", "common_test_1", "--count", "3", "--out", "lenses.h5")
    run_in(
        tmp_path, installed, "predict", "common_test_1/d4net", "lenses.h5", "--out", "classes.csv"
    )
    assert len((tmp_path / "classes.csv").read_text().splitlines()) == 1 + 3
