"""What a network sees of one subhalo, and what the data allow."""

from halometry.inference.detecting.curves import LEVELS, NETWORK, Outcomes, cut
from halometry.inference.detecting.lenses import Judge, SmoothLenses, places
from halometry.inference.detecting.maps import NOISES, SensitivityMap, sensitivity_map
from halometry.inference.detecting.report import Sensitivity, write_sensitivity
from halometry.inference.detecting.trial import (
    FITTED,
    KNOWN,
    PLACES,
    SOUGHT,
    scores_of_smooth,
    threshold_of_search,
    try_masses,
)

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
