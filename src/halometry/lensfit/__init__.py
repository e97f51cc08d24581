"""Maximum-likelihood fits of single images: lens, shear, source and substructure, with errors."""

from halometry.lensfit.fitter import Fitter
from halometry.lensfit.result import Fit, FitResult, FittedParameter
from halometry.lensfit.substructure import SubhaloMethod, check_substructure

__all__ = ["Fit", "FitResult", "FittedParameter", "Fitter", "SubhaloMethod", "check_substructure"]
