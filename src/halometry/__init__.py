"""halometry: dark matter substructure in images of strong gravitational lenses.

The functions listed in `__all__` are the public interface. Each is imported when it is first used,
so that `import halometry` is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_MODULES = {
    "calibrate": "halometry.runs.calibrate",
    "compare_networks": "halometry.compare.compare",
    "diagnose": "halometry.doctor",
    "evaluate": "halometry.evaluation.evaluate",
    "explain_predictions": "halometry.attribution.command",
    "export": "halometry.publish.export",
    "fit_lens": "halometry.lensfit.command",
    "fit_ood_detector": "halometry.runs.ood",
    "infer_population": "halometry.population.command",
    "list_backbones": "halometry.models.backbones",
    "list_instruments": "halometry.simulation.instrument",
    "list_presets": "halometry.simulation.preset",
    "list_recipes": "halometry.runs.recipe",
    "list_weights": "halometry.resources",
    "load_preset": "halometry.simulation.preset",
    "load_recipe": "halometry.runs.recipe",
    "load_run": "halometry.runs.run",
    "map_mass": "halometry.massmaps.dataset",
    "measure_robustness": "halometry.robustness.command",
    "measure_sensitivity": "halometry.sensitivity.command",
    "open_dataset": "halometry.datasets.open",
    "predict": "halometry.evaluation.predict",
    "publish_run": "halometry.publish.publish",
    "reproduce": "halometry.reproduction",
    "run_demo": "halometry.demo",
    "show": "halometry.datasets.show",
    "simulate": "halometry.datasets.generate",
    "train": "halometry.training.train",
}

__all__ = sorted(_MODULES)

if TYPE_CHECKING:
    from halometry.attribution.command import explain_predictions as explain_predictions
    from halometry.compare.compare import compare_networks as compare_networks
    from halometry.datasets.generate import simulate as simulate
    from halometry.datasets.open import open_dataset as open_dataset
    from halometry.datasets.show import show as show
    from halometry.demo import run_demo as run_demo
    from halometry.doctor import diagnose as diagnose
    from halometry.evaluation.evaluate import evaluate as evaluate
    from halometry.evaluation.predict import predict as predict
    from halometry.lensfit.command import fit_lens as fit_lens
    from halometry.massmaps.dataset import map_mass as map_mass
    from halometry.models.backbones import list_backbones as list_backbones
    from halometry.population.command import infer_population as infer_population
    from halometry.publish.export import export as export
    from halometry.publish.publish import publish_run as publish_run
    from halometry.reproduction import reproduce as reproduce
    from halometry.resources import list_weights as list_weights
    from halometry.robustness.command import measure_robustness as measure_robustness
    from halometry.runs.calibrate import calibrate as calibrate
    from halometry.runs.ood import fit_ood_detector as fit_ood_detector
    from halometry.runs.recipe import list_recipes as list_recipes
    from halometry.runs.recipe import load_recipe as load_recipe
    from halometry.runs.run import load_run as load_run
    from halometry.sensitivity.command import measure_sensitivity as measure_sensitivity
    from halometry.simulation.instrument import list_instruments as list_instruments
    from halometry.simulation.preset import list_presets as list_presets
    from halometry.simulation.preset import load_preset as load_preset
    from halometry.training.train import train as train


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'halometry' has no attribute '{name}'")
