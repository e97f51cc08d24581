"""Reader of NumPy files and of object arrays, without executing their content.

The published mass dataset stores `[image, mass fraction]` as NumPy object arrays, which are
pickles. A pickle is a program, and `numpy.load(..., allow_pickle=True)` would run it. This module
interprets only the pickle operations that NumPy writes for arrays and numbers, read with
`pickletools.genops`. Names in the file are compared with a short list and never imported.
"""

from __future__ import annotations

import io
import pickletools
from pathlib import Path
from typing import Any

import numpy as np

MAX_OPERATIONS = 10_000  # two arrays and a number need about a hundred
MAX_PIXELS = 64_000_000
MAX_DIMENSIONS = 4
NUMBER_KINDS = "biuf"


class UnreadableError(Exception):
    """Reason why a file cannot be read: it is damaged, or has content that is not allowed."""


def read_npy(path: Path) -> np.ndarray | list[Any]:
    """Read a `.npy` file.

    Args:
        path: the file.

    Returns:
        A numeric array; for an object array its elements: arrays, numbers, or lists of these.

    Raises:
        UnreadableError: the file is damaged, too large, or has other content.
        OSError: the file cannot be opened.
    """
    content = path.read_bytes()
    if not content:
        raise UnreadableError("is empty")
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
            version, np.lib.format.read_array_header_2_0
        )
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise UnreadableError(f"is of a NumPy format version {version} that is not known")
        shape, fortran, dtype = read(file)
    except UnreadableError:
        raise
    except Exception as error:  # parsing of the header can fail in many ways
        raise UnreadableError("is not a NumPy file, or its header is damaged") from error
    rest = content[file.tell() :]
    if dtype.hasobject:
        return _object_array(rest, shape)
    return _array(rest, shape, fortran, dtype)


def _array(
    data: bytes | bytearray, shape: tuple[int, ...], fortran: bool, dtype: np.dtype[Any]
) -> np.ndarray:
    """Array from its bytes; their number is checked before memory is allocated."""
    if dtype.kind not in NUMBER_KINDS or dtype.names:
        raise UnreadableError(f"holds values of type {dtype}, not numbers")
    count = _count(shape)
    if count == 0:
        raise UnreadableError("holds no values")
    if len(data) < count * dtype.itemsize:
        raise UnreadableError(f"is truncated: {len(data):,} of {count * dtype.itemsize:,} bytes")
    flat = np.frombuffer(data, dtype, count)
    return flat.reshape(shape, order="F" if fortran else "C")


def _count(shape: tuple[int, ...]) -> int:
    """Number of values in an array of a shape; checked before any number gets large."""
    if not isinstance(shape, tuple) or len(shape) > MAX_DIMENSIONS:
        raise UnreadableError("has a shape that no image has")
    count = 1
    for n in shape:
        if type(n) is not int or n < 0:
            raise UnreadableError("has an invalid shape")
        if n > MAX_PIXELS or count * n > MAX_PIXELS:
            raise UnreadableError(f"says it holds more than {MAX_PIXELS:,} values")
        count *= n
    return count


def _object_array(data: bytes, shape: tuple[int, ...]) -> list[Any]:
    if len(shape) > 1 or _count(shape) > 1000:
        raise UnreadableError("is an object array, but not [image, mass fraction]")
    value = PickleInterpreter(data).run()
    if isinstance(value, ArrayBuilder) and value.items is not None:
        return value.items
    raise UnreadableError("is an object array that does not hold a list of values")


class ArrayBuilder:
    """Array under construction: first empty, then with type, shape and content."""

    def __init__(self) -> None:
        self.items: list[Any] | None = None
        self.array: np.ndarray | None = None


class GlobalName:
    """Name of a Python object, as text."""

    def __init__(self, text: str) -> None:
        self.text = text


class DTypeBuilder:
    """NumPy type under construction."""

    def __init__(self, code: str) -> None:
        if not isinstance(code, str) or len(code) > 4 or code[:1] not in (*NUMBER_KINDS, "O"):
            raise UnreadableError(f"holds values of type {code!r:.20}, not numbers")
        try:
            self.dtype = np.dtype(code)
        except TypeError as error:
            raise UnreadableError(f"holds values of type {code!r:.20}, not numbers") from error


MARK = object()
NUMPY_MODULES = (
    "numpy",
    "numpy.core.multiarray",
    "numpy._core.multiarray",
    "numpy.core.numeric",
    "numpy._core.numeric",
)
NUMPY_NAMES = ("_reconstruct", "scalar", "_frombuffer", "ndarray", "dtype")
ALLOWED_NAMES = {f"{home} {name}" for home in NUMPY_MODULES for name in NUMPY_NAMES}
ALLOWED_NAMES |= {"_codecs encode", "__builtin__ bytes", "builtins bytes"}


