"""Robustness of a run against differences between its images and the training set."""
