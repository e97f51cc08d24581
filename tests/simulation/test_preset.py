"""Presets are checked key by key before anything is rendered."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from halometry.errors import ConfigError, UsageError
from halometry.simulation import draw_scenes, list_presets, load_preset
from halometry.simulation.distributions import Quantity
from helpers.presets import changed_preset, write_preset


def test_a_printed_preset_can_be_read_again(tmp_path: Path) -> None:
    for name in list_presets():
        file = tmp_path / f"{name}.yaml"
        file.write_text(load_preset(name).to_yaml())
        assert load_preset(file) == load_preset(name)


def sourceless(content: object, place: str = "") -> list[str]:
    """Where a parameter has no source."""
    if not isinstance(content, dict):
        return []
    if "unit" in content:
        return [] if content["source"] else [place]
    return [one for key, value in content.items() for one in sourceless(value, f"{place}.{key}")]


@pytest.mark.parametrize("name", list_presets())
def test_every_parameter_has_a_source(name: str) -> None:
    assert not sourceless(yaml.safe_load(load_preset(name).to_yaml()))


def test_an_unknown_preset_gets_the_nearest_name() -> None:
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
def test_a_wrong_key_or_value_is_named(
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
def test_a_file_that_is_no_preset_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_preset(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml: cannot be read"):
        load_preset(tmp_path / "gone.yaml")


numbers = st.floats(0.1, 100)


@given(a=numbers, b=numbers, seed=st.integers(0, 2**32), law=st.sampled_from(["uniform", "log_"]))
def test_draws_stay_within_their_support(a: float, b: float, seed: int, law: str) -> None:
    low, high = sorted((a, b))
    name = "log_uniform" if law == "log_" else law
    quantity = Quantity.model_validate({name: (low, high)})
    drawn = quantity.draw(np.random.default_rng(seed), 50)
    assert quantity.support == (low, high)
    assert (drawn >= low * (1 - 1e-9)).all()
    assert (drawn <= high * (1 + 1e-9)).all()


@given(slope=st.floats(-3, 3), seed=st.integers(0, 2**32))
def test_power_laws_stay_within_their_ends(slope: float, seed: int) -> None:
    quantity = Quantity.model_validate({"power_law": {"slope": slope, "low": 1e6, "high": 1e10}})
    drawn = quantity.draw(np.random.default_rng(seed), 50)
    assert (drawn >= 1e6 * (1 - 1e-6)).all()
    assert (drawn <= 1e10 * (1 + 1e-6)).all()


def test_a_power_law_has_its_mean() -> None:
    law = {"slope": -0.88, "low": 1e6, "high": 1e10}
    drawn = Quantity.model_validate({"power_law": law}).draw(np.random.default_rng(0), 200_000)
    mean = (0.12 / 1.12) * (1e10**1.12 - 1e6**1.12) / (1e10**0.12 - 1e6**0.12)
    assert drawn.mean() == pytest.approx(mean, rel=0.01)


def test_a_disc_is_uniform_in_area() -> None:
    drawn = Quantity(uniform_disk=2.0).draw(np.random.default_rng(0), 100_000)
    assert np.mean(drawn < 1.0) == pytest.approx(0.25, abs=0.01)


def test_a_bare_no_is_a_word_and_not_false(tmp_path: Path) -> None:
    text = load_preset("demo_classification").to_yaml()
    start, end = text.index("classes:"), text.index("cosmology:")
    file = tmp_path / "mine.yaml"
    file.write_text(text[:start] + "classes: {no: no, heavy: sphere}\n" + text[end:])
    assert load_preset(file).class_names == ("no", "heavy")


def test_a_preset_travels_without_the_pictures_that_it_names(tmp_path: Path) -> None:
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
def test_images_are_counted_from_zero(start: int, count: int) -> None:
    with pytest.raises(UsageError, match="count from 0 upwards"):
        draw_scenes(load_preset("demo_mass"), 0, start, count)


def test_a_negative_sigma_is_refused() -> None:
    with pytest.raises(ValueError, match="sigma must not be negative"):
        Quantity(normal=(1.0, -0.1))
