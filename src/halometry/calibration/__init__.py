"""Calibration: temperature, posteriors, conformal scores and prediction sets, as array code."""
