"""A trained run as an artifact: its configuration, weights, calibration and OOD detector."""
