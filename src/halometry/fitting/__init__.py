"""The classical answer for one image: the most likely lens, shear, source and substructure."""

from halometry.fitting.fitter import Fitter, Number, check_sampling
from halometry.fitting.result import Estimate, Fit

__all__ = ["Estimate", "Fit", "Fitter", "Number", "check_sampling"]
