"""Trained runs as artifacts: recipe, configuration, weights, lineage, calibration, OOD detector."""
