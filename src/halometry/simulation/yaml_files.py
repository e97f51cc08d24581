"""Presets and instruments as they are written: YAML that may name other files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from halometry.config import Model, read_yaml, validate
from halometry.resources import is_user_file, resource_label, resource_path


def load_yaml_model(folder: str, model: type[Model], name: str | Path) -> Model:
    """One by name, or from the user's own file.

    Raises:
        UsageError: unknown name.
        ConfigError: the file is missing or wrong; the key, its value and range are named.
    """
    with resource_path(folder, name) as path:
        content = _with_absolute_paths(path.absolute().parent, read_yaml(path))
    return validate(model, content, resource_label(folder, name))


def read_yaml_text(folder: str, model: type[Model], name: str | Path) -> str:
    """The same as it is written, with comments.

    Raises:
        UsageError, ConfigError: as `load`.
    """
    load_yaml_model(folder, model, name)
    with resource_path(folder, name) as path:
        return path.read_text(encoding="utf-8")


def _with_absolute_paths(folder: Path, content: Any) -> Any:
    """The same with the relative paths of files, which are seen from `folder`, made absolute."""
    if not isinstance(content, dict):
        return content
    seen = {key: _with_absolute_paths(folder, value) for key, value in content.items()}
    for key in ("file", "instrument"):
        if isinstance(seen.get(key), str) and (key == "file" or is_user_file(seen[key])):
            seen[key] = str(folder / seen[key])
    return seen
