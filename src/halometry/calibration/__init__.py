"""Calibration of predictions: temperature, conformal scores, prediction sets."""
