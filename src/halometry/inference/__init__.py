"""What users do: apply a trained run to images, or fit them."""

from halometry.inference.fit import fit
from halometry.inference.fitting import Estimate, Fit, Fitter
from halometry.inference.predict import Answer, predict

__all__ = ["Answer", "Estimate", "Fit", "Fitter", "fit", "predict"]
