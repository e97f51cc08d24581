"""Attribution maps of known functions and of tiny runs, the pointing game, figures and files."""

from __future__ import annotations

import csv
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor

from halometry.attribution.command import explain_predictions, play_pointing_games
from halometry.attribution.explain import Attribution, explain_rows
from halometry.attribution.figure import maps_figure, pointing_figure
from halometry.attribution.maps import attribution_maps
from halometry.attribution.pointing_game import PointingGame, distances_to_substructure
from halometry.attribution.tables import AttributionResult
from halometry.compare.examples import select_examples
from halometry.datasets.open import open_dataset
from halometry.errors import DataError, RunError, UnavailableError, UsageError
from halometry.evaluation.evaluate import evaluate
from halometry.runs.exported import ExportedRun
from halometry.runs.run import load_run
from halometry.simulation import Scene, draw_scenes, load_preset, sample
from halometry.simulation.render import convolve_gaussian, pixel_grid
from halometry.simulation.substructure_maps import substructure_convergence

pytest.importorskip("captum")

PRESET = "demo_classification"
PIXEL = (20, 31)  # row and column of the pixel on which the functions depend


def mass_of_pixel(raw: Tensor) -> Tensor:
    """A mass that is three times one pixel."""
    return 3 * raw[:, 0, PIXEL[0], PIXEL[1]]


def classes_of_pixel(raw: Tensor) -> Tensor:
    """Probabilities of two classes, whose log odds are one pixel."""
    odds = raw[:, 0, PIXEL[0], PIXEL[1]]
    return torch.stack([odds.sigmoid(), (-odds).sigmoid()], dim=1)


def random_images() -> Tensor:
    return torch.rand(2, 1, 48, 48, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("predict_fn", "slope"), [(mass_of_pixel, 3), (classes_of_pixel, 1)])
def test_saliency_is_the_gradient(predict_fn: Callable[[Tensor], Tensor], slope: float) -> None:
    maps = attribution_maps(predict_fn, random_images(), "saliency")
    expected = torch.zeros(2, 48, 48)
    expected[:, PIXEL[0], PIXEL[1]] = slope
    torch.testing.assert_close(maps, expected, atol=1e-5, rtol=0)


def test_sum_of_integrated_gradients_is_the_difference_from_the_baseline() -> None:
    raw = random_images()

    def predict(raw: Tensor) -> Tensor:
        return (raw**3).sum(dim=(1, 2, 3)) + raw[:, 0, 5, 5] * raw[:, 0, 7, 7]

    maps = attribution_maps(predict, raw, "integrated_gradients")
    baseline = convolve_gaussian(raw, 48 / 30)
    torch.testing.assert_close(maps.sum(dim=(1, 2)), predict(raw) - predict(baseline))


def test_occlusion_is_the_decrease_of_the_score_under_a_patch() -> None:
    raw = random_images()
    maps = attribution_maps(mass_of_pixel, raw, "occlusion")
    decrease = mass_of_pixel(raw) - mass_of_pixel(convolve_gaussian(raw, 48 / 30))
    torch.testing.assert_close(maps[:, PIXEL[0], PIXEL[1]], decrease)
    assert bool((maps != 0).sum() <= 2 * 9)  # patches of 2 px reach no further


def smooth_lenses_with(**changes: object) -> Scene:
    """Two lenses without substructure, changed."""
    scene = draw_scenes(load_preset(PRESET), seed=1, start=0, count=6)
    return replace(scene.rows(slice(0, 6, 3)), **changes)  # type: ignore[arg-type]


