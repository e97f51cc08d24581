"""Random streams of images: reproducible, independent, and apart in training and evaluation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from halometry import seeds
from halometry.simulation import Scene, draw_scenes, load_preset, sample
from halometry.simulation.render import sample_fast
from halometry.simulation.rng import Purpose, image_rng

SEED_OFFSETS = {
    name: value
    for name, value in vars(seeds).items()
    if name.endswith("_SEED_OFFSET") and not name.startswith("MIN_")
}
ENTROPIES = {name: value for name, value in vars(seeds).items() if name.endswith("_ENTROPY")}


@pytest.mark.parametrize("name", ["demo_classification", "demo_mass"])
def test_image_does_not_depend_on_its_batch(name: str) -> None:
    preset = load_preset(name)
    batch, batch_scene = sample(preset, seed=7, start=0, count=9)
    single, single_scene = sample(preset, seed=7, start=5, count=1)
    assert torch.equal(batch[5], single[0])
    for key, values in single_scene.parameters().items():
        np.testing.assert_array_equal(values[0], batch_scene.parameters()[key][5])


@pytest.mark.parametrize("name", ["demo_classification", "halo_mass"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_sample_fast_equals_sample_up_to_rounding(name: str, threads: int) -> None:
    preset, threads_before = load_preset(name), torch.get_num_threads()
    exact, exact_scene = sample(preset, seed=7, start=3, count=9)
    torch.set_num_threads(threads)
    try:
        fast, fast_scene = sample_fast(preset, seed=7, start=3, count=9)
        repeated, _ = sample_fast(preset, seed=7, start=3, count=9)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(threads_before)
    assert torch.equal(fast, repeated)
    assert float((fast != exact).float().mean()) < 1e-4
    assert float((fast - exact).abs().max()) <= 1
    for key, values in fast_scene.parameters().items():
        np.testing.assert_array_equal(values, exact_scene.parameters()[key])


def test_different_seeds_give_different_images() -> None:
    preset = load_preset("demo_mass")
    first, _ = sample(preset, seed=1, start=0, count=2)
    second, _ = sample(preset, seed=2, start=0, count=2)
    assert not torch.equal(first, second)


def test_streams_of_different_purposes_differ() -> None:
    draws = np.concatenate([image_rng(3, 5, purpose).random(4) for purpose in Purpose])
    assert len(np.unique(draws)) == len(draws)


def test_streams_of_neighboring_images_and_seeds_are_independent() -> None:
    draws = [image_rng(seed, k, Purpose.SCENE).random() for seed in range(20) for k in range(20)]
    assert stats.kstest(draws, "uniform").pvalue > 1e-4


def test_seed_offsets_are_large_and_distinct_but_for_demo_and_robustness() -> None:
    """The demo and `robustness` evaluate shipped weights separately: they may share images."""
    assert set(SEED_OFFSETS) == {
        "DEMO_SEED_OFFSET",
        "ROBUSTNESS_SEED_OFFSET",
        "ATTRIBUTION_SEED_OFFSET",
        "SENSITIVITY_SEED_OFFSET",
    }
    distinct = set(SEED_OFFSETS.values())
    assert len(distinct) == len(SEED_OFFSETS) - 1
    assert seeds.DEMO_SEED_OFFSET == seeds.ROBUSTNESS_SEED_OFFSET
    for first in (0, *distinct):
        for second in distinct - {first}:
            assert abs(first - second) >= seeds.MIN_SEED_OFFSET


def test_stream_entropies_are_distinct() -> None:
    assert len(set(ENTROPIES.values())) == len(ENTROPIES) == 4
    assert 0 not in ENTROPIES.values()


def scene_rows(scene: Scene) -> set[bytes]:
    """The parameters of each image, but for its class, as bytes."""
    parameters = scene.parameters()
    del parameters["class_index"]
    return {
        np.concatenate([np.atleast_1d(values[k]).astype(float) for values in parameters.values()])
        .round(9)
        .tobytes()
        for k in range(len(scene))
    }


@pytest.mark.parametrize("name", ["demo_classification", "demo_mass"])
@pytest.mark.parametrize("offset", sorted(set(SEED_OFFSETS.values())))
def test_evaluation_images_are_not_training_images_of_the_same_seed(name: str, offset: int) -> None:
    preset, seed, count = load_preset(name), 1, 60
    training = draw_scenes(preset, seed, 0, count)
    evaluation = draw_scenes(preset, seed + offset, 0, count)
    assert len(scene_rows(training)) == len(scene_rows(evaluation)) == count
    assert scene_rows(training).isdisjoint(scene_rows(evaluation))
    if name == "demo_mass":
        assert set(training.labels.tolist()).isdisjoint(evaluation.labels.tolist())
    pixels = [sample(preset, s, 0, 12)[0].numpy() for s in (seed, seed + offset)]
    assert {image.tobytes() for image in pixels[0]}.isdisjoint(
        image.tobytes() for image in pixels[1]
    )


def test_two_equal_seeds_give_the_same_scene_rows() -> None:
    """The comparison of the test above sees images that are shared."""
    preset = load_preset("demo_mass")
    first, second = draw_scenes(preset, 1, 0, 5), draw_scenes(preset, 1, 3, 5)
    assert len(scene_rows(first) & scene_rows(second)) == 2
