"""The prediction table: one row per image, written by `predict` and `evaluate`.

The table is a CSV file; the file of the same name with `.json` added holds its format and version.
`COLUMNS` describes its columns. Columns that do not apply to a run are absent; a value that is
not available for an image is empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from halometry.calibration.posterior import Posterior
from halometry.calibration.prediction_sets import PredictionSet, PredictionSets
from halometry.io import write_table
from halometry.ood.detector import OODResult
from halometry.runs.open import AnyRun

COLUMNS = {
    "image": "path of the file as given; `#k` is added for image k of a file with several images",
    "true": "true class or mass fraction; only in tables of `evaluate`",
    "prediction": "most probable class",
    "prob_<class>": "probability of each class",
    "f_sub": "mass fraction in substructure: median of the posterior, or a point estimate",
    "f_sub_lo68, f_sub_hi68": "limits of the central 68 % interval of the posterior",
    "f_sub_lo95, f_sub_hi95": "limits of the central 95 % interval of the posterior",
    "conformal_set_<coverage>": "classes of the conformal prediction set, most probable first,"
    " joined by `|`; the coverage is in percent",
    "conformal_lo_<coverage>, conformal_hi_<coverage>": "limits of the conformal interval of the"
    " mass fraction",
    "ood_p_value": "fraction of in-distribution images that are at least as anomalous",
    "ood_reason": "most anomalous group of features of an out-of-distribution image; empty for an"
    " image in distribution",
    "error": "why there is no prediction",
}
INTERVALS = {"68": 0.68, "95": 0.95}  # probability of the posterior's intervals, by column suffix
QUANTILE_COLUMNS = ("f_sub_lo95", "f_sub_lo68", "f_sub", "f_sub_hi68", "f_sub_hi95")
PROBABILITY_PREFIX = "prob_"


@dataclass(frozen=True)
class Prediction:
    """Prediction of a run for one image.

    Attributes:
        image: path of its file, with `#k` for image k of a file with several images.
        probabilities: probability of each class; empty for regression and on an error.
        f_sub: mass fraction: median of the posterior where there is one, else a point estimate;
            None for classification and on an error.
        error: why there is no prediction, or None.
        conformal: conformal prediction set or interval, of a calibrated run.
        posterior: posterior of the mass fraction of this image (one row), of a run that has it.
        ood: result of the out-of-distribution detector, of a run that has one.
        true: true class or mass fraction, if known.
    """

    image: str
    probabilities: dict[str, float] = field(default_factory=dict)
    f_sub: float | None = None
    error: str | None = None
    conformal: PredictionSet | None = None
    posterior: Posterior | None = field(default=None, compare=False, repr=False)
    ood: OODResult | None = None
    true: str | float | None = None

    @property
    def predicted_class(self) -> str | None:
        """Most probable class; None for regression and on an error."""
        if not self.probabilities:
            return None
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """Limits of the posterior's central 68 and 95 % intervals; empty without a posterior."""
        if self.posterior is None:
            return {}
        limits = {name: self.posterior.interval(level)[0] for name, level in INTERVALS.items()}
        return {name: (float(low), float(high)) for name, (low, high) in limits.items()}

    def cells(self, coverage: str) -> dict[str, str]:
        """Cells of its row in the prediction table, by column.

        Args:
            coverage: coverage of `conformal` in percent, as in the names of the columns.
        """
        cells = {"image": self.image, "error": self.error or ""}
        if self.true is not None:
            cells["true"] = self.true if isinstance(self.true, str) else f"{self.true:.6g}"
        if self.predicted_class is not None:
            cells["prediction"] = self.predicted_class
        for name, probability in self.probabilities.items():
            cells[f"{PROBABILITY_PREFIX}{name}"] = f"{probability:.6g}"
        if self.f_sub is not None:
            cells["f_sub"] = f"{self.f_sub:.6g}"
        for name, (low, high) in self.intervals.items():
            cells |= {f"f_sub_lo{name}": f"{low:.6g}", f"f_sub_hi{name}": f"{high:.6g}"}
        if self.conformal is not None and self.conformal.interval is not None:
            low, high = self.conformal.interval
            cells[f"conformal_lo_{coverage}"] = f"{low:.6g}"
            cells[f"conformal_hi_{coverage}"] = f"{high:.6g}"
        elif self.conformal is not None:
            cells[f"conformal_set_{coverage}"] = "|".join(self.conformal.classes or ())
        if self.ood is not None:
            cells["ood_p_value"] = f"{self.ood.p_value:.3g}"
            cells["ood_reason"] = self.ood.reason or ""
        return cells


def make_predictions(
    run: AnyRun,
    images: Sequence[str],
    outputs: np.ndarray,
    *,
    sets: PredictionSets | None,
    ood: Sequence[OODResult] | None = None,
    true: Sequence[str | float] | None = None,
) -> list[Prediction]:
    """Predictions of a run from the output of its network.

    Args:
        run: the run.
        images: N paths.
        outputs: probabilities (N, K), mass fractions (N,) or their densities (N, G).
        sets: makes the conformal sets or intervals, of a calibrated run.
        ood: N results of the out-of-distribution detector.
        true: N true classes or mass fractions.
    """
    class_names, grid = run.config.class_names, run.config.grid
    posterior = None if grid is None else Posterior(grid, outputs)
    conformal = sets.predict(outputs if posterior is None else posterior) if sets else None
    predictions = []
    for i, image in enumerate(images):
        probabilities, f_sub, density = {}, None, None
        if class_names:
            values = outputs[i].astype(float).tolist()
            probabilities = dict(zip(class_names, values, strict=True))
        elif posterior is None:
            f_sub = float(outputs[i])
        else:
            density = posterior[i : i + 1]
            f_sub = float(density.median[0])
        predictions.append(
            Prediction(
                image,
                probabilities,
                f_sub,
                conformal=conformal[i] if conformal else None,
                posterior=density,
                ood=ood[i] if ood else None,
                true=true[i] if true is not None else None,
            )
        )
    return predictions


def write_predictions(
    path: Path,
    run: AnyRun,
    predictions: Sequence[Prediction],
    *,
    coverage: float | None = None,
    ood: bool = False,
) -> None:
    """Write the prediction table.

    Args:
        path: the CSV file.
        run: the run that made the predictions.
        predictions: one per image.
        coverage: coverage of the conformal sets or intervals; None of a run that is not
            calibrated.
        ood: whether the run has an out-of-distribution detector.

    Raises:
        StorageError: no room or no permission.
    """
    percent = "" if coverage is None else f"{100 * coverage:g}"
    columns = ["image"]
    if any(prediction.true is not None for prediction in predictions):
        columns.append("true")
    if run.config.class_names:
        columns += ["prediction", *(f"{PROBABILITY_PREFIX}{n}" for n in run.config.class_names)]
    else:
        columns.append("f_sub")
    if run.config.grid is not None:
        columns += [f"f_sub_{end}{name}" for name in INTERVALS for end in ("lo", "hi")]
    if coverage is not None:
        kinds = ["set"] if run.config.class_names else ["lo", "hi"]
        columns += [f"conformal_{kind}_{percent}" for kind in kinds]
    if ood:
        columns += ["ood_p_value", "ood_reason"]
    columns.append("error")
    rows = [prediction.cells(percent) for prediction in predictions]
    write_table(path, "predictions", columns, rows)
