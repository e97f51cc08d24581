from __future__ import annotations

import csv
from pathlib import Path

import pytest
from torch import nn

from halometry.config import TASKS
from halometry.datasets.open import open_dataset
from halometry.datasets.splits import split_dataset
from halometry.errors import ConfigError, UsageError
from halometry.models.backbones import D4NET_DEPTHS
from halometry.runs.recipe import RecipeFile, list_recipes, load_recipe, parse_overrides
from halometry.runs.run import HISTORY
from halometry.training.configure import configure
from halometry.training.module import TrainingModule
from halometry.training.train import train


def test_baseline_equals_the_published_recipe() -> None:
    baseline = load_recipe("baseline")
    b5 = baseline.resolve("classification", "efficientnet_b5")
    assert (b5.size, b5.channels, b5.batch_size, b5.epochs) == (224, 3, 32, 20)
    assert (b5.optimizer, b5.learning_rate, b5.schedule) == ("adam", 1e-3, "plateau")
    assert (b5.plateau_factor, b5.plateau_patience) == (0.1, 1)
    assert (b5.head_hidden, b5.head_activation, b5.pretrained) == ((1024,), "none", True)
    assert (b5.flip_probability, b5.rot90, b5.standardize) == (0.0, False, False)
    small = baseline.resolve("classification", "mobilenetv3_small")
    assert (small.pretrained, small.head_hidden) == (False, ())
    r18 = baseline.resolve("regression", "resnet18")
    assert (r18.size, r18.channels, r18.batch_size, r18.epochs) == (150, 1, 32, 30)
    assert (r18.learning_rate, r18.plateau_factor, r18.plateau_patience) == (1e-4, 0.5, 5)
    assert (r18.head_hidden, r18.head_activation) == ((256,), "relu")
    assert (r18.flip_probability, r18.stem_init) == (0.25, "random")
    assert (r18.target, r18.standardize_target, r18.precision) == ("linear", False, "float32")
    assert baseline.resolve("regression", "efficientnet_b5").size == 224


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_has_a_description(name: str) -> None:
    assert len(load_recipe(name).description) > 30


def test_more_specific_value_wins() -> None:
    content = {
        "epochs": 1,
        "backbones": {"resnet18": {"epochs": 2}},
        "regression": {"epochs": 3, "backbones": {"resnet18": {"epochs": 4}}},
    }
    recipe = RecipeFile(content, "mine.yaml")
    assert recipe.resolve("classification", "mobilenetv3_small").epochs == 1
    assert recipe.resolve("classification", "resnet18").epochs == 2
    assert recipe.resolve("regression", "mobilenetv3_small").epochs == 3
    assert recipe.resolve("regression", "resnet18").epochs == 4
    assert recipe.resolve("regression", "resnet18", {"epochs": 5}).epochs == 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3}, r"mine\.yaml: unknown key 'epoch', did you mean 'epochs'\?"),
        ({"clasification": {}}, "did you mean 'classification'"),
        ({"regression": {"sise": 3}}, "unknown key 'sise', did you mean 'size'"),
        ({"backbones": {"resnet18": {"epochs": 0}}}, "'epochs' = 0: input should be greater"),
        ({"stretch": "logg"}, "'stretch' = 'logg': input should be 'none', 'sqrt' or 'log'"),
        ({"learning_rate": "fast"}, "'learning_rate' = 'fast'"),
        ({"regression": 3}, "'regression' must hold keys and values"),
        ({"backbones": {"resnet81": {}}}, "backbones: unknown backbone 'resnet81', did you mean"),
    ],
)
def test_wrong_recipe_is_refused(content: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RecipeFile(content, "mine.yaml")


def test_recipe_is_loaded_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("epochs: 3\nregression:\n  stretch: sqrt\n")
    assert load_recipe(file).resolve("regression", "resnet18").stretch == "sqrt"
    assert load_recipe(file).name == "mine"


def test_unknown_recipe_gets_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="unknown recipe 'baselin', did you mean 'baseline'"):
        load_recipe("baselin")


def test_overrides_are_parsed() -> None:
    read = parse_overrides(["learning_rate=1e-3", "head_hidden=[64]", "stretch=log", "size=null"])
    assert read == {"learning_rate": 1e-3, "head_hidden": [64], "stretch": "log", "size": None}
    with pytest.raises(UsageError, match="--set epochs: write it as key=value"):
        parse_overrides(["epochs"])


def test_d4net_is_never_pretrained() -> None:
    for name in list_recipes():
        for backbone in D4NET_DEPTHS:
            for task in TASKS:
                assert not load_recipe(name).resolve(task, backbone).pretrained


@pytest.mark.parametrize("monitor", ["val_loss", "val_metric"])
def test_saved_checkpoint_has_the_best_monitored_value(
    monitor: str, lenses: Path, tmp_path: Path
) -> None:
    overrides = {"epochs": 6, "val_checks_per_epoch": 2, "monitor": monitor, "head_dropout": 0.5}
    run = train(
        "classification", lenses, "test_resnet", tmp_path / "run",
        overrides=overrides | {"online_fraction": 0, "precision": "float32", "batch_size": 16},
    )  # fmt: skip
    with (run.path / HISTORY).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 15  # after every second of five steps a pass
    sign = -1 if monitor == "val_loss" else 1
    best = max(rows, key=lambda row: sign * float(row[monitor]))
    assert run.training_metrics()["best_step"] == int(best["step"])
    assert any(isinstance(m, nn.Dropout) for m in run.predictor("cpu").modules())


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
        ("trapezoid", [0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0]),
        ("cosine", [0.5, 1, 1, 0.962, 0.854, 0.691, 0.5, 0.309, 0.146, 0.038, 0]),
    ],
)
def test_learning_rate_follows_the_schedule(
    schedule: str, rates: list[float], lenses: Path, tmp_path: Path
) -> None:
    overrides = {"schedule": schedule, "warmup": 0.2, "cooldown": 0.4, "learning_rate": 1.0}
    recipe = load_recipe("default").resolve("classification", "test_resnet", overrides)
    data = open_dataset(lenses)
    config = configure(
        "classification", data, split_dataset(data, 0), "test_resnet", recipe, seed=0, device="cpu"
    ).model_copy(update={"steps": 10})
    learner = TrainingModule(config.build_predictor(config.build_network()), config, batches=None)  # type: ignore[arg-type]
    optimizer = learner.configure_optimizers()
    found = []
    for _ in rates:
        found.append(optimizer["optimizer"].param_groups[0]["lr"])
        optimizer["optimizer"].step()
        optimizer["lr_scheduler"]["scheduler"].step()
    assert found == pytest.approx(rates, abs=1e-3)