class PickleInterpreter:
    """Interpreter of the pickle operations that arrays and numbers need.

    Args:
        data: the pickle.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.decoded_bytes = 0  # limited, because a pickle could decode the same text repeatedly

    def run(self) -> Any:
        """Return the value that the pickle describes.

        Raises:
            UnreadableError: it describes something other than arrays, numbers, and lists and
                tuples of these, or it is damaged.
        """
        try:
            for count, (operation, argument, _) in enumerate(pickletools.genops(self.data)):
                if count > MAX_OPERATIONS:
                    raise UnreadableError("is nested or long beyond anything an image needs")
                if operation.name == "STOP":
                    return self._finished(self.stack.pop())
                self._do(operation.name, argument)
        except UnreadableError:
            raise
        except Exception as error:  # genops and stack operations can fail in many ways
            raise UnreadableError("is truncated or damaged") from error
        raise UnreadableError("is truncated or damaged")

    def _do(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in ("PROTO", "FRAME"):
            return
        if name in CONSTANT_OPERATIONS:
            stack.append(CONSTANT_OPERATIONS[name])
        elif name in VALUE_OPERATIONS:
            stack.append(argument)
        elif name == "MARK":
            stack.append(MARK)
        elif name == "GLOBAL":
            stack.append(self._name(str(argument)))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(self._name(f"{module} {attribute}"))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]  # a dict: a huge index needs no memory
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name in STACK_OPERATIONS:
            STACK_OPERATIONS[name](self)
        else:
            raise UnreadableError(
                f"holds the pickle operation {name}; only arrays and numbers are read"
            )

    def _name(self, text: str) -> GlobalName:
        if text not in ALLOWED_NAMES:
            shown = text.replace(" ", ".")
            raise UnreadableError(f"holds a call to {shown:.60}; only arrays and numbers are read")
        return GlobalName(text.split(" ")[1])

    def since_mark(self) -> list[Any]:
        items: list[Any] = []
        while (item := self.stack.pop()) is not MARK:
            items.append(item)
        return items[::-1]

    def tuple_of(self, count: int) -> None:
        items = [self.stack.pop() for _ in range(count)][::-1]
        self.stack.append(tuple(items))

    def append(self) -> None:
        item = self.stack.pop()
        self.stack[-1].append(item)

    def appends(self) -> None:
        items = self.since_mark()
        target = self.stack[-1]
        if not isinstance(target, list):
            raise UnreadableError("is damaged")
        target.extend(items)

    def reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, GlobalName):
            raise UnreadableError("is damaged")
        self.stack.append(self._call(function.text, arguments))

    def _call(self, name: str, arguments: tuple[Any, ...]) -> Any:
        if name == "dtype":
            return DTypeBuilder(arguments[0])
        if name == "_reconstruct":
            return ArrayBuilder()
        if name == "encode":  # bytes in protocol 2
            text, encoding = arguments
            if encoding != "latin1" or not isinstance(text, str):
                raise UnreadableError("is damaged")
            self.decoded_bytes += len(text)
            if self.decoded_bytes > len(self.data):
                raise UnreadableError("asks for more bytes than it has")
            return text.encode("latin1")
        if name == "bytes" and arguments == ():
            return b""
        if name == "scalar":
            kind, raw = arguments
            if kind.dtype.kind == "O" or len(raw) != kind.dtype.itemsize:
                raise UnreadableError("holds a number of a wrong size")
            return np.frombuffer(raw, kind.dtype, 1)[0]
        if name == "_frombuffer":
            raw, kind, shape, order = arguments
            if not isinstance(raw, bytes | bytearray):
                raise UnreadableError("is damaged")
            builder = ArrayBuilder()
            builder.array = _array(raw, shape, order == "F", kind.dtype)
            return builder
        raise UnreadableError(f"holds a call to {name:.60}; only arrays and numbers are read")

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, DTypeBuilder):
            if target.dtype.kind != "O":
                target.dtype = target.dtype.newbyteorder(state[1])
        elif isinstance(target, ArrayBuilder) and target.items is None and target.array is None:
            _, shape, kind, fortran, content = state
            if kind.dtype.kind != "O":
                target.array = _array(content, shape, bool(fortran), kind.dtype)
            elif isinstance(content, list) and len(content) == _count(shape):
                target.items = [self._finished(item, keep=True) for item in content]
            else:
                raise UnreadableError("is damaged: its elements do not fit its shape")
        else:
            raise UnreadableError("is damaged")

    def _finished(self, value: Any, keep: bool = False) -> Any:
        """Check a result: it must be a number, an array, or the outer object array."""
        if isinstance(value, ArrayBuilder):
            if value.array is not None:
                return value.array
            if not keep and value.items is not None:
                return value
            raise UnreadableError("holds object arrays within object arrays")
        if isinstance(value, bool | int | float | np.number | np.bool_):
            return value
        raise UnreadableError(
            f"holds a {type(value).__name__} where an array or a number is expected"
        )


CONSTANT_OPERATIONS: dict[str, Any] = {
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
    "EMPTY_TUPLE": (),
}
NUMBERS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
BYTES = {"SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"}
STRINGS = {"STRING", "BINSTRING", "SHORT_BINSTRING"}
UNICODE = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
VALUE_OPERATIONS = NUMBERS | BYTES | STRINGS | UNICODE
STACK_OPERATIONS = {
    "EMPTY_LIST": lambda m: m.stack.append([]),
    "LIST": lambda m: m.stack.append(m.since_mark()),
    "APPEND": PickleInterpreter.append,
    "APPENDS": PickleInterpreter.appends,
    "TUPLE": lambda m: m.stack.append(tuple(m.since_mark())),
    "TUPLE1": lambda m: m.tuple_of(1),
    "TUPLE2": lambda m: m.tuple_of(2),
    "TUPLE3": lambda m: m.tuple_of(3),
    "REDUCE": PickleInterpreter.reduce,
    "BUILD": PickleInterpreter.build,
}
