"""Robustness of a run under shifts of the image properties it was trained on."""
