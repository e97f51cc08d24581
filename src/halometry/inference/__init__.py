"""What users do: apply a run to images, fit them, export a run, or publish it for others."""

from halometry.inference.answers import Answer
from halometry.inference.calibrate import Calibration, calibrate
from halometry.inference.export import Exported, export
from halometry.inference.fit import fit
from halometry.inference.fitting import Estimate, Fit, Fitter
from halometry.inference.predict import predict
from halometry.inference.publish import Published, publish

__all__ = [
    "Answer",
    "Calibration",
    "Estimate",
    "Exported",
    "Fit",
    "Fitter",
    "Published",
    "calibrate",
    "export",
    "fit",
    "predict",
    "publish",
]
