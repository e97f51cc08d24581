"""What looks at the images: backbones, heads, preprocessing, and the predictor that joins them."""

from halometry.config import Task
from halometry.models.backbones import BackboneInfo, backbones, create_backbone
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
    "backbones",
    "create_backbone",
]
