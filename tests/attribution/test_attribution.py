"""Maps of what answers rest on: toys whose maps are known, and what is written of real runs."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from halometry.attribution.command import explain_predictions
from halometry.attribution.explain import explain_rows
from halometry.attribution.maps import attribution_maps
from halometry.attribution.pointing_game import PointingGame, distances_to_substructure
from halometry.compare.compare import select_examples
from halometry.datasets.open import open_dataset
from halometry.errors import DataError, RunError, UnavailableError, UsageError
from halometry.evaluation.evaluate import evaluate
from halometry.publish.export import export
from halometry.runs.run import load_run
from halometry.simulation import Scene, draw_scenes, load_preset
from halometry.simulation.render import convolve_gaussian, pixel_grid
from halometry.simulation.substructure_maps import substructure_convergence

pytest.importorskip("captum")

PLACE = (20, 31)  # row and column of the pixel that toys look at


def mass_of(raw: Tensor) -> Tensor:
    """A mass that is three times one pixel."""
    return 3 * raw[:, 0, PLACE[0], PLACE[1]]


def classes_of(raw: Tensor) -> Tensor:
    """Two classes, whose log odds are one pixel."""
    odds = raw[:, 0, PLACE[0], PLACE[1]]
    return torch.stack([odds.sigmoid(), (-odds).sigmoid()], dim=1)


def images() -> Tensor:
    return torch.rand(2, 1, 48, 48, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("answer", [mass_of, classes_of])
def test_the_gradient_of_a_pixel_is_that_pixel(answer: object) -> None:
    maps = attribution_maps(answer, images(), "saliency")  # type: ignore[arg-type]
    expected = torch.zeros(2, 48, 48)
    expected[:, PLACE[0], PLACE[1]] = 3 if answer is mass_of else 1
    torch.testing.assert_close(maps, expected, atol=1e-5, rtol=0)


def test_integrated_gradients_add_up_to_what_the_fine_structure_does() -> None:
    raw = images()

    def answer(raw: Tensor) -> Tensor:
        return (raw**3).sum(dim=(1, 2, 3)) + raw[:, 0, 5, 5] * raw[:, 0, 7, 7]

    maps = attribution_maps(answer, raw, "integrated_gradients")
    smooth = convolve_gaussian(raw, 48 / 30)
    torch.testing.assert_close(maps.sum(dim=(1, 2)), answer(raw) - answer(smooth))


def test_occlusion_is_what_the_answer_loses_under_a_patch() -> None:
    raw = images()
    maps = attribution_maps(mass_of, raw, "occlusion")
    lost = mass_of(raw) - mass_of(convolve_gaussian(raw, 48 / 30))
    torch.testing.assert_close(maps[:, PLACE[0], PLACE[1]], lost)
    assert bool((maps != 0).sum() <= 2 * 9)  # no patch of 2 px reaches further


def lenses_with(**changes: object) -> Scene:
    """Two lenses without substructure, changed."""
    scene = draw_scenes(load_preset("demo_classification"), seed=1, start=0, count=6)
    return replace(scene.rows(slice(0, 6, 3)), **changes)  # type: ignore[arg-type]


def test_distances_are_from_the_heaviest_subhalo() -> None:
    scene = lenses_with(
        subhalo_mass=torch.tensor([[1e8, 1e9, 0], [0, 0, 0]], dtype=torch.float64),
        subhalo_x=torch.tensor([[0, 1, 9], [0, 0, 0]], dtype=torch.float64),
        subhalo_y=torch.tensor([[0, -1, 9], [0, 0, 0]], dtype=torch.float64),
    )
    apart = distances_to_substructure(scene, np.array([1.0, 4.0]), np.array([-1.0, 3.0]))
    np.testing.assert_allclose(apart[0], [0, 5])
    assert np.isnan(apart[1]).all()


def test_distances_are_from_the_nearest_part_of_a_line() -> None:
    two = torch.ones(2, dtype=torch.float64)
    scene = lenses_with(
        vortex_mass=1e10 * two,
        vortex_x=0 * two,
        vortex_y=two,
        vortex_length=2 * two,
        vortex_angle=torch.tensor([0, np.pi / 2], dtype=torch.float64),
    )
    apart = distances_to_substructure(scene, np.array([0.5, 4.0]), np.array([0.0, 5.0]))
    np.testing.assert_allclose(apart, [[1, 5], [0.5, 5]])


def test_maps_that_know_nothing_point_no_better_than_chance() -> None:
    rng = np.random.default_rng(3)
    truth, peaks = rng.uniform(0, 1, (2, 400, 2))
    apart = np.hypot(*(truth[:, None] - peaks[None]).transpose(2, 0, 1))
    blind = PointingGame("lump", apart, 0.2)
    assert blind.hit_fraction.low < blind.chance_fraction < blind.hit_fraction.high
    assert blind.above_chance.low < 0 < blind.above_chance.high
    seeing = PointingGame("lump", np.hypot(*(truth[:, None] - truth[None]).transpose(2, 0, 1)), 0.2)
    assert seeing.hit_fraction.value == 1
    assert seeing.chance_fraction == pytest.approx(0.11, abs=0.02)
    assert seeing.above_chance.low > 0.85


def test_simulated_images_tell_how_often_the_maps_are_right(
    published: Path, tmp_path: Path
) -> None:
    out = tmp_path / "seen"
    run = published / "runs" / "demo_classification"
    made = explain_predictions(run, out=out, count=15, seed=3, method="saliency")
    record = json.loads((out / "attribution.json").read_text())
    assert [one.target for one in made.pointing] == ["the heaviest subhalo", "the line of mass"]
    assert [len(one) for one in made.pointing] == [5, 5]
    assert record["rows"] == made.rows
    assert record["preset"] == "demo_classification"
    with np.load(out / "maps.npz") as maps:
        assert len(maps.files) == 15
        np.testing.assert_array_equal(maps["arr_4"], made.attributions[4].map)
    assert made.attributions[0].truth is not None
    assert float(made.attributions[0].truth.max()) == 0  # the class without substructure
    assert made.attributions[1].truth is not None
    assert float(made.attributions[1].truth.max()) > 0
    assert all((out / name).stat().st_size > 1000 for name in ("maps.png", "pointing.png"))
    again = explain_predictions(run, count=15, seed=3, method="saliency")
    np.testing.assert_array_equal(again.attributions[7].map, made.attributions[7].map)


def test_one_s_own_images_a_damaged_one_among_them(
    published: Path, masses: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    data = open_dataset(masses)
    np.save(folder / "a.npy", data.images[3, 0])
    (folder / "b.npy").write_bytes(b"no image")
    np.save(folder / "c.npy", np.ones((2, 48, 48, 7)))
    made = explain_predictions(published / "runs" / "demo_mass", folder, tmp_path / "out")
    assert [Path(one.name).name for one in made.attributions] == ["a.npy"]
    assert made.attributions[0].prediction.startswith("f_sub ")
    assert made.pointing == []
    assert not (tmp_path / "out" / "pointing.png").exists()
    told = capsys.readouterr().err
    assert "b.npy" in told
    assert "c.npy" in told


def test_images_of_a_set_are_beside_their_own_substructure(published: Path, lenses: Path) -> None:
    data = open_dataset(lenses)
    run = load_run(published / "runs" / "demo_classification")
    without, with_lumps = explain_rows(run, data, [0, 1])
    assert without.truth is not None
    assert with_lumps.truth is not None
    assert float(without.truth.max()) == 0
    preset = load_preset("demo_classification")
    scene = draw_scenes(preset, seed=1, start=1, count=1)
    grid = pixel_grid(preset.image.model_copy(update={"supersampling": 1}), scene.f_sub)
    expected = substructure_convergence(scene, *grid, smoothing=0.08)[0].numpy()
    np.testing.assert_array_equal(with_lumps.truth, expected)
    elsewhere = replace(data, attributes={}, names=[f"{k}.npy" for k in range(len(data))])
    assert explain_rows(run, elsewhere, [1])[0].truth is None


def test_what_cannot_be_is_refused(published: Path, tmp_path: Path) -> None:
    run = published / "runs" / "demo_classification"
    with pytest.raises(UsageError, match="--method gradcam: unknown"):
        explain_predictions(run, method="gradcam")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="--count 3: must be at least 12"):
        explain_predictions(run, count=3)
    with pytest.raises(RunError, match="each image of preset common_test_1 is 150 x 150 pixels"):
        explain_predictions(run, preset="common_test_1", count=12)
    with pytest.raises(RunError, match="answers for masses; preset common_test_1 has no, sphere"):
        explain_predictions(published / "runs" / "demo_mass", preset="common_test_1", count=12)
    (tmp_path / "x.npy").write_bytes(b"no image")
    with pytest.raises(DataError, match="no images to look at"):
        explain_predictions(run, tmp_path / "x.npy")


def test_an_exported_file_has_no_gradients(published: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    file = export(published / "runs" / "demo_classification", tmp_path / "run.onnx").path
    with pytest.raises(RunError, match="has no gradients; give the run it was made of"):
        explain_predictions(file, count=12)


def test_without_captum_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum", None)
    with pytest.raises(UnavailableError, match=r"pip install 'halometry\[attribution\]'"):
        explain_predictions("common_test_1/d4net")


def test_a_report_is_written_where_maps_cannot_be(
    published: Path, lenses: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def no_room(*_: object) -> None:
        raise RuntimeError("out of memory")

    run = load_run(published / "runs" / "demo_classification")
    judged = {run.name: evaluate(run, lenses, resamples=10)}
    shown = select_examples(open_dataset(lenses), judged, 0, run.name)
    assert len(shown.looks) == 6
    assert [one.name for one in shown.looks] == [
        f"truly {name}" for name in ["no"] * 2 + ["sphere"] * 2 + ["vort"] * 2
    ]
    monkeypatch.setattr("halometry.compare.compare.explain_rows", no_room)
    assert select_examples(open_dataset(lenses), judged, 0, run.name).looks == []
    assert "out of memory" in capsys.readouterr().err
