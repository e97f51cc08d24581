"""Masses of single subhalos that a network detects, and those that the data allow to detect."""

from halometry.sensitivity.core import (
    PLACEMENTS,
    blind_search_threshold,
    detect_subhalos,
    score_smooth_lenses,
)
from halometry.sensitivity.curves import (
    BLIND_SEARCH,
    COMPLETENESS_LEVELS,
    FITTED_LENS,
    FIXED_LENS,
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
