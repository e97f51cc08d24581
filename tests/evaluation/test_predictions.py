"""The prediction table: what is written is read back, and invalid tables are refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from halometry.calibration.posterior import Grid, Posterior
from halometry.calibration.prediction_sets import PredictionSet
from halometry.errors import DataError
from halometry.evaluation.prediction_table import read_predictions
from halometry.evaluation.predictions import QUANTILE_COLUMNS, Prediction, write_predictions
from halometry.ood.detector import OODResult
from halometry.runs.open import AnyRun

CLASS_NAMES = ("no", "sphere", "vort")
GRID = Grid(low=0.0, high=0.1, cells=200)


def run_with(class_names: tuple[str, ...] | None = None, grid: Grid | None = None) -> AnyRun:
    """As much of a run as the writer looks at."""
    return cast(
        "AnyRun", SimpleNamespace(config=SimpleNamespace(class_names=class_names, grid=grid))
    )


def posterior_around(mass: float) -> Posterior:
    return Posterior(GRID, np.exp(-0.5 * ((GRID.centers - mass) / 0.01) ** 2)[None])


def test_table_of_classes_is_read_back(tmp_path: Path) -> None:
    predictions = [
        Prediction(
            "a.npy",
            dict(zip(CLASS_NAMES, (0.7, 0.2, 0.1), strict=True)),
            conformal=PredictionSet(classes=("no", "sphere")),
            ood=OODResult(0.25, 0.4, None),
            true="no",
        ),
        Prediction(
            "set.h5#1",
            dict(zip(CLASS_NAMES, (0.1, 0.1, 0.8), strict=True)),
            conformal=PredictionSet(classes=()),
            ood=OODResult(0.001, 3.0, "noise"),
            true="sphere",
        ),
        Prediction("b, c.npy", error="is empty"),
    ]
    path = tmp_path / "predictions.csv"
    write_predictions(path, run_with(CLASS_NAMES), predictions, coverage=0.9, ood=True)
    assert path.read_text().splitlines()[:2] == [
        "image,true,prediction,prob_no,prob_sphere,prob_vort,conformal_set_90,ood_p_value,"
        "ood_reason,error",
        "a.npy,no,no,0.7,0.2,0.1,no|sphere,0.25,,",
    ]
    table = read_predictions(path)
    assert table.images == ["a.npy", "set.h5#1", "b, c.npy"]
    assert table.class_names == CLASS_NAMES
    assert table.true == ["no", "sphere", ""]
    assert table.prediction_sets == [("no", "sphere"), (), ()]
    assert table.coverage == 0.9
    assert table.ood_reasons == ["", "noise", ""]
    assert table.errors == ["", "", "is empty"]
    np.testing.assert_array_equal(table.has_prediction, [True, True, False])
    np.testing.assert_array_equal(
        table.probabilities, [[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [np.nan] * 3]
    )
    np.testing.assert_array_equal(table.ood_p_values, [0.25, 0.001, np.nan])
    assert table.f_sub is table.quantiles is table.conformal_intervals is None


def test_table_of_posteriors_is_read_back(tmp_path: Path) -> None:
    posterior = posterior_around(0.04)
    good = Prediction(
        "a.npy", f_sub=0.04, posterior=posterior, conformal=PredictionSet(interval=(0.02, 0.06))
    )
    path = tmp_path / "predictions.csv"
    write_predictions(
        path, run_with(grid=GRID), [good, Prediction("b.npy", error="bad")], coverage=0.685
    )
    header = path.read_text().splitlines()[0]
    assert header == (
        "image,f_sub,f_sub_lo68,f_sub_hi68,f_sub_lo95,f_sub_hi95,conformal_lo_68.5,"
        "conformal_hi_68.5,error"
    )
    table = read_predictions(path)
    assert table.quantiles is not None
    expected = posterior.quantiles([0.025, 0.16, 0.5, 0.84, 0.975])[0]
    np.testing.assert_allclose(table.quantiles[0], expected, rtol=1e-4)
    assert np.isnan(table.quantiles[1]).all()
    np.testing.assert_array_equal(table.conformal_intervals, [[0.02, 0.06], [np.nan, np.nan]])
    np.testing.assert_array_equal(table.f_sub, [0.04, np.nan])
    assert table.coverage == pytest.approx(0.685)
    assert table.class_names is table.probabilities is table.prediction_sets is table.true is None


def test_columns_that_do_not_apply_are_absent(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    write_predictions(path, run_with(), [Prediction("a.npy", f_sub=0.03)])
    assert path.read_text() == "image,f_sub,error\na.npy,0.03,\n"
    table = read_predictions(path)
    assert table.quantiles is table.coverage is table.ood_reasons is None


def test_a_table_of_errors_alone_has_all_columns(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    write_predictions(
        path, run_with(CLASS_NAMES), [Prediction("a", error="bad")], coverage=0.9, ood=True
    )
    table = read_predictions(path)
    assert not table.has_prediction.any()
    assert table.ood_reasons == [""]


HEADER = "image,prob_no,prob_sphere\n"
MASSES = f"image,{','.join(QUANTILE_COLUMNS)}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no columns 'image' and 'prob_<class>' or 'f_sub'"),
        ("file,class,no\na,no,1\n", "has no columns 'image'"),
        (HEADER + "a,0.5,0.5\nb,much,0.5\n", "line 3: 'much' in column 'prob_no' is not a number"),
        (HEADER + "a,0.5,0.4\n", "line 2: the columns 'prob_<class>' are not probabilities"),
        (HEADER + "a,1.5,-0.5\n", "line 2: the columns 'prob_<class>' are not probabilities"),
        (HEADER + "a,1,\n", "line 2: the columns 'prob_<class>' are not probabilities"),
        (MASSES + "a,1,2,3,4,5\nb,1,2,3,5,4\n", "line 3: the columns f_sub_lo95, .* not in rising"),
        (MASSES + "a,1,2,3,4,\n", "line 2: the columns f_sub_lo95, .* not in rising"),
        ('image\n"\x00', "is not a CSV file|has no columns"),
    ],
)
def test_invalid_tables_are_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"p\.csv: ({message})"):
        read_predictions(path)


def test_a_table_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    write_predictions(path, run_with(), [Prediction("a.npy", f_sub=0.03)])
    header = tmp_path / "p.csv.json"
    header.write_text(header.read_text().replace('"format_version": 1', '"format_version": 99'))
    with pytest.raises(DataError, match="has format version 99"):
        read_predictions(path)
    with pytest.raises(DataError, match=r"gone\.csv: cannot be read"):
        read_predictions(tmp_path / "gone.csv")


def test_a_table_of_extra_columns_is_read(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("\ufeffname,image,prob_b,prob_a,comment\nx,a.npy,0.25,0.75,hello\n")
    table = read_predictions(path)
    assert table.class_names == ("b", "a")
    assert table.probabilities is not None
    values: Any = table.probabilities.tolist()
    assert values == [[0.25, 0.75]]
