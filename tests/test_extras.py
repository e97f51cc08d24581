"""Optional packages: what is missing is named, with the command that installs it."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from halometry.doctor import diagnose
from halometry.errors import UnavailableError
from halometry.extras import EXTRAS, import_optional, is_installed, missing_modules

ROOT = Path(__file__).resolve().parents[1]
NOT_FOR_USERS = {"test", "lint", "docs", "dev"}


def test_extras_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert set(EXTRAS) == set(extras) - NOT_FOR_USERS
    for name, extra in EXTRAS.items():
        packages = {re.split(r"[<>=\[]", requirement)[0] for requirement in extras[name]}
        assert set(extra.modules) == packages - {"torch"}


def test_pages_name_existing_extras_in_one_form() -> None:
    files = [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("src/**/*.py")]
    for file in files:
        text = file.read_text(encoding="utf-8")
        for target, names in re.findall(r"pip install (\S*)\[([\w,]+)\]", text):
            assert target == "'halometry", f"{file}: pip install {target}[{names}]"
            assert set(names.split(",")) <= set(EXTRAS), file


def test_page_on_the_installation_lists_the_packages_of_all_extras() -> None:
    text = (ROOT / "docs" / "howto" / "install.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", text, re.MULTILINE))
    assert rows == {name: ", ".join(extra.modules) for name, extra in EXTRAS.items()}


@pytest.mark.parametrize("name", EXTRAS)
def test_missing_module_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = EXTRAS[name].modules[0]
    monkeypatch.setitem(sys.modules, module, None)
    assert not is_installed(module)
    assert module in missing_modules(name)
    message = rf"the package {module}, needed for .*, is not installed: pip install '.*\[{name}\]'"
    with pytest.raises(UnavailableError, match=message):
        import_optional(module, extra=name)


def test_module_that_fails_to_import_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_package.py").write_text("import no_such_module")
    monkeypatch.syspath_prepend(tmp_path)
    message = r"broken_package, .*, cannot be imported \(No module named 'no_such_module'\)"
    with pytest.raises(UnavailableError, match=message):
        import_optional("broken_package", extra="onnx")


def test_doctor_notes_missing_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum", None)
    diagnosis = diagnose()
    assert "attribution" not in diagnosis.facts["extras"].split(", ")
    note = "attribution maps: not available without captum; to install: pip install 'halometry[a"
    assert any(line.startswith(note) for line in diagnosis.notes)
