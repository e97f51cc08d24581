"""Comparison of several networks on one data set: training, ranking, cost, report."""
