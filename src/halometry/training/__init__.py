"""Training of a network: configuration, data loading, training loop, distribution."""
