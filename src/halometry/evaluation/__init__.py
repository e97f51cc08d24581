"""Evaluation of a run: predictions, metrics with intervals, figures."""
