"""Reader of NumPy files: object arrays are read without executing their content."""

from __future__ import annotations

import codecs
import os
import pickle
import pickletools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halometry.datasets.readers import read_image
from halometry.errors import ReadError

HEADER = np.lib.format.magic(1, 0)


def published(path: Path, shape: tuple[int, ...] = (150, 150), label: Any = 0.0417) -> Path:
    """Write a file as in the published mass dataset."""
    content = np.empty(2, dtype=object)
    content[0] = np.random.default_rng(0).poisson(50, shape).astype(np.int64)
    content[1] = label
    np.save(path, content, allow_pickle=True)
    return path


def with_pickle(path: Path, data: bytes, shape: tuple[int, ...] = (2,)) -> Path:
    """Write the header of an object array, followed by any bytes."""
    with path.open("wb") as file:
        header = {"descr": "|O", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(data)
    return path


@pytest.mark.parametrize("shape", [(150, 150), (1, 150, 150)])
def test_published_layout_is_read(tmp_path: Path, shape: tuple[int, ...]) -> None:
    image = read_image(published(tmp_path / "image_1.npy", shape))
    assert image.pixels.shape == (1, 150, 150)
    assert image.pixels.dtype == np.float32
    assert image.label == 0.0417


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["int64", ">i4", "float32", "uint16", "float64"])
@pytest.mark.parametrize("label", [0.03, np.float64(0.03), np.array(0.03), np.float32(0.03)])
def test_every_protocol_and_dtype_is_read(
    tmp_path: Path, protocol: int, dtype: str, label: Any
) -> None:
    content = np.empty(2, dtype=object)
    content[0] = np.asfortranarray(np.arange(12).reshape(3, 4)).astype(dtype)
    content[1] = label
    file = with_pickle(tmp_path / "a.npy", pickle.dumps(content, protocol))
    image = read_image(file)
    np.testing.assert_array_equal(image.pixels[0], np.arange(12).reshape(3, 4))
    assert image.label == pytest.approx(0.03)


class Call:
    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_system_call_is_not_executed(tmp_path: Path, protocol: int) -> None:
    canary = tmp_path / "canary"
    hostile = pickle.dumps([Call(os.system, f"touch {canary}"), 0.1], protocol)
    with pytest.raises(ReadError, match=r"holds a call to \w+\.system; only arrays and numbers"):
        read_image(with_pickle(tmp_path / "a.npy", hostile))
    assert not canary.exists()
    with_pickle(tmp_path / "b.npy", hostile)
    np.load(tmp_path / "b.npy", allow_pickle=True)  # NumPy would execute it
    assert canary.exists()


@pytest.mark.parametrize("function", [eval, open, getattr, __import__])
def test_builtin_functions_are_not_called(tmp_path: Path, function: Callable[..., Any]) -> None:
    hostile = pickle.dumps([Call(function, "x"), 0.1], 4)
    with pytest.raises(ReadError, match=r"holds a call to \w+\.\w+; only arrays and numbers"):
        read_image(with_pickle(tmp_path / "a.npy", hostile))


