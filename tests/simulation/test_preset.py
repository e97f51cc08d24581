"""Presets: reading, writing, and errors that name the wrong key."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import yaml

from halometry.errors import ConfigError, UsageError
from halometry.simulation import draw_scenes, list_presets, load_preset
from helpers.presets import changed_preset, write_preset


def test_yaml_of_a_preset_can_be_read_again(tmp_path: Path) -> None:
    for name in list_presets():
        file = tmp_path / f"{name}.yaml"
        file.write_text(load_preset(name).to_yaml())
        assert load_preset(file) == load_preset(name)


def parameters_without_source(content: object, path: str = "") -> list[str]:
    """Keys of the parameters without a source."""
    if not isinstance(content, dict):
        return []
    if "unit" in content:
        return [] if content["source"] else [path]
    return [
        found
        for key, value in content.items()
        for found in parameters_without_source(value, f"{path}.{key}")
    ]


@pytest.mark.parametrize("name", list_presets())
def test_every_parameter_has_a_source(name: str) -> None:
    assert not parameters_without_source(yaml.safe_load(load_preset(name).to_yaml()))


def test_unknown_preset_names_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="unknown preset 'comon_test_1', did you mean 'common_"):
        load_preset("comon_test_1")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lens__sheer": 1}, r"unknown key 'lens.sheer', did you mean 'shear'\?"),
        ({"imag": 1}, r"unknown key 'imag', did you mean 'image'\?"),
        (
            {"lens__shear": {"uniform": [0, 2]}},
            "'lens.shear': must stay between 0 and 0.5",
        ),
        ({"lens__shear": {"poisson": 0.3}}, "'lens.shear': must stay between 0 and 0.5"),
        ({"lens__shear": {"uniform": [0, 2]}}, ", not 0 to 2"),
        ({"lens__shear": 0.1}, r"'lens.shear' = 0.1: write \{value: 0.1\}"),
        (
            {"lens__shear": {"log_normal": {"median": 9, "sigma": 0.1, "low": 0.1, "high": 0.2}}},
            "next to nothing of the distribution lies between",
        ),
        ({"cosmology": {"name": "Planck18", "H0": 50}}, "give either 'name' or 'H0' and 'Om0'"),
        ({"subhalos__number": {"poisson": 900}}, "must stay between 0 and 1000"),
        (
            {"lens__mass": {"value": 1e12, "unit": "kg"}},
            "'lens.mass': its unit must be 'Msun', not 'kg'",
        ),
        ({"lens__mass": {"unit": "Msun"}}, "give exactly one of value, uniform"),
        ({"source__radius": {"unifrom": [1, 2]}}, "unknown key 'source.radius.unifrom'"),
        (
            {"source__radius": {"uniform": [2, 1], "unit": "arcsec"}},
            "must go from the smaller to the larger",
        ),
        ({"image__pixels": 5}, "'image.pixels' = 5: input should be greater than or equal to 16"),
        ({"lens__z_lens": {"value": 0.9}}, "'z_lens' must always be below 'z_source'"),
        ({"task": "clasification"}, "'task' = 'clasification': input should be"),
        ({"vortex": None}, "a class 'vort' needs a 'vortex'"),
        ({"subhalos": None}, "'subhalos' or 'halos' is missing"),
        ({"classes": {"a": "no", "b": "no"}}, "'classes' must be of different kinds"),
        ({"classes": {"a": "nothing"}}, "'classes.a' = 'nothing'"),
        ({"cosmology": {"name": "Planck81"}}, r"unknown cosmology, did you mean 'Planck18'\?"),
        ({"image__instrument": "euclid"}, "unknown instrument 'euclid', did you mean 'euclid_vis'"),
        ({"image__psf": {"file": "psf.fits"}}, r"psf\.fits: cannot be read"),
        ({"source__picture": {"file": "galaxy.gif"}}, r"galaxy\.gif: must be one of \.npy"),
        ({"lens__einstein_radius": {"value": 1.0, "unit": "arcsec"}}, "either 'mass' or 'einstein"),
        ({"subhalos__profile": "tnfw"}, "'tnfw' needs 'concentration_scatter' and 'truncation'"),
        ({"source__magnitude": {"value": 22, "unit": "mag"}}, "give either 'brightness' or"),
        (
            {"source__brightness": {"value": 1, "unit": "counts/s/pixel"}},
            "'source.brightness' must be in counts/pixel without 'image.exposure'",
        ),
        ({"source__x": {"value": 0, "unit": "arcsec"}}, "give either 'offset' and"),
        ({"mass_scale": float("nan")}, "'mass_scale'"),
        (
            {"image__fit_per_image": ["psf"]},
            "'image.fit_per_image.0' = 'psf': input should be 'psf_sigma'",
        ),
        ({"image__fit_per_image": ["sky"], "image__sky": 0}, "names 'sky', which must be above 0"),
    ],
)
def test_error_names_the_wrong_key_or_value(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    file = write_preset(tmp_path, "demo_classification", **changes)
    with pytest.raises(ConfigError, match=message) as caught:
        load_preset(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [1", "is not valid YAML"), ("- 1", "must hold keys and values"), ("", "must hold keys")],
)
def test_file_without_preset_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_preset(file)


def test_error_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml: cannot be read"):
        load_preset(tmp_path / "gone.yaml")


def test_unquoted_no_is_read_as_text(tmp_path: Path) -> None:
    text = load_preset("demo_classification").to_yaml()
    start, end = text.index("classes:"), text.index("cosmology:")
    file = tmp_path / "mine.yaml"
    file.write_text(text[:start] + "classes: {no: no, heavy: sphere}\n" + text[end:])
    assert load_preset(file).class_names == ("no", "heavy")


def test_pickled_preset_does_not_contain_its_pictures(tmp_path: Path) -> None:
    np.savez(tmp_path / "galaxies.npz", images=np.random.default_rng(0).random((50, 64, 64)))
    preset = changed_preset(
        tmp_path,
        source__picture={"file": str(tmp_path / "galaxies.npz")},
        source__sersic_index=None,
        source__axis_ratio=None,
    )
    assert preset.source.pictures is not None
    packed = pickle.dumps(preset)
    assert len(packed) < 50_000
    assert pickle.loads(packed) == preset
    assert str(tmp_path) not in preset.to_yaml()


@pytest.mark.parametrize(("start", "count"), [(0, 0), (-1, 5)])
def test_negative_or_empty_image_range_is_refused(start: int, count: int) -> None:
    with pytest.raises(UsageError, match="count from 0 upwards"):
        draw_scenes(load_preset("demo_mass"), 0, start, count)
