"""Trained runs as artefacts: recipe, configuration, weights, lineage, calibration, OOD detector."""
