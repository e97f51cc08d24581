"""Networks and predictors: backbones, heads, preprocessing, and the predictor that joins these."""

from halometry.config import Task
from halometry.models.backbones import BackboneInfo, create_backbone, list_backbones
from halometry.models.network import Network
from halometry.models.predictor import Predictor, TargetConfig
from halometry.models.preprocessing import Preprocessing, PreprocessingConfig

__all__ = [
    "BackboneInfo",
    "Network",
    "Predictor",
    "Preprocessing",
    "PreprocessingConfig",
    "TargetConfig",
    "Task",
    "create_backbone",
    "list_backbones",
]
