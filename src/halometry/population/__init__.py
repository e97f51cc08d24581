"""What many lenses say together: fractions of classes, and the law of a population's masses."""

from halometry.population.fractions import Fractions, class_fractions
from halometry.population.masses import LAWS, MassPopulation, mass_population
from halometry.population.summary import Summary

__all__ = [
    "LAWS",
    "Fractions",
    "MassPopulation",
    "Summary",
    "class_fractions",
    "mass_population",
]
