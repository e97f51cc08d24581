"""How a network learns: recipes, batches, the run folder."""
