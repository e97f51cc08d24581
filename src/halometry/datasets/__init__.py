"""Datasets: readers of image files, labeled datasets, splits, HDF5 stores, generation."""
