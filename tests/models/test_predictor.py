"""Predictor: predictions together with the inputs and features that they come from."""

from __future__ import annotations

import pytest
import torch

from halometry.calibration.posterior import Grid
from halometry.models import Network, Predictor, Preprocessing, PreprocessingConfig


@pytest.mark.parametrize("tta", [False, True])
@pytest.mark.parametrize("task", ["classification", "regression", "posterior"])
def test_forward_features_returns_predictions_inputs_and_features(task: str, tta: bool) -> None:
    torch.manual_seed(0)
    with_posterior = task == "posterior"
    network = Network("test_resnet", channels=1, n_outputs=2 if with_posterior else 3)
    predictor = Predictor(
        Preprocessing(PreprocessingConfig(scale="minmax")),
        network,
        "classification" if task == "classification" else "regression",
        tta=tta,
        family="gaussian" if with_posterior else "none",
        grid=Grid(low=0.0, high=0.1, cells=32) if with_posterior else None,
        temperature=1.5,
    ).eval()
    raw = 100 * torch.rand(3, 1, 48, 48)
    with torch.inference_mode():
        output = predictor.forward_features(raw)
        assert torch.equal(output.predictions, predictor(raw))
        assert torch.equal(output.inputs, predictor.preprocessing(raw))
        assert torch.equal(output.features, network.backbone(output.inputs))
