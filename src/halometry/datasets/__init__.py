"""Data sets: readers of image files, labeled sets, splits, stores, generation."""