def test_call_inside_an_array_is_refused(tmp_path: Path) -> None:
    inner = np.empty(2, dtype=object)
    inner[0] = Call(os.system, "true")
    inner[1] = 0.1
    with pytest.raises(ReadError, match="system"):
        read_image(with_pickle(tmp_path / "a.npy", pickle.dumps(inner, 4)))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((10**6, 10**6), "more than"),
        ((2**62, 8), "more than"),
        ((10**9,), "more than"),
        ((0, 2**62, 8), "more than"),
        ((10**4000,), "more than"),
        ((-1, 5), "invalid shape"),
        ((True, 5), "invalid shape"),
        ((1,) * 65, "no image has"),
        ((0,), "no values"),
    ],
)
def test_invalid_shape_in_header_is_refused_before_allocation(
    tmp_path: Path, shape: tuple[int, ...], message: str
) -> None:
    file = tmp_path / "a.npy"
    with file.open("wb") as out:
        header = {"descr": "<f8", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(out, header)
        out.write(b"\0" * 80)
    with pytest.raises(ReadError, match=message):
        read_image(file)


def test_huge_shape_in_pickle_is_refused_before_allocation(tmp_path: Path) -> None:
    data = pickle.dumps(np.load(published(tmp_path / "a.npy"), allow_pickle=True), 4)
    hostile = data.replace(b"K\x96K\x96\x86", b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86")
    assert hostile != data
    with pytest.raises(ReadError, match="more than"):
        read_image(with_pickle(tmp_path / "b.npy", hostile))


def test_huge_memo_index_needs_no_memory(tmp_path: Path) -> None:
    hostile = b"\x80\x04]r\xff\xff\xff\x7f."
    with pytest.raises(ReadError, match=r"does not hold a list|an array or a number"):
        read_image(with_pickle(tmp_path / "a.npy", hostile))


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    for hostile in (b"\x80\x04" + b"]" * 100_000, b"\x80\x04N" + b"\x85" * 100_000 + b"."):
        with pytest.raises(ReadError, match="nested or long"):
            read_image(with_pickle(tmp_path / "a.npy", hostile))


def test_recursive_list_is_refused(tmp_path: Path) -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ReadError, match="array or a number is expected"):
        read_image(with_pickle(tmp_path / "a.npy", pickle.dumps(endless, 4)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([np.zeros((3, 3)), 0.1, 0.2], r"not \[image, mass fraction\]"),
        ([0.1, np.zeros((3, 3))], r"not \[image, mass fraction\]"),
        (["text", 0.1], "holds a str where"),
        ([np.array(["a"]), 0.1], "not numbers"),
        ([np.zeros(3, "f8,i4"), 0.1], "not numbers"),
        ([np.eye(3), np.arange(3.0)], "its second element is not a number"),
    ],
)
def test_other_object_arrays_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    array = np.empty(len(content), dtype=object)
    array[:] = content
    with pytest.raises(ReadError, match=message):
        read_image(with_pickle(tmp_path / "a.npy", pickle.dumps(array, 4), (len(content),)))


def test_label_too_large_for_float_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="a mass fraction that is too large a number"):
        read_image(published(tmp_path / "a.npy", label=10**400))


def test_number_in_place_of_bytes_is_refused(tmp_path: Path) -> None:
    asked = Call(np._core.numeric._frombuffer, 10**11, np.dtype("u1"), (9,), "C")
    with pytest.raises(ReadError, match="damaged"):
        read_image(with_pickle(tmp_path / "a.npy", pickle.dumps([asked, 0.1], 4)))


def test_repeated_decoding_of_text_is_refused(tmp_path: Path) -> None:
    text = "a" * 10**5
    bomb = pickle.dumps([Call(codecs.encode, text, "latin1") for _ in range(500)], 2)
    assert len(bomb) < 2 * len(text)
    with pytest.raises(ReadError, match="asks for more bytes than it has"):
        read_image(with_pickle(tmp_path / "a.npy", bomb))


@pytest.mark.parametrize("shape", [(2**100_000,) * 3, (1,) * 300])
def test_invalid_shape_in_pickle_is_refused_quickly(tmp_path: Path, shape: tuple[int, ...]) -> None:
    asked = Call(np._core.numeric._frombuffer, b"a", np.dtype("u1"), shape, "C")
    start = time.monotonic()
    with pytest.raises(ReadError, match="no image has|more than"):
        read_image(with_pickle(tmp_path / "a.npy", pickle.dumps([asked, 0.1], 4)))
    assert time.monotonic() - start < 2


def test_truncation_at_any_byte_is_a_read_error(tmp_path: Path) -> None:
    whole = published(tmp_path / "whole.npy", (6, 6)).read_bytes()
    file = tmp_path / "cut.npy"
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(ReadError, match=r"cut\.npy"):
            read_image(file)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(place=st.integers(0, 10**6), value=st.integers(0, 255), start=st.integers(0, 200))
def test_changed_byte_gives_image_or_read_error(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int, start: int
) -> None:
    folder = tmp_path_factory.mktemp("changed")
    data = bytearray(published(folder / "a.npy", (6, 6)).read_bytes())
    data[place % len(data)] = value
    data[start % len(data)] ^= value
    file = folder / "b.npy"
    file.write_bytes(data)
    try:
        image = read_image(file)
    except ReadError:
        return
    assert image.pixels.dtype == np.float32


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=300))
def test_random_pickle_is_a_read_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    file = with_pickle(tmp_path_factory.mktemp("random") / "a.npy", b"\x80\x04" + data)
    with pytest.raises(ReadError):
        read_image(file)


def test_numpy_writes_no_unsupported_operation() -> None:
    content = np.array([np.eye(3), 0.5, np.float64(1)], dtype=object)
    for protocol in range(2, 6):
        names = {op.name for op, _, _ in pickletools.genops(pickle.dumps(content, protocol))}
        assert not names & {"INST", "OBJ", "NEWOBJ", "PERSID", "EXT1"}
