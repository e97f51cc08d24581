"""Attribution: which pixels a prediction depends on, beside the true substructure."""
