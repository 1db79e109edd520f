"""LSTM states into pickles that every Python, NumPy and TensorFlow of their time can load.

The instructions are written here, one by one, and not by `pickle`: what that writes depends on
the versions of Python and NumPy at hand, and names modules that older ones do not have. The file
is of protocol 2, the highest of Python 2, and names what all versions understand.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from lstmstate import limits
from lstmstate.errors import UnsupportedError
from lstmstate.state.pickled import DTYPES, LSTMStateTuple, Value

if TYPE_CHECKING:
    from lstmstate.state.pickled import Array

_START, _END = b"\x80\x02", b"."  # protocol 2
_STATE = b"ctensorflow.python.ops.rnn_cell_impl\nLSTMStateTuple\n"
_DTYPE = b"cnumpy\ndtype\n"
_ENCODE = b"c_codecs\nencode\n"
_FALSE, _TRUE, _NONE = b"\x89", b"\x88", b"N"
_MARK, _TUPLE, _LIST, _APPENDS = b"(", b"t", b"]", b"e"
_CALL, _NEW, _FILL = b"R", b"\x81", b"b"

_PIECE = limits.MIB  # bytes of an array that are turned into text at a time
_MAX_TEXT = (1 << 31) - 1  # Python 2 reads the length of a text as a signed number


def write_pickle(value: Value, metadata: str | None, file: IO[bytes]) -> None:
    """Write a state as a pickle, and its metadata as a second one behind it.

    The same value makes the same bytes. Arrays, tuples and lists are loaded by `pickle.load`
    where NumPy is installed; LSTMStateTuples where TensorFlow 1.2 or later is.

    Args:
        value: arrays of numbers, in LSTMStateTuples, tuples and lists.
        metadata: a text, None for none.
        file: a binary file; after an error, what was written to it is of no use.

    Raises:
        UnsupportedError: the value holds something else, or an array that the format cannot.

    Example:
        >>> import io, pickle
        >>> import numpy as np
        >>> file = io.BytesIO()
        >>> write_pickle((np.zeros(2, np.float32), [np.ones(1)]), "two arrays", file)
        >>> file.seek(0), pickle.load(file), pickle.load(file)
        (0, (array([0., 0.], dtype=float32), [array([1.])]), 'two arrays')
    """
    file.write(_START)
    parts = _write(value, file, 0)
    if parts > limits.MAX_PICKLE_PARTS:
        raise UnsupportedError(
            f"the state has {parts} parts, and a pickle takes {limits.MAX_PICKLE_PARTS}"
        )
    file.write(_END)
    if metadata is not None:
        file.write(_START + _text(metadata) + _END)


def _write(value: Value, file: IO[bytes], depth: int) -> int:
    """Write a part of the value; returns how many parts it has, itself among them."""
    if depth > limits.MAX_PICKLE_DEPTH:
        raise UnsupportedError(f"the state is nested deeper than {limits.MAX_PICKLE_DEPTH} levels")
    if isinstance(value, LSTMStateTuple):
        file.write(_STATE)
        parts = _write(tuple(value), file, depth)
        file.write(_NEW)
        return parts
    if isinstance(value, (tuple, list)):
        file.write(_MARK if isinstance(value, tuple) else _LIST + _MARK)
        parts = 1 + sum(_write(part, file, depth + 1) for part in value)
        file.write(_TUPLE if isinstance(value, tuple) else _APPENDS)
        return parts
    _write_array(value, file)
    return 1


def _write_array(array: Array, file: IO[bytes]) -> None:
    """Write an array as a call that makes an empty one, and the state that fills it.

    Bytes are written as a text in which each character is one of them, and a call that encodes
    it: Python 2 makes a str of that and Python 3 bytes, which no instruction of protocol 2 does.
    """
    import numpy as np

    if not isinstance(array, np.ndarray):
        raise UnsupportedError(f"a {type(array).__name__} cannot be written into a pickle")
    order, code = array.dtype.str[0], array.dtype.str[1:]
    if code not in DTYPES:
        raise UnsupportedError(
            f"an array of {array.dtype} cannot be written into a pickle",
            advice="convert it to float32 first",
        )
    if array.nbytes <= _MAX_TEXT:
        flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        pieces = [flat[start : start + _PIECE] for start in range(0, flat.size, _PIECE)]
        # UTF-8 takes two bytes for a character from 128 on.
        length = flat.size + sum(int(np.count_nonzero(piece & 128)) for piece in pieces)
    if array.nbytes > _MAX_TEXT or length > _MAX_TEXT:
        raise UnsupportedError(
            f"an array of {array.nbytes} bytes is too large for a pickle", advice="write an .npz"
        )
    file.write(b"cnumpy.core.multiarray\n_reconstruct\n")
    file.write(_tuple(b"cnumpy\nndarray\n", _tuple(_integer(0)), _text("b")) + _CALL)
    file.write(_MARK + _integer(1) + _tuple(*map(_integer, array.shape)))
    file.write(_DTYPE + _tuple(_text(code), _FALSE, _TRUE) + _CALL)
    rest = (_NONE, _NONE, _NONE, _integer(-1), _integer(-1), _integer(0))
    file.write(_tuple(_integer(3), _text(order), *rest) + _FILL)
    file.write(_FALSE + _ENCODE + _MARK + b"X" + length.to_bytes(4, "little"))
    for piece in pieces:
        file.write(piece.tobytes().decode("latin-1").encode())
    file.write(_text("latin1") + _TUPLE + _CALL + _TUPLE + _FILL)


def _tuple(*parts: bytes) -> bytes:
    return _MARK + b"".join(parts) + _TUPLE


def _integer(number: int) -> bytes:
    if -(1 << 31) <= number < 1 << 31:
        return b"J" + number.to_bytes(4, "little", signed=True)
    return b"\x8a\x08" + number.to_bytes(8, "little", signed=True)


def _text(text: str) -> bytes:
    encoded = text.encode("utf-8", "surrogatepass")
    return b"X" + len(encoded).to_bytes(4, "little") + encoded
