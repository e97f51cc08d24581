"""halometry: dark matter read from images of strong gravitational lenses.

The verbs of the command are this package's functions. They are imported when first used, so
that `import halometry` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "simulate": "halometry.datasets.generate",
    "open_dataset": "halometry.datasets.open",
    "train": "halometry.training.train",
    "load_run": "halometry.runs.run",
    "familiarise": "halometry.runs.ood",
    "load_recipe": "halometry.runs.recipe",
    "recipes": "halometry.runs.recipe",
    "evaluate": "halometry.evaluation.evaluate",
    "compare": "halometry.compare.compare",
    "show": "halometry.datasets.show",
    "predict": "halometry.evaluation.predict",
    "calibrate": "halometry.runs.calibrate",
    "export": "halometry.publish.export",
    "fit": "halometry.lensfit.command",
    "map": "halometry.massmaps.dataset:map_set",
    "sensitivity": "halometry.sensitivity.command",
    "publish": "halometry.publish.publish",
    "population": "halometry.population.command",
    "attribution": "halometry.attribution.command",
    "robustness": "halometry.robustness.command",
    "load_preset": "halometry.simulation.preset",
    "presets": "halometry.simulation.preset",
    "instruments": "halometry.simulation.instrument",
    "backbones": "halometry.models.backbones",
    "weights": "halometry.resources",
    "doctor": "halometry.doctor",
    "demo": "halometry.demo",
}

__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from halometry.attribution.command import attribution as attribution
    from halometry.compare.compare import compare as compare
    from halometry.datasets.generate import simulate as simulate
    from halometry.datasets.open import open_dataset as open_dataset
    from halometry.datasets.show import show as show
    from halometry.demo import demo as demo
    from halometry.doctor import doctor as doctor
    from halometry.evaluation.evaluate import evaluate as evaluate
    from halometry.evaluation.predict import predict as predict
    from halometry.lensfit.command import fit as fit
    from halometry.massmaps.dataset import map_set as map  # noqa: F401
    from halometry.models.backbones import backbones as backbones
    from halometry.population.command import population as population
    from halometry.publish.export import export as export
    from halometry.publish.publish import publish as publish
    from halometry.resources import weights as weights
    from halometry.robustness.command import robustness as robustness
    from halometry.runs.calibrate import calibrate as calibrate
    from halometry.runs.ood import familiarise as familiarise
    from halometry.runs.recipe import load_recipe as load_recipe
    from halometry.runs.recipe import recipes as recipes
    from halometry.runs.run import load_run as load_run
    from halometry.sensitivity.command import sensitivity as sensitivity
    from halometry.simulation.instrument import instruments as instruments
    from halometry.simulation.preset import load_preset as load_preset
    from halometry.simulation.preset import presets as presets
    from halometry.training.train import train as train


def __getattr__(name: str) -> Any:
    if name in _HOME:
        module, _, other = _HOME[name].partition(":")
        return getattr(import_module(module), other or name)
    raise AttributeError(f"module 'halometry' has no attribute '{name}'")