def float64(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_distances_are_to_the_heaviest_subhalo() -> None:
    scene = smooth_lenses_with(
        subhalo_mass=float64([[1e8, 1e9, 0], [0, 0, 0]]),
        subhalo_x=float64([[0, 1, 9], [0, 0, 0]]),
        subhalo_y=float64([[0, -1, 9], [0, 0, 0]]),
    )
    distances = distances_to_substructure(scene, np.array([1.0, 4.0]), np.array([-1.0, 3.0]))
    np.testing.assert_allclose(distances[0], [0, 5])
    assert np.isnan(distances[1]).all()


def test_distances_are_to_the_nearest_part_of_the_vortex() -> None:
    two = torch.ones(2, dtype=torch.float64)
    scene = smooth_lenses_with(
        vortex_mass=1e10 * two,
        vortex_x=0 * two,
        vortex_y=two,
        vortex_length=2 * two,
        vortex_angle=float64([0, np.pi / 2]),
    )
    distances = distances_to_substructure(scene, np.array([0.5, 4.0]), np.array([0.0, 5.0]))
    np.testing.assert_allclose(distances, [[1, 5], [0.5, 5]])


def test_pointing_game_measures_from_the_pixel_of_the_peak() -> None:
    spec = load_preset(PRESET).image
    peaks = [(10, 40), (30, 5), (24, 24)]  # row and column
    x, y = (
        [[(peak[axis] - (spec.pixels - 1) / 2) * spec.pixel_scale] for peak in peaks]
        for axis in (1, 0)
    )
    scene = draw_scenes(load_preset(PRESET), seed=1, start=0, count=3)
    scene = replace(
        scene,
        subhalo_mass=float64([[1e9]] * 3),
        subhalo_x=float64(x),
        subhalo_y=float64(y),
        vortex_mass=float64([0, 0, 0]),
    )
    attributions = []
    for row, column in peaks:
        map_ = np.zeros((spec.pixels, spec.pixels))
        map_[row, column] = 1
        attributions.append(Attribution("a.npy", "no 99%", map_, map_))
    (game,) = play_pointing_games(attributions, scene, spec)
    assert game.target == "the heaviest subhalo"
    np.testing.assert_allclose(game.own_distances, 0, atol=1e-12)
    expected = np.hypot(20, 35) * spec.pixel_scale  # of the first two peaks
    assert game.distances[0, 1] == pytest.approx(expected)
    assert game.hit_fraction.value == 1
    assert game.chance_fraction == 0


def test_random_peaks_are_hits_by_chance_alone() -> None:
    rng = np.random.default_rng(3)
    true, peaks = rng.uniform(0, 1, (2, 400, 2))
    distances = np.hypot(*(true[:, None] - peaks[None]).transpose(2, 0, 1))
    random = PointingGame("subhalo", distances, 0.2)
    assert random.hit_fraction.low < random.chance_fraction < random.hit_fraction.high
    assert random.above_chance.low < 0 < random.above_chance.high
    exact = PointingGame("subhalo", np.hypot(*(true[:, None] - true[None]).transpose(2, 0, 1)), 0.2)
    assert exact.hit_fraction.value == 1
    assert exact.chance_fraction == pytest.approx(0.11, abs=0.02)
    assert exact.above_chance.low > 0.85


def circles(figure: Figure) -> list[tuple[float, float]]:
    """Coordinates of the circles in a figure, panel by panel."""
    lines = [line for panel in figure.axes for line in panel.get_lines()]
    return [(*line.get_xdata(), *line.get_ydata()) for line in lines]


def test_maps_figure_marks_the_peak_of_each_map() -> None:
    rng = np.random.default_rng(0)
    images = [rng.random((20, 20)) for _ in range(2)]
    maps = [np.zeros((20, 20)) for _ in range(2)]
    maps[0][3, 15] = maps[1][12, 7] = 2
    mass = [np.zeros((20, 20)) for _ in range(2)]
    mass[1][5, 4] = 1
    figure = maps_figure(images, maps, ["a", "b"], substructure=mass)
    assert circles(figure) == [(15, 3), (7, 12)]
    first, second, first_map, second_map = figure.axes[:4]
    np.testing.assert_array_equal(first_map.images[0].get_array(), maps[0] / 2)
    np.testing.assert_array_equal(second_map.images[0].get_array(), maps[1] / 2)
    assert [len(panel.collections) for panel in (first, second)] == [0, 1]
    vertices = second_map.collections[0].get_paths()[0].vertices
    assert vertices.mean(axis=0) == pytest.approx([4, 5], abs=0.2)


def test_pointing_figure_shows_cumulative_fractions() -> None:
    distances = np.array([[0.1, 0.8, 0.9], [0.7, 0.5, 0.95], [0.6, 0.85, 0.3]])
    (panel,) = pointing_figure([PointingGame("the vortex", distances, 0.2)]).axes
    chance, own, radius = panel.get_lines()
    assert np.interp([0.05, 0.2, 0.4, 0.6], own.get_xdata(), own.get_ydata()) == pytest.approx(
        [0, 1 / 3, 2 / 3, 1], abs=0.01
    )
    assert np.interp(0.75, chance.get_xdata(), chance.get_ydata()) == pytest.approx(2 / 6)
    assert radius.get_xdata()[0] == 0.2
    assert panel.get_title(loc="left") == "the vortex, 3 lenses"


@pytest.fixture(scope="module")
def written(
    published: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[AttributionResult, Path]:
    """Result and folder of a run on 15 simulated images."""
    out = tmp_path_factory.mktemp("attribution") / "out"
    run = published / "runs" / PRESET
    return explain_predictions(run, out=out, count=15, seed=3, method="saliency"), out


def test_result_for_simulated_images_is_written(written: tuple[AttributionResult, Path]) -> None:
    result, out = written
    record = json.loads((out / "attribution.json").read_text())
    assert record["format"] == "halometry-attribution"
    assert [game.target for game in result.pointing] == ["the heaviest subhalo", "the vortex"]
    assert [len(game) for game in result.pointing] == [5, 5]
    assert record["rows"] == result.rows
    assert record["preset"] == PRESET
    with np.load(out / "maps.npz") as maps:
        assert len(maps.files) == 15
        np.testing.assert_array_equal(maps["arr_4"], result.attributions[4].map)
    rows = list(csv.DictReader((out / "attribution.csv").read_text().splitlines()))
    peak = int(rows[4]["peak_row"]), int(rows[4]["peak_column"])
    assert peak == result.attributions[4].peak
    assert result.attributions[4].map[peak] == result.attributions[4].map.max()
    assert [row["image"] for row in rows[:3]] == ["true: no", "true: sphere", "true: vort"]
    assert rows[0]["prediction"] == result.attributions[0].prediction
    smooth, with_subhalos = (result.attributions[k].substructure for k in (0, 1))
    assert smooth is not None
    assert with_subhalos is not None
    assert float(smooth.max()) == 0 < float(with_subhalos.max())
    assert all((out / name).stat().st_size > 1000 for name in ("maps.png", "pointing.png"))


def test_result_depends_on_the_seed_alone(
    published: Path, written: tuple[AttributionResult, Path]
) -> None:
    repeated = explain_predictions(published / "runs" / PRESET, count=12, seed=3, method="saliency")
    np.testing.assert_array_equal(repeated.attributions[7].map, written[0].attributions[7].map)


def test_simulated_images_are_not_those_of_a_training_set(
    written: tuple[AttributionResult, Path],
) -> None:
    images = np.stack([each.image for each in written[0].attributions])
    training, _ = sample(load_preset(PRESET), seed=3, start=0, count=15)
    distances = np.abs(images[:, None] - training[:, 0].numpy()[None]).max(axis=(2, 3))
    assert distances.min() > 10


def test_given_images_are_explained_and_damaged_ones_named(
    published: Path, masses: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="halometry")
    folder = tmp_path / "mine"
    folder.mkdir()
    data = open_dataset(masses)
    np.save(folder / "a.npy", data.images[3, 0])
    (folder / "b.npy").write_bytes(b"no image")
    np.save(folder / "c.npy", np.ones((2, 48, 48, 7)))
    result = explain_predictions(published / "runs" / "demo_mass", folder, out=tmp_path / "out")
    assert [Path(each.name).name for each in result.attributions] == ["a.npy"]
    assert result.attributions[0].prediction.startswith("f_sub ")
    assert result.pointing == []
    assert not (tmp_path / "out" / "pointing.png").exists()
    assert "b.npy" in caplog.text
    assert "c.npy" in caplog.text


def test_images_of_the_training_set_have_their_substructure(published: Path, lenses: Path) -> None:
    data = open_dataset(lenses)
    run = load_run(published / "runs" / PRESET)
    smooth, with_subhalos = (each.substructure for each in explain_rows(run, data, [0, 1]))
    assert smooth is not None
    assert float(smooth.max()) == 0
    preset = load_preset(PRESET)
    scene = draw_scenes(preset, seed=1, start=1, count=1)
    grid = pixel_grid(preset.image.model_copy(update={"supersampling": 1}), scene.f_sub)
    expected = substructure_convergence(scene, *grid, smoothing=0.08)[0].numpy()
    np.testing.assert_array_equal(with_subhalos, expected)
    other = replace(data, attributes={}, names=[f"{k}.npy" for k in range(len(data))])
    assert explain_rows(run, other, [1])[0].substructure is None


def test_wrong_options_are_refused(published: Path, tmp_path: Path) -> None:
    run = published / "runs" / PRESET
    with pytest.raises(UsageError, match="--method gradcam: unknown"):
        explain_predictions(run, method="gradcam")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="--count 3: must be at least 12"):
        explain_predictions(run, count=3)
    with pytest.raises(RunError, match="each image of preset common_test_1 is 150 x 150 pixels"):
        explain_predictions(run, preset="common_test_1", count=12)
    with pytest.raises(RunError, match="masses; preset common_test_1 has no, sphere"):
        explain_predictions(published / "runs" / "demo_mass", preset="common_test_1", count=12)
    (tmp_path / "x.npy").write_bytes(b"no image")
    with pytest.raises(DataError, match="contains no image that the run can predict"):
        explain_predictions(run, tmp_path / "x.npy")


def test_exported_run_is_refused(published: Path) -> None:
    config = load_run(published / "runs" / PRESET).config
    with pytest.raises(RunError, match=r"run\.onnx: an exported file has no gradients; give the"):
        explain_predictions(ExportedRun(Path("run.onnx"), config, {}), count=12)


def test_missing_captum_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum", None)
    with pytest.raises(UnavailableError, match=r"pip install 'halometry\[attribution\]'"):
        explain_predictions("common_test_1/d4net")


def test_comparison_report_is_written_without_maps_if_they_fail(
    published: Path, lenses: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO, logger="halometry")

    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    run = load_run(published / "runs" / PRESET)
    evaluations = {run.name: evaluate(run, lenses, resamples=10)}
    examples = select_examples(open_dataset(lenses), evaluations, seed=0, explain=run.name)
    assert len(examples.attributions) == 6
    names = ["no"] * 2 + ["sphere"] * 2 + ["vort"] * 2
    assert [each.name.split()[-1] for each in examples.attributions] == names
    monkeypatch.setattr("halometry.compare.examples.explain_rows", fail)
    assert (
        select_examples(open_dataset(lenses), evaluations, seed=0, explain=run.name).attributions
        == []
    )
    assert "out of memory" in caplog.text
