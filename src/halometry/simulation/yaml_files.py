"""YAML files of presets and instruments, which may refer to other files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from halometry.config import Model, read_yaml, validate
from halometry.resources import is_user_file, resource_label, resource_path


def load_yaml_model(folder: str, model: type[Model], name: str | Path) -> Model:
    """Load a model by the name of a resource, or from a user's own YAML file.

    Args:
        folder: resource folder of the package.
        model: class of the model.
        name: name of a resource, or path of a file.

    Raises:
        UsageError: unknown name.
        ConfigError: the file is missing or invalid; the key, its value and range are named.
    """
    with resource_path(folder, name) as path:
        content = _with_absolute_paths(path.absolute().parent, read_yaml(path))
    return validate(model, content, resource_label(folder, name))


def read_yaml_text(folder: str, model: type[Model], name: str | Path) -> str:
    """Return the YAML text of a valid model, with comments.

    Raises:
        UsageError, ConfigError: as `load_yaml_model`.
    """
    load_yaml_model(folder, model, name)
    with resource_path(folder, name) as path:
        return path.read_text(encoding="utf-8")


def _with_absolute_paths(folder: Path, content: Any) -> Any:
    """Return a copy of YAML content in which relative paths of files start at `folder`."""
    if not isinstance(content, dict):
        return content
    resolved = {key: _with_absolute_paths(folder, value) for key, value in content.items()}
    for key in ("file", "instrument"):
        value = resolved.get(key)
        if isinstance(value, str) and (key == "file" or is_user_file(value)):
            resolved[key] = str(folder / value)
    return resolved
