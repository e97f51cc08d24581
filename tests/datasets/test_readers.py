"""Readers: every file gives an image, or one error with the file and the reason."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from halometry.datasets.inputs import count_images, iter_images, natural_sort_key
from halometry.datasets.readers import READABLE_SUFFIXES, Image, read_image
from halometry.errors import ReadError

RAMP = np.arange(48.0).reshape(6, 8)


def write(path: Path, values: np.ndarray = RAMP) -> Path:
    """Write an image in the format of its suffix."""
    name = path.name
    if name.endswith(".npy"):
        np.save(path, values)
    elif ".f" in name:
        hdus = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(values.astype(">f4"))])
        hdus.writeto(path)
    else:
        Picture.fromarray(values.astype(np.uint8)).save(path)
    return path


@pytest.mark.parametrize("ending", [".npy", ".fits", ".fits.gz", ".png", ".tif", ".bmp"])
def test_every_format_gives_the_same_pixels(tmp_path: Path, ending: str) -> None:
    image = read_image(write(tmp_path / f"a{ending}"))
    np.testing.assert_array_equal(image.pixels[0], RAMP)
    assert image.pixels.dtype == np.dtype("=f4")
    assert image.label is None


def test_jpeg_gives_nearly_the_same_pixels(tmp_path: Path) -> None:
    image = read_image(write(tmp_path / "a.jpg"))
    assert np.abs(image.pixels[0] - RAMP).max() < 6


@pytest.mark.parametrize("shape", [(6, 8), (1, 6, 8), (6, 8, 1)])
def test_single_channel_may_have_an_axis(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "a.npy", RAMP.reshape(shape))
    assert read_image(tmp_path / "a.npy").pixels.shape == (1, 6, 8)


def test_equal_channels_become_one(tmp_path: Path) -> None:
    color = np.stack([RAMP, RAMP + 1, RAMP + 2], axis=-1).astype(np.uint8)
    Picture.fromarray(color).save(tmp_path / "a.png")
    Picture.fromarray(color[..., [0, 0, 0]]).save(tmp_path / "b.png")
    assert read_image(tmp_path / "a.png").pixels.shape == (3, 6, 8)
    assert read_image(tmp_path / "b.png").pixels.shape == (1, 6, 8)


def test_alpha_and_palettes_are_converted(tmp_path: Path) -> None:
    gray = Picture.fromarray(RAMP.astype(np.uint8))
    gray.convert("RGBA").save(tmp_path / "a.png")
    gray.convert("P").save(tmp_path / "b.png")
    for name in ("a.png", "b.png"):
        np.testing.assert_array_equal(read_image(tmp_path / name).pixels[0], RAMP)


def test_sixteen_bit_values_are_kept(tmp_path: Path) -> None:
    Picture.fromarray((RAMP * 1000).astype(np.uint16)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").pixels.max() == 47_000


def test_scaled_fits_integers_are_physical_values(tmp_path: Path) -> None:
    hdu = fits.PrimaryHDU((RAMP * 100).astype(np.int16))
    hdu.header["BSCALE"], hdu.header["BZERO"] = 0.5, 10.0
    hdu.writeto(tmp_path / "a.fits")
    # astropy rescales on writing; its reader gives the physical values
    with fits.open(tmp_path / "a.fits") as hdus:
        expected = np.asarray(hdus[0].data, dtype=np.float32)
    np.testing.assert_allclose(read_image(tmp_path / "a.fits").pixels[0], expected)


def invalid_image(kind: str) -> np.ndarray:
    values = RAMP.copy()
    if kind == "nan":
        values[0, :3] = np.nan
    if kind == "infinite":
        values[0, 0] = np.inf
    if kind == "constant":
        values[:] = 7
    return values


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nan", "has 3 of 48 pixels that are not finite"),
        ("infinite", "has 1 of 48 pixels that are not finite"),
        ("constant", "is constant: every pixel is 7"),
    ],
)
@pytest.mark.parametrize("ending", [".npy", ".fits"])
def test_constant_and_non_finite_pixels_are_refused(
    tmp_path: Path, kind: str, message: str, ending: str
) -> None:
    with pytest.raises(ReadError, match=message):
        read_image(write(tmp_path / f"a{ending}", invalid_image(kind)))


def test_values_too_large_for_single_precision_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", RAMP * 1e300)
    with pytest.raises(ReadError, match="not finite"):
        read_image(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.npy", "no such file"),
        ("a.txt", "is of a type that is not read; known are .npy, .fits"),
    ],
)
def test_missing_file_and_unknown_suffix_are_refused(
    tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(ReadError, match=message) as caught:
        read_image(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))


@pytest.mark.parametrize("values", [np.zeros(5), np.zeros((2, 6, 8)), np.zeros((2, 2, 2, 2))])
def test_invalid_shape_is_refused(tmp_path: Path, values: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(ReadError, match=r"has shape \("):
        read_image(tmp_path / "a.npy")


@pytest.mark.parametrize("values", [np.array([["a", "b"]] * 2), np.zeros((3, 3), "c16")])
def test_values_other_than_real_numbers_are_refused(tmp_path: Path, values: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(ReadError, match="not numbers"):
        read_image(tmp_path / "a.npy")


@pytest.mark.parametrize("ending", READABLE_SUFFIXES)
def test_empty_file_is_refused(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"a{ending}").touch()
    with pytest.raises(ReadError, match="is empty"):
        read_image(tmp_path / f"a{ending}")


@pytest.mark.parametrize("ending", [".npy", ".fits", ".fits.gz", ".png", ".jpg", ".tif", ".bmp"])
def test_truncated_file_is_refused(tmp_path: Path, ending: str) -> None:
    rng = np.random.default_rng(0)
    whole = write(tmp_path / f"whole{ending}", rng.integers(0, 255, (90, 90)).astype(float))
    data = whole.read_bytes()
    cut = tmp_path / f"cut{ending}"
    for fraction in (0.02, 0.3, 0.6, 0.9):
        cut.write_bytes(data[: int(fraction * len(data))])
        with pytest.raises(ReadError, match=r"cut\."):
            read_image(cut)


@pytest.mark.parametrize("ending", [".npy", ".fits", ".fits.gz", ".png", ".jpg", ".tif", ".bmp"])
@settings(max_examples=60, deadline=None)
@given(data=st.binary(min_size=1, max_size=400))
def test_random_bytes_are_a_read_error(
    tmp_path_factory: pytest.TempPathFactory, ending: str, data: bytes
) -> None:
    file = tmp_path_factory.mktemp("random") / f"a{ending}"
    file.write_bytes(data)
    with pytest.raises(ReadError):
        read_image(file)


@pytest.mark.parametrize("ending", [".npy", ".fits", ".png", ".jpg", ".tif", ".bmp"])
@settings(max_examples=80, deadline=None)
@given(places=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6))
def test_damaged_bytes_give_image_or_read_error(
    tmp_path_factory: pytest.TempPathFactory, ending: str, places: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    data = bytearray(write(folder / f"whole{ending}").read_bytes())
    for place, value in places:
        data[place % len(data)] = value
    file = folder / f"a{ending}"
    file.write_bytes(data)
    try:
        image = read_image(file)
    except ReadError:
        return
    assert np.isfinite(image.pixels).all()


def test_decompression_bomb_is_refused(tmp_path: Path) -> None:
    header = io.BytesIO()
    Picture.new("L", (1, 1)).save(header, "PNG")
    data = bytearray(header.getvalue())
    import struct
    import zlib

    chunk = b"IHDR" + struct.pack(">II", 50_000, 50_000) + data[24:29]
    data[12:33] = chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ReadError, match=r"too many pixels|pixels, too many"):
        read_image(tmp_path / "a.png")


def test_fits_table_without_image_is_refused(tmp_path: Path) -> None:
    table = fits.BinTableHDU.from_columns([fits.Column("a", "E", array=np.arange(3.0))])
    table.writeto(tmp_path / "a.fits")
    with pytest.raises(ReadError, match="has no extension with an image"):
        read_image(tmp_path / "a.fits")


def test_fits_extension_sci_is_preferred(tmp_path: Path) -> None:
    weight = fits.ImageHDU(np.ones((6, 8)), name="WHT")
    hdus = fits.HDUList([fits.PrimaryHDU(), weight, fits.ImageHDU(RAMP, name="SCI")])
    hdus.writeto(tmp_path / "a.fits")
    np.testing.assert_allclose(read_image(tmp_path / "a.fits").pixels[0], RAMP)


def test_compressed_fits_is_read(tmp_path: Path) -> None:
    plain = write(tmp_path / "a.fits").read_bytes()
    (tmp_path / "b.fits.gz").write_bytes(gzip.compress(plain))
    assert read_image(tmp_path / "b.fits.gz").pixels.shape == (1, 6, 8)


def test_iter_images_yields_images_and_errors_in_natural_order(tmp_path: Path) -> None:
    for name in ("10.npy", "2.npy", "1.png"):
        write(tmp_path / name)
    (tmp_path / "3.npy").write_bytes(b"no")
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.npy").touch()
    found = list(iter_images([tmp_path]))
    assert count_images([tmp_path]) == 4
    names = [Path(item.path).name for item in found]
    assert names == ["1.png", "2.npy", "3.npy", "10.npy"]
    assert [isinstance(item, ReadError) for item in found] == [False, False, True, False]


def test_natural_order() -> None:
    assert sorted(["b2", "a10", "a9", "b10", "a"], key=natural_sort_key) == [
        "a",
        "a9",
        "a10",
        "b2",
        "b10",
    ]


def test_shared_images_are_read(shared_data: Path) -> None:
    items: list[Any] = list(iter_images([shared_data / "common_test_1"]))
    assert len(items) == 18
    for item in items:
        assert isinstance(item, Image)
        assert item.pixels.shape == (1, 150, 150)
        assert (item.pixels.min(), item.pixels.max()) == (0, 1)
    color = next(iter_images([shared_data / "lens_finding" / "lenses"]))
    assert isinstance(color, Image)
    assert color.pixels.shape == (3, 64, 64)
