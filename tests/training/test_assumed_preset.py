"""Training on images of a folder with the preset that they follow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from halometry.compare.compare import compare_networks
from halometry.datasets.dataset import LabeledImages, preset_from_dataset
from halometry.datasets.open import open_dataset
from halometry.errors import ChanceWarning, HalometryWarning, RunError, UsageError
from halometry.runs.execution import pinned_threads
from halometry.runs.recipe import Recipe, load_recipe
from halometry.runs.run import WEIGHTS
from halometry.runs.training_data import preset_of_run
from halometry.simulation import load_preset
from halometry.simulation.config import Halos
from halometry.training import hardware
from halometry.training.assumed_preset import assume_preset, find_preset
from halometry.training.mass_map_head import MassMapHead
from halometry.training.sampling import BatchShard, TrainingBatches
from halometry.training.train import train
from helpers.presets import write_preset
from helpers.processes import PLAIN
from helpers.terminal import Command

BACKBONE = "test_resnet"
QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 16, "precision": "float32"}
QUICK |= {"channels_last": True}
COUNTS, SCALED = Recipe(), Recipe(scale="minmax")


@pytest.fixture(scope="module")
def class_folder(lenses: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images of `lenses` as the community has them: min-max scaled, in class folders."""
    folder, data = tmp_path_factory.mktemp("folders") / "dataset", open_dataset(lenses)
    assert data.class_names is not None
    for row, label in enumerate(data.labels):
        path = folder / data.class_names[label] / f"{row}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = data.images[row].astype(np.float64)
        np.save(path, (image - image.min()) / np.ptp(image))
    return folder


