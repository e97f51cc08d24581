"""Properties of a population of lenses, from the predictions for single lenses."""

from halometry.population.fractions import FractionPosterior, fraction_posterior
from halometry.population.masses import MASS_DISTRIBUTIONS, MassPosterior, mass_posterior
from halometry.population.summary import PosteriorSummary

__all__ = [
    "MASS_DISTRIBUTIONS",
    "FractionPosterior",
    "MassPosterior",
    "PosteriorSummary",
    "fraction_posterior",
    "mass_posterior",
]
