"""Predictions for a user's own files: one row per image, unreadable files included."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from astropy.io import fits
from PIL import Image as Picture

from halometry.datasets.store import open_store
from halometry.errors import DataError, StorageError, UsageError
from halometry.evaluation.predict import predict
from halometry.runs.run import Run
from halometry.training.train import train

QUICK: dict[str, Any] = {"epochs": 1, "precision": "float32", "channels_last": True}
NETWORK = "test_resnet"
CLASSES = ("no", "sphere", "vort")


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def run(lenses: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "classes"
    return train("classification", lenses, NETWORK, out, overrides=QUICK).path


@pytest.fixture(scope="module")
def mass_run(masses: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "masses"
    return train("regression", masses, NETWORK, out, overrides=QUICK).path


@pytest.fixture
def image(lenses: Path) -> np.ndarray:
    with open_store(lenses) as store:
        return np.asarray(store["images"][1, 0], dtype=np.float32)


def object_array(path: Path, image: np.ndarray, mass: float) -> None:
    pair = np.empty(2, dtype=object)
    pair[0], pair[1] = image, mass
    np.save(path, pair, allow_pickle=True)


def test_image_has_the_same_prediction_in_every_file_format(
    run: Path, image: np.ndarray, tmp_path: Path
) -> None:
    np.save(tmp_path / "plain.npy", image)
    np.save(tmp_path / "channel.npy", image[None])
    np.save(tmp_path / "double.npy", image.astype(np.float64))
    np.save(tmp_path / "swapped.npy", image.astype(">f4"))
    object_array(tmp_path / "pair.npy", image, 0.02)
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(image)]).writeto(tmp_path / "lens.fits")
    Picture.fromarray(image.astype(np.uint16)).save(tmp_path / "deep.png")
    predictions = predict(run, tmp_path)
    assert len(predictions) == 7
    assert all(prediction.error is None for prediction in predictions)
    values = np.array(
        [[prediction.probabilities[c] for c in CLASSES] for prediction in predictions]
    )
    np.testing.assert_allclose(values.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(values - values[0], 0, atol=1e-5)


def test_pictures_of_eight_bits_are_read(run: Path, image: np.ndarray, tmp_path: Path) -> None:
    scaled = (255 * (image - image.min()) / np.ptp(image)).astype(np.uint8)
    for name in ("a.png", "a.jpg"):
        Picture.fromarray(scaled).save(tmp_path / name)
    assert [a.error for a in predict(run, [tmp_path / "a.png", tmp_path / "a.jpg"])] == [None, None]


def test_unreadable_files_are_rows_with_an_error(
    run: Path, image: np.ndarray, tmp_path: Path
) -> None:
    files = tmp_path / "files"
    files.mkdir()
    np.save(files / "1_good.npy", image)
    (files / "2_truncated.npy").write_bytes((files / "1_good.npy").read_bytes()[:500])
    np.save(files / "3_nan.npy", np.where(image > image.mean(), np.nan, image))
    np.save(files / "4_constant.npy", np.zeros_like(image))
    (files / "5_not_fits.fits").write_bytes(b"hello")
    (files / "6_empty.png").touch()
    np.save(files / "7_small.npy", image[:20, :20])
    np.save(files / "8_colors.npy", np.stack([image, image * 2, image + 1]))
    np.save(files / "9_good.npy", image)
    out = tmp_path / "predictions.csv"
    predictions = predict(run, files, out=out, batch_size=4)
    rows = rows_of(out)
    assert [Path(row["image"]).name for row in rows] == sorted(p.name for p in files.iterdir())
    reasons = [row["error"] for row in rows]
    assert reasons[0] == reasons[-1] == ""
    for reason, word in zip(
        reasons[1:-1],
        ("truncated", "not finite", "constant", "not a FITS file", "is empty",
         "20 x 20 pixels, the run was trained on 48 x 48", "3 channels"),
        strict=True,
    ):  # fmt: skip
        assert word in reason
    for row, prediction in zip(rows, predictions, strict=True):
        assert bool(row["prediction"]) == (prediction.error is None)
        assert row["prediction"] == (prediction.predicted_class or "")
    for name in CLASSES:
        assert float(rows[0][f"prob_{name}"]) == pytest.approx(float(rows[-1][f"prob_{name}"]))


def test_data_set_has_one_row_per_image(run: Path, lenses: Path, tmp_path: Path) -> None:
    predictions = predict(run, lenses, out=tmp_path / "p.csv")
    assert [a.image for a in predictions[:2]] == [f"{lenses}#0", f"{lenses}#1"]
    assert len(predictions) == 90


def test_table_of_masses_has_f_sub_and_a_conformal_interval(
    mass_run: Path, image: np.ndarray, tmp_path: Path
) -> None:
    object_array(tmp_path / "image_1.npy", image, 0.03)
    object_array(tmp_path / "image_10.npy", image, 0.03)
    object_array(tmp_path / "image_2.npy", image[None], 0.03)
    out = tmp_path / "p.csv"
    predictions = predict(mass_run, tmp_path, out=out)
    names = [Path(a.image).name for a in predictions]
    assert names == ["image_1.npy", "image_2.npy", "image_10.npy"]
    lines = out.read_text().splitlines()
    assert lines[0] == "image,f_sub,conformal_lo_90,conformal_hi_90,error"
    assert 0 <= float(lines[1].split(",")[1]) < 1
    assert predictions[0].predicted_class is None


def test_run_that_resizes_accepts_any_size(lenses: Path, tmp_path: Path) -> None:
    options = QUICK | {"size": 32}
    out = tmp_path / "run"
    run = train("classification", lenses, NETWORK, out, overrides=options)
    for side in (20, 33, 150):
        noise = np.random.default_rng(side).random((side, side + 1))
        np.save(tmp_path / f"{side}.npy", noise)
    predictions = predict(run, [tmp_path / f"{side}.npy" for side in (20, 33, 150)])
    assert [a.error for a in predictions] == [None] * 3


def test_published_images_are_read(shared_data: Path, lenses: Path, tmp_path: Path) -> None:
    options = QUICK | {"size": 32}
    out = tmp_path / "run"
    run = train("classification", lenses, NETWORK, out, overrides=options)
    predictions = predict(run, shared_data / "common_test_1")
    assert len(predictions) >= 18
    assert all(prediction.error is None for prediction in predictions)


def test_gray_image_equals_one_with_three_equal_channels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(8):
            np.save(tmp_path / "set" / name / f"{i}.npy", rng.random((3, 32, 32)))
    run = train("classification", tmp_path / "set", NETWORK, tmp_path / "run",
                overrides=QUICK)  # fmt: skip
    gray = rng.random((32, 32))
    np.save(tmp_path / "one.npy", gray)
    np.save(tmp_path / "three.npy", np.stack([gray] * 3))
    one, three = predict(run, [tmp_path / "one.npy", tmp_path / "three.npy"])
    assert one.error is None
    assert one.probabilities == three.probabilities


def test_invalid_images_of_a_data_set_are_rows_with_an_error(run: Path, tmp_path: Path) -> None:
    import h5py

    images = np.random.default_rng(0).random((4, 1, 48, 48))
    images[1, 0, 3, 3], images[2] = np.nan, 7
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs.update(format="halometry-dataset", format_version=1, task="classification")
        file["images"], file["labels"] = images, np.arange(4)
    predictions = predict(run, tmp_path / "a.h5")
    assert [a.error for a in predictions] == [
        None,
        "has 1 of 2304 pixels that are not finite (NaN or infinite)",
        "is constant: every pixel is 7",
        None,
    ]


def test_damaged_data_set_is_a_row_with_an_error(run: Path, tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs.update(format="halometry-dataset", format_version=1, task="classification")
        file["images"] = np.random.default_rng(0).random((4, 1, 48, 48))
        file.create_dataset("labels", data=np.arange(4), chunks=(4,), fletcher32=True)
        file.flush()
        place = file["labels"].id.get_chunk_info(0).byte_offset
    with (tmp_path / "a.h5").open("r+b") as raw:
        raw.seek(place)
        raw.write(b"\x01" * 8)
    np.save(tmp_path / "b.npy", np.random.default_rng(1).random((48, 48)))
    damaged, good = predict(run, tmp_path)
    assert damaged.error == "is damaged"
    assert good.error is None


def test_unwritable_output_is_refused_before_any_prediction(
    run: Path, image: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "good.npy", image)
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr(Run, "predictor", None)  # would fail if it were reached
    with pytest.raises(StorageError, match="folder: is a folder; give the name of a file"):
        predict(run, tmp_path / "good.npy", out=tmp_path / "folder")
    with pytest.raises(StorageError, match=r"good\.npy: is a file, not a folder; choose"):
        predict(run, tmp_path / "good.npy", out=tmp_path / "good.npy" / "p.csv")


def test_missing_images_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images found"):
        predict(run, tmp_path)
    with pytest.raises(DataError, match="no path given: no images found"):
        predict(run, [])


def test_missing_file_is_a_row_with_an_error(run: Path, image: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "good.npy", image)
    predictions = predict(run, [tmp_path / "gone.npy", tmp_path / "good.npy"])
    assert predictions[0].error == "no such file"
    assert predictions[1].error is None


def test_full_disk_keeps_the_earlier_table(
    run: Path, image: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "good.npy", image)
    out = tmp_path / "p.csv"
    out.write_text("earlier")

    def full(*_: Any, **__: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(StorageError, match=r"p\.csv: cannot be written \(No space left"):
        predict(run, tmp_path / "good.npy", out=out)
    monkeypatch.undo()
    assert out.read_text() == "earlier"


def test_moved_run_folder_has_the_same_predictions(
    run: Path, image: np.ndarray, tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "elsewhere")
    np.save(tmp_path / "a.npy", image)
    first, second = (predict(r, tmp_path / "a.npy")[0] for r in (run, tmp_path / "elsewhere"))
    assert first.probabilities == second.probabilities


def test_file_given_twice_has_one_row(run: Path, image: np.ndarray, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for name in ("a", "b"):
        np.save(folder / f"{name}.npy", image)
    predictions = predict(run, [folder / "b.npy", folder, folder / "a.npy"])
    assert [Path(prediction.image).name for prediction in predictions] == ["b.npy", "a.npy"]


def test_arrays_have_the_predictions_of_their_files(
    run: Path, image: np.ndarray, tmp_path: Path
) -> None:
    np.save(tmp_path / "a.npy", image)
    (expected,) = predict(run, tmp_path / "a.npy")
    several = np.stack([image, image.T.copy()])
    three = np.stack([image, image, image.T])  # no colors: the run takes one channel
    forms = [image, image[None], several, several[:, None], torch.from_numpy(several), three]
    for form, count in zip([*forms, [*several]], (1, 1, 2, 2, 2, 3, 2), strict=True):
        predictions = predict(run, form)
        assert [prediction.image for prediction in predictions] == [
            f"array[{i}]" for i in range(count)
        ]
        assert predictions[0].probabilities == pytest.approx(expected.probabilities, abs=1e-5)
    several[1, 0, 0] = np.nan
    assert "not finite" in str(predict(run, several)[1].error)
    with pytest.raises(DataError, match="the array holds no images"):
        predict(run, several[:0])
    for wrong in ([image, "a.npy"], 3, torch.ones(48, 48, requires_grad=True)):
        with pytest.raises(UsageError, match="array"):
            predict(run, wrong)  # type: ignore[arg-type]
