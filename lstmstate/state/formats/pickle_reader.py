"""LSTM states in pickles, read without unpickling: nothing that a file names is ever called.

The machine next door carries a pickle's instructions out and leaves calls by name; the patterns
here recognise those that are arrays and LSTMStateTuples. All others are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from lstmstate import limits
from lstmstate.errors import UnsupportedError
from lstmstate.files.reader import ByteSource
from lstmstate.named_tuple import NamedTuple
from lstmstate.state.formats.pickle_opcodes import (
    Call,
    Machine,
    damaged,
    is_instruction,
    shown,
)
from lstmstate.state.formats.stored_array import ArrayInMemory, StateFile

if TYPE_CHECKING:
    import numpy as np

    from lstmstate.state.state import Array

# The values that a pickle may have.
Value: TypeAlias = Union["Array", "LSTMStateTuple", "tuple[Value, ...]", "list[Value]"]

ADVICE = (
    "only LSTMStateTuple, tuples, lists and NumPy arrays are read: save the state as an .npz of "
    "NumPy arrays"
)

# The element types that are read, by their codes in a pickle.
DTYPES = frozenset("b1 i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8 c8 c16".split())


class LSTMStateTuple(NamedTuple):
    """The state of one cell, in the place of TensorFlow's class of this name.

    Attributes:
        c: the cell state, `[..., num_units]`.
        m: the output that is fed back, which TensorFlow calls h.

    Example:
        >>> import numpy as np
        >>> c, m = LSTMStateTuple(np.zeros((1, 8)), np.zeros((1, 5)))
    """

    c: Array
    m: Array


def read_pickle(data: bytes) -> Value:
    """Return the state in a pickle of protocol 0 to 5; the arrays are read-only.

    Example:
        >>> import pickle
        >>> import numpy as np
        >>> read_pickle(pickle.dumps([np.zeros(3)]))
        [array([0., 0., 0.])]
        >>> read_pickle(pickle.dumps(print))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        lstmstate.errors.UnsupportedError: it asks for builtins.print, which is never called; ...
    """
    return _Builder(len(data)).build(Machine(data, _NAMES, ADVICE).run(), 0)


def open_file(source: ByteSource) -> StateFile:
    """Return the arrays of a pickled state, in their order."""
    if source.size > limits.MAX_PICKLE_BYTES:
        raise UnsupportedError("a pickle of this size is not read", path=source.path)
    value = read_pickle(source.read(0, source.size, "the pickle"))
    return StateFile(source.path, list(_unpacked("", value)), None)


def _unpacked(name: str, value: Any) -> Iterator[ArrayInMemory]:
    """Yield the arrays in nested tuples and lists; an LSTMStateTuple names its two."""
    if not isinstance(value, tuple | list):
        yield ArrayInMemory(name, value)
        return
    if isinstance(value, LSTMStateTuple):
        keys = list(value._fields)
    elif any(isinstance(item, LSTMStateTuple) for item in value):
        keys = [f"cell_{number}" for number in range(len(value))]
    else:
        keys = [str(number) for number in range(len(value))]
    for key, item in zip(keys, value, strict=True):
        yield from _unpacked(f"{name}/{key}".lstrip("/"), item)


def looks_like_pickle(start: bytes) -> bool:
    r"""Whether a file that begins with these bytes is a pickle.

    A pickle of protocol 0 or 1 has no mark at its start: it is known by the first name that it
    asks for, which has to be one that is read here.

    Example:
        >>> looks_like_pickle(b"\x80\x04\x95"), looks_like_pickle(b"(lp0\n(cnumpy\ndtype\np1\n")
        (True, True)
        >>> looks_like_pickle(b"c,h\n0.5,0.25\n")
        False
    """
    if start[:1] == b"\x80":
        return start[1:2] in (b"\2", b"\3", b"\4", b"\5") and is_instruction(start[2:3])
    found = _FIRST_NAME.match(start)
    return found is not None and (found[1].decode(), found[2].decode()) in _NAMES


class _Name(Enum):
    """The objects that a file may name."""

    STATE = auto()  # LSTMStateTuple
    TUPLE = auto()
    ARRAY = auto()  # numpy.ndarray
    DTYPE = auto()  # numpy.dtype
    RECONSTRUCT = auto()  # makes an array that its state fills
    FROM_BUFFER = auto()  # makes an array of bytes (protocol 5)
    RECONSTRUCTOR = auto()  # makes an LSTMStateTuple (protocols 0 and 1)
    ENCODE = auto()  # makes bytes of a text, a character for each (Python 3, protocols 0 to 2)
    BYTES = auto()  # makes the empty bytes (the same)


# Every module that the class has lived in, from the wheels of TensorFlow 0.12, 1.0, 1.2, 1.15
# (tensorflow_core) and 2.21, of Keras 2.6, 2.9 and 2.13, and of tf-keras.
_STATE_MODULES = (
    "tensorflow.python.ops.rnn_cell",
    "tensorflow.contrib.rnn.python.ops.core_rnn_cell_impl",
    "tensorflow.python.ops.rnn_cell_impl",
    "tensorflow_core.python.ops.rnn_cell_impl",
    "tensorflow.python.keras.layers.legacy_rnn.rnn_cell_impl",
    "keras.layers.legacy_rnn.rnn_cell_impl",
    "keras.layers.rnn.legacy_cells",
    "keras.src.layers.rnn.legacy_cells",
    "tf_keras.layers.rnn.legacy_cells",
    "tf_keras.src.layers.rnn.legacy_cells",
)

# Python 2 and 3 name these modules differently, and so do NumPy 1 and 2.
_NAMES = {
    **{(module, "LSTMStateTuple"): _Name.STATE for module in _STATE_MODULES},
    ("numpy", "ndarray"): _Name.ARRAY,
    ("numpy", "dtype"): _Name.DTYPE,
    ("numpy.core.multiarray", "_reconstruct"): _Name.RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _Name.RECONSTRUCT,
    ("numpy.core.numeric", "_frombuffer"): _Name.FROM_BUFFER,
    ("numpy._core.numeric", "_frombuffer"): _Name.FROM_BUFFER,
    ("copy_reg", "_reconstructor"): _Name.RECONSTRUCTOR,
    ("copyreg", "_reconstructor"): _Name.RECONSTRUCTOR,
    ("__builtin__", "tuple"): _Name.TUPLE,
    ("builtins", "tuple"): _Name.TUPLE,
    ("__builtin__", "bytes"): _Name.BYTES,
    ("builtins", "bytes"): _Name.BYTES,
    ("_codecs", "encode"): _Name.ENCODE,
}

# Before the first name there are the tuples and lists around it, and their numbers in the memo.
_FIRST_NAME = re.compile(
    rb"(?:\(l?|\]|p\d{1,9}\n|q.|r.{4}){0,99}c([\w.]{1,99})\n(\w{1,99})\n", re.ASCII | re.DOTALL
)


class _Builder:
    """Makes arrays, LSTMStateTuples, tuples and lists of the result of the machine.

    It counts them: a pickle of few bytes can refer to a part over and over.
    """

    def __init__(self, size: int) -> None:
        self.parts = 0
        self.bytes_left = size
        self.encoded: dict[int, bytes] = {}  # by the id of the call

    def build(self, found: object, depth: int) -> Value:
        """Return the value of a part, so many levels deep."""
        self.parts += 1
        if self.parts > limits.MAX_PICKLE_PARTS:
            raise UnsupportedError(f"it has more than {limits.MAX_PICKLE_PARTS} parts")
        if depth > limits.MAX_PICKLE_DEPTH:
            raise UnsupportedError(f"it is nested deeper than {limits.MAX_PICKLE_DEPTH} levels")
        match found:
            case list():
                return [self.build(part, depth + 1) for part in found]
            case tuple():
                return tuple(self.build(part, depth + 1) for part in found)
            case (
                Call(_Name.STATE, (c, m), None | dict())  # a dict where there are no __slots__
                | Call(_Name.RECONSTRUCTOR, (_Name.STATE, _Name.TUPLE, (c, m)), None | dict())
            ):
                return LSTMStateTuple(self.half(c, depth), self.half(m, depth))
            case Call(
                _Name.RECONSTRUCT,
                (_Name.ARRAY, _, _),
                (1, tuple(shape), dtype, int(in_fortran_order), raw),
            ):
                return self.array(raw, dtype, shape, "F" if in_fortran_order else "C")
            case Call(_Name.FROM_BUFFER, (raw, dtype, tuple(shape), "C" | "F" as order)):
                return self.array(raw, dtype, shape, order)
            case Call(_Name.FROM_BUFFER, (raw, dtype, tuple(shape), "K", tuple(axes))):
                order_of_axes = [axis for axis in axes if type(axis) is int]
                if len(axes) != len(shape) or sorted(order_of_axes) != [*range(len(shape))]:
                    raise damaged("an array in it has other axes than its shape")
                return self.array(raw, dtype, shape, "C").transpose(order_of_axes)
            case Call():
                raise damaged("a call in it has other arguments than NumPy and TensorFlow give")
        raise UnsupportedError(f"it holds {_WORDS.get(type(found), 'a thing')}", advice=ADVICE)

    def half(self, found: object, depth: int) -> Array:
        """Return c or m of an LSTMStateTuple."""
        half = self.build(found, depth + 1)
        if isinstance(half, (tuple, list)):
            raise UnsupportedError("it holds an LSTMStateTuple of tuples or lists", advice=ADVICE)
        return half

    def array(self, raw: object, kind: object, shape: tuple[object, ...], order: str) -> Array:
        """Return an array as a view of its bytes, once its shape is known to need just these."""
        import numpy as np

        dtype, content = _dtype(kind), self.bytes(raw)
        if len(shape) > limits.NUMPY_RANK:
            raise UnsupportedError(f"it holds an array of {len(shape)} axes")
        sizes = [size for size in shape if type(size) is int and size >= 0]
        # NumPy refuses sizes that it cannot multiply, also where one of them is 0.
        largest = math.prod(size or 1 for size in sizes) * dtype.itemsize
        if len(sizes) < len(shape) or largest > limits.MAX_INT64:
            raise damaged("an array in it has a shape that none can have")
        declared = math.prod(sizes) * dtype.itemsize
        if declared != len(content):
            raise damaged(f"an array in it declares {declared} bytes and has {len(content)}")
        return np.ndarray(sizes, dtype, content, order="F" if order == "F" else "C")

    def bytes(self, found: object) -> bytes:
        """Return bytes, which Python 3 writes as a text up to protocol 2."""
        match found:
            case bytes():
                return found
            case Call(_Name.BYTES, ()):
                return b""
            case Call() if id(found) in self.encoded:
                return self.encoded[id(found)]
            case Call(_Name.ENCODE, (str(text), "latin1")):
                # Many calls may share one text, and make as many copies of it.
                self.bytes_left -= len(text)
                if self.bytes_left < 0:
                    raise UnsupportedError("it uses its bytes over and over", advice=ADVICE)
                with suppress(UnicodeEncodeError):
                    return self.encoded.setdefault(id(found), text.encode("latin-1"))
        raise damaged("an array in it has no bytes")


def _dtype(found: object) -> np.dtype[Any]:
    """Return an element type, which must be one of numbers."""
    import numpy as np

    match found:
        case Call(_Name.DTYPE, (str() | bytes() as code, _, _), state):
            text = _text(code)
            if text not in DTYPES:
                raise UnsupportedError(
                    f"it holds an array of dtype {shown(text)!r}, not one of numbers", advice=ADVICE
                )
            match state:
                case (int(), str() | bytes() as order, None, None, None, *_):
                    if _text(order) in ("<", ">", "|", "="):
                        return np.dtype(_text(order) + text)
    raise damaged("an array in it has no dtype")


def _text(found: str | bytes) -> str:
    """Return a short text of Python 3, or of Python 2, where it is bytes."""
    return found if isinstance(found, str) else found.decode("latin-1")


_WORDS: dict[type, str] = {
    type(None): "None",
    bool: "True or False",
    int: "an integer",
    str: "a text",
    bytes: "bytes",
    dict: "a dict",
    _Name: "a class or a function",
}
