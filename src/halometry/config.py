"""Configuration objects: presets and recipes from YAML, checked key by key."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from halometry.errors import ConfigError, did_you_mean

Task = Literal["classification", "regression"]
TASKS: tuple[Task, ...] = ("classification", "regression")
Inputs = Literal["raw", "maps"]  # of a network: images as they are, or their mass maps
INPUTS: tuple[Inputs, ...] = ("raw", "maps")


class YamlLoader(yaml.SafeLoader):
    """YAML loader with the booleans of YAML 1.2, `true` and `false`: `no` is a class of lenses."""


YamlLoader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in forms if first in "tTfF" or not tag.endswith(":bool")]
    for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class StrictModel(BaseModel):
    """Configuration object: immutable, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def __getstate__(self) -> dict[Any, Any]:
        """State to pickle: the fields, without cached content of the files that they name."""
        state = super().__getstate__()
        fields = type(self).model_fields
        return state | {"__dict__": {k: v for k, v in state["__dict__"].items() if k in fields}}


Model = TypeVar("Model", bound=StrictModel)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the mapping in a YAML file.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or is not a mapping.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), YamlLoader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        detail = " ".join(str(error).split())
        raise ConfigError(f"{path}: is not valid YAML ({detail})") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must hold keys and values, as 'key: value' lines")
    return content


def validate(model: type[Model], content: dict[str, Any], where: str) -> Model:
    """Build a configuration object from plain data.

    Args:
        model: class of the object.
        content: keys and values, as read from YAML.
        where: the file or name that the content is from, for messages.

    Raises:
        ConfigError: names each invalid key, its value, what is allowed, and the nearest known key.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(_describe_problem(model, problem) for problem in error.errors())
        raise ConfigError(f"{where}: {problems}") from None


def _describe_problem(model: type[BaseModel], problem: Any) -> str:
    location = [part for part in problem["loc"] if not str(part).startswith("function-")]
    key = ".".join(map(str, location))
    if problem["type"] == "extra_forbidden":
        known = _keys_at(model, location[:-1])
        hint = did_you_mean(str(location[-1]), known) if known else "remove it"
        return f"unknown key '{key}', {hint}"
    if problem["type"] == "missing":
        return f"key '{key}' is missing"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if not key:
        return str(message)
    value = problem["input"]
    shown = "" if isinstance(value, dict) else f" = {value!r}"
    return f"'{key}'{shown}: {message}"


def _keys_at(model: type[BaseModel], location: list[Any]) -> list[str]:
    """Known keys at a location inside a model; a discriminated union is entered by its tag."""
    candidates: list[type[BaseModel]] = [model]
    for part in location:
        inner: list[type[BaseModel]] = []
        for candidate in candidates:
            if str(part) in candidate.model_fields:
                inner += _models_in(candidate.model_fields[str(part)].annotation)
        tagged = [c for c in candidates if str(part) in _tags(c)]
        candidates = inner or tagged or candidates
    return sorted({key for candidate in candidates for key in candidate.model_fields})


def _tags(model: type[BaseModel]) -> set[str]:
    literals = (typing.get_args(field.annotation) for field in model.model_fields.values())
    return {arg for args in literals for arg in args if isinstance(arg, str)}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for arg in typing.get_args(annotation) for model in _models_in(arg)]