@pytest.fixture(scope="module")
def mass_folder(masses: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images of `masses` as object arrays of counts and mass fraction."""
    folder, data = tmp_path_factory.mktemp("folders") / "lens_data", open_dataset(masses)
    folder.mkdir()
    for row, label in enumerate(data.labels):
        content = np.empty(2, dtype=object)
        content[0], content[1] = data.images[row, 0], label
        np.save(folder / f"{row}.npy", content, allow_pickle=True)
    return folder.parent


@pytest.fixture(scope="module")
def plain(class_folder: Path) -> LabeledImages:
    return open_dataset(class_folder)


def test_preset_of_a_folder_is_known_but_its_images_were_not_simulated(
    plain: LabeledImages, lenses: Path
) -> None:
    data = assume_preset(plain, "demo_classification", SCALED)
    assert preset_from_dataset(data) == load_preset("demo_classification")
    assert "preset" not in data.attributes
    assert "seed" not in data.attributes
    assert data.fingerprint == plain.fingerprint


def test_classes_of_the_preset_are_those_of_the_folder_in_its_order(plain: LabeledImages) -> None:
    names = ("vort", "no")
    data = replace(plain, labels=plain.labels % 2, class_names=names)
    preset = preset_from_dataset(assume_preset(data, "demo_classification", SCALED))
    assert preset is not None
    assert preset.class_names == preset.kinds == names


def test_images_that_the_preset_does_not_describe_are_refused(
    plain: LabeledImages, mass_folder: Path
) -> None:
    lensfinding = replace(plain, class_names=("lens", "no", "other"))
    for data, preset, message in (
        (lensfinding, "demo_classification", "has classes lens, no, other, preset demo_cl.* has"),
        (plain, "demo_mass", "has classes no, sphere, vort, preset demo_mass has mass fractions"),
        (open_dataset(mass_folder), "demo_classification", "has mass fractions, preset"),
        (plain, "common_test_1", "its images are 1 x 48 x 48, those of .* are 1 x 150 x 150"),
        (plain, "demo", "unknown preset 'demo'"),
        (replace(plain, attributes={"mass_map_preset": "x"}), "demo_classification", "mass maps"),
    ):
        with pytest.raises(UsageError, match=message):
            assume_preset(data, preset, SCALED)


def test_simulated_set_has_its_own_preset(lenses: Path, tmp_path: Path) -> None:
    data = open_dataset(lenses)
    assert assume_preset(data, "demo_classification", COUNTS) is data
    other = write_preset(tmp_path, "demo_classification", image__sky=3.0)
    with pytest.raises(UsageError, match="was simulated from its own preset demo_classification"):
        assume_preset(data, other, COUNTS)


def test_images_of_another_unit_are_refused_unless_each_is_scaled(plain: LabeledImages) -> None:
    message = r"not in the counts of preset .*a mean [0-9.]+, not \d+.*, or --set scale=minmax"
    with pytest.raises(UsageError, match=message):
        assume_preset(plain, "demo_classification", COUNTS)
    assume_preset(plain, "demo_classification", SCALED)


def test_images_of_another_brightness_give_a_warning(mass_folder: Path, tmp_path: Path) -> None:
    data = open_dataset(mass_folder)
    assume_preset(data, "demo_mass", COUNTS)
    brighter = replace(data, images=data.images * 1.25)
    with pytest.warns(HalometryWarning, match="differ in brightness from those of preset demo_m"):
        assume_preset(brighter, "demo_mass", COUNTS)
    with pytest.raises(UsageError, match="not in the counts"):
        assume_preset(replace(data, images=data.images * 5), "demo_mass", COUNTS)


def test_scaled_images_of_another_look_give_a_warning(plain: LabeledImages) -> None:
    noisy = replace(plain, images=np.sqrt(plain.images))
    with pytest.warns(HalometryWarning, match="in brightness .*, also after min-max scaling"):
        assume_preset(noisy, "demo_classification", SCALED)


def test_preset_that_cannot_be_simulated_in_training_is_refused(plain: LabeledImages) -> None:
    halos = Halos.model_construct()
    preset = load_preset("demo_classification").model_copy(update={"halos": halos})
    with pytest.raises(UsageError, match="they cannot be simulated in training"):
        assume_preset(plain, preset, SCALED)


def test_recipe_without_simulations_says_so(
    plain: LabeledImages, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="halometry")
    assume_preset(plain, "demo_classification", SCALED)
    assert "simulates no images in training" in caplog.text


def test_preset_of_the_package_is_found_by_shape_classes_and_brightness(
    plain: LabeledImages, mass_folder: Path
) -> None:
    assert find_preset(plain, "minmax") == "demo_classification"
    assert find_preset(open_dataset(mass_folder), "none") == "demo_mass"
    assert find_preset(plain, "none") is None
    assert find_preset(replace(plain, class_names=("a", "b", "c")), "minmax") is None


def test_published_images_are_found_to_follow_common_test_1(shared_data: Path) -> None:
    assert find_preset(open_dataset(shared_data / "common_test_1"), "minmax") == "common_test_1"


def test_auxiliary_loss_counts_images_with_a_known_map_only() -> None:
    head = MassMapHead("layer", 3, (4, 4))
    torch.nn.init.normal_(head.linear.weight)
    features, maps = torch.rand(6, 3, 4, 4), torch.rand(6, 4, 4)

    def loss_and_gradient(rows: slice, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        head.zero_grad()
        head._read(head, None, features[rows])
        loss = head.loss(targets)
        loss.backward()
        assert head.linear.weight.grad is not None
        return loss.detach(), head.linear.weight.grad.clone()

    expected = loss_and_gradient(slice(4, 6), maps[4:])
    maps[:4] = torch.nan
    torch.testing.assert_close(loss_and_gradient(slice(None), maps), expected)
    nothing = loss_and_gradient(slice(0, 4), maps[:4])
    assert not any(value.any() for value in nothing)


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_auxiliary_loss_of_shards_is_that_of_the_batch(processes: int) -> None:
    head, sizes = MassMapHead("layer", 3, (4, 4)), (5, 3)
    torch.nn.init.normal_(head.linear.weight)
    features, maps = torch.rand(8, 3, 4, 4), torch.rand(8, 4, 4)
    maps[:5] = torch.nan

    def loss(shard: BatchShard) -> torch.Tensor:
        rows = torch.from_numpy(shard.padded_indices(*sizes))
        head._read(head, None, features[rows])
        return shard.weight(*sizes[1:]) * head.loss(maps[rows])

    shards = [loss(BatchShard(rank, processes)) for rank in range(processes)]
    torch.testing.assert_close(torch.stack(shards).mean(), loss(BatchShard()))


def test_stored_images_of_a_folder_have_no_map_in_any_batch(
    class_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = []
    take_batch = TrainingBatches.batch

    def batch(self: TrainingBatches, step: int) -> Any:
        images, labels, maps = take_batch(self, step)
        batches.append((self.part_sizes(step), self.mapped_sizes(step), images, labels, maps))
        return images, labels, maps

    monkeypatch.setattr(TrainingBatches, "batch", batch)
    run = train(
        "classification", class_folder, BACKBONE, tmp_path / "run", preset="demo_classification",
        overrides=QUICK,
    )  # fmt: skip
    for (stored, simulated), mapped, images, labels, maps in batches:
        assert mapped == (simulated,)
        assert len(images) == len(labels) == len(maps) == stored + simulated
        assert maps[:stored].isnan().all()
        assert maps[stored:].isfinite().all()
        assert images[:stored].max() <= 1 < images[stored:].max()  # scaled alike by the network
        no_substructure = maps[stored:][labels[stored:] == 0]
        assert not no_substructure.any()
    assert max(float(maps[~maps.isnan()].max()) for *_, maps in batches) > 0
    assert run.training_metrics()["online_images"] == 4 * run.training_metrics()["steps"]


def test_run_keeps_its_preset_but_shares_no_images_with_a_simulated_set(
    class_folder: Path, lenses: Path, tmp_path: Path
) -> None:
    out, options = tmp_path / "run", {"overrides": QUICK | {"aux_loss_weight": 0}}
    preset = load_preset("demo_classification")
    run = train("classification", class_folder, BACKBONE, out, preset=preset, **options)
    assert preset_of_run(run) == preset
    assert run.config.data.preset is None
    assert run.config.data.seed is None
    assert not run.config.data.shares_images_with(open_dataset(lenses))
    again = train(
        "classification", class_folder, BACKBONE, out, preset="demo_classification", **options
    )
    assert again.config == run.config
    with pytest.raises(RunError, match=r"holds another run \(its preset differ"):
        train("classification", class_folder, BACKBONE, out, **options)


def test_stopped_run_with_a_preset_ends_with_the_same_weights(
    mass_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "MAX_STEPS_PER_CHECKPOINT", 3)

    def train_to(out: Path) -> None:
        with pinned_threads(1):
            train("regression", mass_folder, BACKBONE, out, preset="demo_mass", overrides=QUICK)

    train_to(tmp_path / "whole")
    take_batch = TrainingBatches.batch

    def batch(self: TrainingBatches, step: int) -> Any:
        if step == 7:
            raise RuntimeError("stopped")
        return take_batch(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingBatches, "batch", batch)
        with pytest.raises(RuntimeError, match="stopped"):
            train_to(tmp_path / "stopped")
    train_to(tmp_path / "stopped")
    weights, expected = (load_file(tmp_path / n / WEIGHTS) for n in ("stopped", "whole"))
    assert all(torch.equal(weights[key], expected[key]) for key in expected)


@pytest.mark.slow
def test_two_processes_train_as_one_with_a_preset(class_folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"preset": "demo_classification", "device": "cpu"}
    overrides = QUICK | {"batch_size": 25}
    runs = [
        train(
            "classification", class_folder, PLAIN, tmp_path / str(n), devices=n,
            overrides=overrides, **options,
        )
        for n in (1, 2)
    ]  # fmt: skip
    weights, expected = (load_file(run.path / WEIGHTS) for run in runs)
    for key, value in weights.items():
        torch.testing.assert_close(value, expected[key], rtol=1e-3, atol=1e-5)


def test_preset_is_recommended_for_a_folder_and_named_when_training_ends_at_chance(
    class_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="halometry")
    options: dict[str, Any] = {"overrides": QUICK | {"epochs": 1, "learning_rate": 1e-6}}
    advice = "its images look like those of preset demo_classification; training with --pr"
    expected = "Try --preset demo_classification, --inputs maps --preset demo_classification, --ep"
    with pytest.warns(ChanceWarning, match=expected):
        train("classification", class_folder, BACKBONE, tmp_path / "plain", **options)
    assert advice in caplog.text
    caplog.clear()
    options["preset"] = "demo_classification"
    with pytest.warns(ChanceWarning, match="Try --inputs maps, --epochs"):
        train("classification", class_folder, BACKBONE, tmp_path / "given", **options)
    assert "look like" not in caplog.text


def test_compare_records_the_preset_in_each_run(class_folder: Path, tmp_path: Path) -> None:
    recipe = load_recipe("default")
    comparison = compare_networks(
        "classification", class_folder, [BACKBONE], tmp_path, preset="demo_classification",
        recipe=recipe, overrides=QUICK,
    )  # fmt: skip
    run = comparison.evaluations[0].run
    assert preset_of_run(run) == load_preset("demo_classification")


def test_command_trains_a_folder_with_a_preset(
    class_folder: Path, tmp_path: Path, command: Command
) -> None:
    words = ["train", "--task", "classification", "--data", class_folder, "--backbone", BACKBONE]
    words += ["--out", tmp_path / "run", "--epochs", 1, "--set", "precision=float32"]
    refused = command(*map(str, words), "--preset", "common_test_1")
    assert refused.status == 2
    assert "those of preset common_test_1 are 1 x 150 x 150" in refused.err
    done = command(*map(str, words), "--preset", "demo_classification")
    assert done.status == 0, done.err
    assert "a fraction 0.25 of each batch is simulated from preset demo_class" in done.err
    assert "--inputs maps" in done.err  # of the warning that it is at chance
