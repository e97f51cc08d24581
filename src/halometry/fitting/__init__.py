"""The classical answer for one image: the most likely lens, shear, source and substructure."""

from halometry.fitting.fitter import Fitter, Number
from halometry.fitting.result import Estimate, Fit
from halometry.fitting.sampled import check_sampling

__all__ = ["Estimate", "Fit", "Fitter", "Number", "check_sampling"]
