from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from halometry.models import Preprocessing, PreprocessingConfig, TargetConfig
from halometry.models.preprocessing import bilinear_weights, pixel_limits, resize


def test_minmax_scales_each_image() -> None:
    raw = torch.rand(3, 1, 8, 8) * torch.tensor([1.0, 10.0, 1000.0]).view(3, 1, 1, 1)
    scaled = Preprocessing(PreprocessingConfig(scale="minmax"))(raw)
    torch.testing.assert_close(scaled.amax((1, 2, 3)), torch.ones(3))
    torch.testing.assert_close(scaled.amin((1, 2, 3)), torch.zeros(3))


def test_minmax_is_independent_of_the_unit() -> None:
    counts = torch.poisson(torch.rand(2, 1, 16, 16) * 800)
    config = PreprocessingConfig(scale="minmax", stretch="log", mean=1.0, std=2.0)
    scaled = (counts - counts.amin((1, 2, 3), True)) / 777.0
    torch.testing.assert_close(Preprocessing(config)(counts), Preprocessing(config)(scaled))


def test_minmax_of_a_constant_image_is_finite() -> None:
    out = Preprocessing(PreprocessingConfig(scale="minmax", stretch="log"))(torch.ones(1, 1, 4, 4))
    assert out.isfinite().all()


def test_resizing_to_half_the_size_averages_pixels() -> None:
    raw = torch.rand(1, 1, 32, 32)
    half = Preprocessing(PreprocessingConfig(size=16))(raw)
    torch.testing.assert_close(half, torch.nn.functional.avg_pool2d(raw, 2))


def test_single_channel_is_repeated() -> None:
    out = Preprocessing(PreprocessingConfig(channels=3))(torch.rand(2, 1, 16, 16))
    assert out.shape == (2, 3, 16, 16)
    assert torch.equal(out[:, 0], out[:, 2])


def test_integer_images_are_converted() -> None:
    raw = torch.arange(16, dtype=torch.int32).reshape(1, 1, 4, 4)
    out = Preprocessing(PreprocessingConfig(stretch="sqrt"))(raw)
    torch.testing.assert_close(out, raw.float().sqrt())


@settings(max_examples=50, deadline=None)
@given(
    values=st.lists(st.floats(1e-4, 1.0), min_size=1, max_size=20),
    log=st.booleans(),
    mean=st.floats(-5, 5),
    std=st.floats(1e-3, 10),
)
def test_target_decoding_inverts_encoding(
    values: list[float], log: bool, mean: float, std: float
) -> None:
    labels = torch.tensor(values, dtype=torch.float64)
    target = TargetConfig(transform="log" if log else "linear", mean=mean, std=std)
    torch.testing.assert_close(target.decode(target.encode(labels)), labels)


def test_size_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 16"):
        PreprocessingConfig(size=3)


@pytest.mark.parametrize(("height", "width"), [(150, 150), (97, 160), (300, 31), (224, 20)])
def test_bilinear_weights_equal_torch_interpolation(height: int, width: int) -> None:
    raw = torch.rand(2, 3, height, width, dtype=torch.float64)
    rows, columns = bilinear_weights(224, height), bilinear_weights(224, width)
    torch.testing.assert_close(rows @ raw @ columns.T, resize(raw, 224), atol=1e-12, rtol=0)


def test_channels_are_standardized_separately() -> None:
    means, stds = (3.0, 0.0, -1.0), (2.0, 1.0, 0.1)
    config = PreprocessingConfig(channels=3, mean=means, std=stds)
    raw = torch.rand(2, 3, 4, 4)
    out = Preprocessing(config)(raw)
    for k, (mean, std) in enumerate(zip(means, stds, strict=True)):
        torch.testing.assert_close(out[:, k], (raw[:, k] - mean) / std)
    assert Preprocessing(config)(raw.to("meta")).device.type == "meta"  # wherever images are


def test_fixed_limits_keep_the_scale_of_other_pixels() -> None:
    config = PreprocessingConfig(scale="minmax")
    raw = torch.rand(2, 1, 8, 8)
    changed = raw.clone()
    changed[:, :, 0, 0] = 10.0
    preprocessing = Preprocessing(config)
    expected = preprocessing(raw)[:, :, 1:]
    fixed = preprocessing(changed, pixel_limits(raw))[:, :, 1:]
    torch.testing.assert_close(fixed, expected, atol=0, rtol=0)
    assert not torch.allclose(preprocessing(changed)[:, :, 1:], expected)
