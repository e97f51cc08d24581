"""Presets of mass maps, compared by their numbers; nothing here needs the simulation."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from typing import Any

import yaml

TEXT_KEYS = {"name", "description", "source"}  # where their value is text; a `source` has parts too


@cache
def preset_hash(preset_yaml: str) -> str:
    """Hash of the numbers of a preset, which does not depend on names, descriptions and sources.

    Args:
        preset_yaml: the preset, as `Preset.to_yaml` writes it.

    Example:
        >>> preset_hash("{name: a, image: {sky: 10.0}}") == preset_hash("image: {sky: 10.0}")
        True
    """
    numbers = json.dumps(preset_numbers(yaml.safe_load(preset_yaml)), sort_keys=True)
    return hashlib.sha256(numbers.encode()).hexdigest()[:16]


def preset_numbers(content: Any) -> Any:
    """The content of a preset without its texts: names, descriptions and sources.

    Args:
        content: the preset, or a part of it, as plain values.
    """
    if isinstance(content, dict):
        return {
            key: preset_numbers(value)
            for key, value in content.items()
            if not (key in TEXT_KEYS and isinstance(value, str))
        }
    return [preset_numbers(value) for value in content] if isinstance(content, list) else content
