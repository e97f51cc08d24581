"""Posterior of the subhalos of a lens: prior, linear response, Markov chain Monte Carlo."""
