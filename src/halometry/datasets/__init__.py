"""Data sets: readers of image files, labelled sets, splits, stores, generation."""
