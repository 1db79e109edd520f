"""TensorProto: an array inside a message, as V1 checkpoints and constants of graphs have it.

Message: TensorFlow core/framework/tensor.proto (v1.15.0): 1 dtype, 2 shape, 4 content as bytes, or
the values in a field of their dtype.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lstmstate import limits
from lstmstate.checkpoint import dtypes
from lstmstate.checkpoint import protobuf as wire
from lstmstate.checkpoint.dtypes import DType
from lstmstate.errors import CorruptError, UnsupportedError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Fields = dict[int, list[wire.Value]]  # a message, as `wire.message` returns it

_REAL_WIDTHS = {"float32": 4, "float64": 8, "complex64": 4, "complex128": 8}  # of their fields


def listed_values(proto: Fields, dtype: DType) -> NDArray[np.generic]:
    """Return the values in the field of a dtype, `[number of values]`."""
    import numpy as np

    if not dtype.proto_field:
        raise UnsupportedError(f"values of dtype {dtype.name} cannot be read")
    stored = proto.get(dtype.proto_field, [])
    if dtype is dtypes.STRING:
        value: NDArray[np.generic] = np.empty(len(stored), object)
        value[:] = wire.all_bytes(stored)
        return value
    width = _REAL_WIDTHS.get(dtype.name)
    # One value alone may be a field of its own; others are packed.
    packed = b"".join(
        part
        if isinstance(part, bytes)
        else part.to_bytes(width, "little")
        if width
        else wire.encode_varint(part)
        for part in stored
    )
    if width:
        if len(packed) % dtype.itemsize:
            raise CorruptError(f"{len(packed)} bytes are stored for values of {dtype.itemsize}")
        return dtypes.from_bytes(packed, dtype, (-1,))
    # Small types are in wider fields, two's complement: the low bytes are the value.
    numbers = _varints(packed).astype(f"u{dtype.itemsize}")
    return dtypes.widen(numbers.view(np.dtype(dtype.storage)), dtype)


def tensor_value(proto: Fields, dtype: DType, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """Return the array of a constant of a graph, which may leave out what repeats at its end."""
    import numpy as np

    size = math.prod(shape)
    content = wire.last_bytes(proto.get(4))
    if content:
        if len(content) % dtype.itemsize:
            raise CorruptError(f"{len(content)} bytes are stored for values of {dtype.itemsize}")
        value = dtypes.from_bytes(content, dtype, (-1,))
    else:
        value = listed_values(proto, dtype)
    if value.size > size:
        raise CorruptError(f"{value.size} values are stored for the shape {list(shape)}")
    if value.size < size:
        if size * value.itemsize > limits.MAX_REPEATED_BYTES:
            raise UnsupportedError(f"{value.size} values are repeated to {size}: too many")
        # A TensorProto without values is one of zeros.
        last = value[-1:] if value.size else np.zeros(1, value.dtype)
        value = np.concatenate([value, np.repeat(last, size - value.size)])
    return value.reshape(shape)


def _varints(data: bytes) -> NDArray[np.uint64]:
    """Return packed varints as an array: all first bytes at once, then all second ones, …"""
    import numpy as np

    stored = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(stored < 0x80)
    if len(stored) and (not len(ends) or ends[-1] != len(stored) - 1):
        raise CorruptError("its last number does not end")
    starts = np.concatenate([ends[:0], [0], ends[:-1] + 1])[: len(ends)]
    lengths = ends - starts + 1
    longest = int(lengths.max(initial=0))
    if longest > 10:
        raise CorruptError("one of its numbers is longer than 64 bits")
    values = np.zeros(len(ends), np.uint64)
    for place in range(longest):
        there = lengths > place
        septets = (stored[starts[there] + place] & 0x7F).astype(np.uint64)
        values[there] |= septets << np.uint64(7 * place)
    return values
