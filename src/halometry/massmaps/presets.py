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
    numbers = _without_text(yaml.safe_load(preset_yaml))
    return hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()[:6]


def _without_text(content: Any) -> Any:
    if isinstance(content, dict):
        return {
            key: _without_text(value)
            for key, value in content.items()
            if not (key in TEXT_KEYS and isinstance(value, str))
        }
    return [_without_text(value) for value in content] if isinstance(content, list) else content
