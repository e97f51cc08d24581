"""How a network learns: recipes, batches, the run folder."""

from halometry.training.recipe import Recipe, load_recipe, recipes
from halometry.training.run import Run, load_run
from halometry.training.run_config import RunConfig
from halometry.training.train import train

__all__ = ["Recipe", "Run", "RunConfig", "load_recipe", "load_run", "recipes", "train"]
