"""Loss, optimizer and gradient clipping of the training module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from halometry.config import Task
from halometry.datasets.open import open_dataset
from halometry.datasets.splits import split_dataset
from halometry.errors import UsageError
from halometry.runs.recipe import load_recipe
from halometry.training.configure import configure
from halometry.training.module import TrainingModule
from halometry.training.train import train
from helpers.folders import Tree

OPTIONS: dict[str, Any] = {
    "epochs": 1,
    "precision": "float32",
    "channels_last": True,
    "online_fraction": 0,
    "aux_loss_weight": 0,
}


def create_module(data_file: Path, task: Task, **overrides: Any) -> TrainingModule:
    """Create the module of a run with initial weights."""
    data = open_dataset(data_file)
    recipe = load_recipe("default").resolve(task, "test_resnet", OPTIONS | overrides)
    config = configure(
        task, data, split_dataset(data, 0), "test_resnet", recipe, seed=0, device="cpu"
    )
    network = config.build_network()
    return TrainingModule(config.build_predictor(network), config, batches=None)  # type: ignore[arg-type]


def test_huber_loss_follows_its_formula(masses: Path) -> None:
    delta = 0.5
    module = create_module(
        masses, "regression", huber_delta=delta, target="linear", standardize_target=False
    )
    labels = torch.full((7,), 0.1)
    errors = torch.tensor([0.0, 0.1, -0.4, 0.5, -0.6, 2.0, -10.0])
    outputs = (labels + errors)[:, None]
    # Twice Huber's loss: e^2 within delta, and 2 delta (|e| - delta / 2) beyond it.
    within = errors.abs() <= delta
    expected = torch.where(within, errors**2, 2 * delta * (errors.abs() - delta / 2))
    torch.testing.assert_close(module.loss(outputs, labels), expected.mean())
    torch.testing.assert_close(module.loss(outputs, labels, reduction="sum"), expected.sum())
    for error, value in zip(errors, expected, strict=True):
        loss = module.loss((labels[:1] + error)[:, None], labels[:1])
        torch.testing.assert_close(loss, value)


def test_huber_loss_is_that_of_the_encoded_label(masses: Path) -> None:
    module = create_module(
        masses, "regression", huber_delta=1.0, target="log", standardize_target=True
    )
    target = module.config.target
    labels = torch.tensor([0.01, 0.05])
    encoded = (labels.log() - target.mean) / target.std
    outputs = encoded[:, None] + torch.tensor([[0.5], [3.0]])
    expected = torch.tensor([0.25, 2 * (3.0 - 0.5)])
    torch.testing.assert_close(module.loss(outputs, labels, "sum"), expected.sum())


def test_squared_error_without_huber_delta(masses: Path) -> None:
    module = create_module(masses, "regression", huber_delta=None, standardize_target=False)
    outputs, labels = torch.tensor([[0.3], [4.0]]), torch.tensor([0.1, 0.0])
    torch.testing.assert_close(module.loss(outputs, labels), torch.tensor((0.04 + 16) / 2))


def test_classification_loss_is_the_cross_entropy(lenses: Path) -> None:
    module = create_module(lenses, "classification")
    logits, labels = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]]), torch.tensor([1, 0])
    expected = -(logits.log_softmax(1)[torch.arange(2), labels]).mean()
    torch.testing.assert_close(module.loss(logits, labels), expected)


def test_balanced_classes_have_the_same_total_weight(tree: Tree) -> None:
    root = tree({"a": 40, "b": 10})
    module = create_module(root, "classification", class_weights="balanced", size=32)
    assert module.config.class_weights == (0.625, 2.5)  # the split keeps the ratio of 4 to 1
    logits, labels = torch.randn(5, 2), torch.tensor([0, 0, 0, 0, 1])
    losses = -logits.log_softmax(1)[torch.arange(5), labels]
    expected = (losses[:4].mean() + losses[4]) / 2
    torch.testing.assert_close(module.loss(logits, labels), expected)
    torch.testing.assert_close(module.loss(logits, labels, "sum"), 5 * expected)
    assert create_module(root, "classification", size=32).config.class_weights == ()


def test_class_weights_of_masses_are_refused(masses: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="class_weights=balanced is for --task classification"):
        train(
            "regression", masses, "test_resnet", tmp_path / "run",
            overrides=OPTIONS | {"class_weights": "balanced"},
        )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kind"),
    [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)],
)
def test_optimizer_gets_the_values_of_the_recipe(lenses: Path, name: str, kind: type) -> None:
    module = create_module(
        lenses, "classification", optimizer=name, learning_rate=0.02, weight_decay=0.3,
        schedule="constant",
    )  # fmt: skip
    optimizer = module.configure_optimizers()["optimizer"]
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    assert group["lr"] == 0.02
    assert group["weight_decay"] == 0.3
    if name == "sgd":
        assert group["momentum"] == 0.9
    assert len(group["params"]) == len([*module.predictor.network.parameters()])


def test_frozen_backbone_is_not_optimized(lenses: Path) -> None:
    module = create_module(lenses, "classification", freeze_backbone=True)
    (group,) = module.configure_optimizers()["optimizer"].param_groups
    head = sum(p.numel() for p in module.predictor.network.get_submodule("head").parameters())
    assert sum(p.numel() for p in group["params"]) == head


@pytest.mark.parametrize("clip", [1e-3, None])
def test_gradients_are_clipped_to_the_norm_of_the_recipe(
    lenses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip: float | None
) -> None:
    norms: list[float] = []

    def record_norm(self: TrainingModule, optimizer: Any) -> None:
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        if gradients:
            norms.append(float(torch.cat([gradient.flatten() for gradient in gradients]).norm()))

    # Lightning calls this before a step; the gradients are those of the step before, clipped.
    monkeypatch.setattr(TrainingModule, "on_before_zero_grad", record_norm)
    overrides = OPTIONS | {"gradient_clip": clip, "batch_size": 30}
    train("classification", lenses, "test_resnet", tmp_path / "run", overrides=overrides)
    assert len(norms) >= 2
    if clip is None:
        assert min(norms) > 1e-2
    else:
        assert norms == pytest.approx([clip] * len(norms), rel=1e-2)  # they were longer before
