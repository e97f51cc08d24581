"""What a network sees of one subhalo, and what the data allow."""

from halometry.sensitivity.core import (
    BLIND_SEARCH,
    FITTED_LENS,
    FIXED_LENS,
    PLACEMENTS,
    blind_search_threshold,
    detect_subhalos,
    score_smooth_lenses,
)
from halometry.sensitivity.curves import (
    COMPLETENESS_LEVELS,
    NETWORK,
    DetectionOutcomes,
    score_threshold,
)
from halometry.sensitivity.lenses import Detector, SmoothLenses, grid_positions
from halometry.sensitivity.maps import NOISE_REALIZATIONS, SensitivityMap, sensitivity_map
from halometry.sensitivity.tables import Sensitivity, write_sensitivity

__all__ = [
    "BLIND_SEARCH",
    "COMPLETENESS_LEVELS",
    "FITTED_LENS",
    "FIXED_LENS",
    "NETWORK",
    "NOISE_REALIZATIONS",
    "PLACEMENTS",
    "DetectionOutcomes",
    "Detector",
    "Sensitivity",
    "SensitivityMap",
    "SmoothLenses",
    "blind_search_threshold",
    "detect_subhalos",
    "grid_positions",
    "score_smooth_lenses",
    "score_threshold",
    "sensitivity_map",
    "write_sensitivity",
]
