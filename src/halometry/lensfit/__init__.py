"""The classical answer for one image: the most likely lens, shear, source and substructure."""

from halometry.lensfit.fitter import Fitter, Number
from halometry.lensfit.result import Fit, FittedParameter
from halometry.lensfit.subhalos.posterior import check_subhalo_mcmc

__all__ = ["Fit", "FittedParameter", "Fitter", "Number", "check_subhalo_mcmc"]
