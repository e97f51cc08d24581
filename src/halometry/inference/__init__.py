"""What users do: apply a run to images, fit them, ask what it sees, export or publish it."""

from halometry.inference.answers import Answer
from halometry.inference.calibrate import Calibration, calibrate
from halometry.inference.detecting import Sensitivity
from halometry.inference.export import Exported, export
from halometry.inference.fit import fit
from halometry.inference.fitting import Estimate, Fit, Fitter
from halometry.inference.predict import predict
from halometry.inference.publish import Published, publish
from halometry.inference.sensitivity import sensitivity

__all__ = [
    "Answer",
    "Calibration",
    "Estimate",
    "Exported",
    "Fit",
    "Fitter",
    "Published",
    "Sensitivity",
    "calibrate",
    "export",
    "fit",
    "predict",
    "publish",
    "sensitivity",
]
