"""Posterior of the subhalos of a lens by Markov chain Monte Carlo."""
