"""What users do: apply a trained run to images, take it elsewhere, or fit images."""

from halometry.inference.export import Exported, export
from halometry.inference.fit import fit
from halometry.inference.fitting import Estimate, Fit, Fitter
from halometry.inference.predict import Answer, predict

__all__ = ["Answer", "Estimate", "Exported", "Fit", "Fitter", "export", "fit", "predict"]
