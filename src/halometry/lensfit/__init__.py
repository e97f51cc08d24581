"""Maximum-likelihood fits of single images: lens, shear, source and substructure, with errors."""

from halometry.lensfit.fitter import Fitter, SubhaloMethod, check_substructure
from halometry.lensfit.result import Fit, FitResult, FittedParameter

__all__ = ["Fit", "FitResult", "FittedParameter", "Fitter", "SubhaloMethod", "check_substructure"]
