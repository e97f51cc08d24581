"""What a network sees of one subhalo, and what the data allow."""

from halometry.sensitivity.core import (
    FITTED,
    KNOWN,
    PLACES,
    SOUGHT,
    scores_of_smooth,
    threshold_of_search,
    try_masses,
)
from halometry.sensitivity.curves import LEVELS, NETWORK, Outcomes, cut
from halometry.sensitivity.lenses import Judge, SmoothLenses, places
from halometry.sensitivity.maps import NOISES, SensitivityMap, sensitivity_map
from halometry.sensitivity.tables import Sensitivity, write_sensitivity

__all__ = [
    "FITTED",
    "KNOWN",
    "LEVELS",
    "NETWORK",
    "NOISES",
    "PLACES",
    "SOUGHT",
    "Judge",
    "Outcomes",
    "Sensitivity",
    "SensitivityMap",
    "SmoothLenses",
    "cut",
    "places",
    "scores_of_smooth",
    "sensitivity_map",
    "threshold_of_search",
    "try_masses",
    "write_sensitivity",
]
