"""Constants of a graph as NumPy arrays, of any size that their bytes account for."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstmstate.checkpoint import dtypes, wire
from lstmstate.checkpoint.node import Node, packed_ints, partial_shape
from lstmstate.errors import CorruptError, UnsupportedError
from lstmstate.graph.operations import bounded


def constant_array(node: Node) -> NDArray[Any]:
    """Return the value of a Const; strings become an array of one blank object.

    TensorProto: 1 dtype, 2 shape, 4 content as bytes, or a field of values whose last one
    repeats (core/framework/tensor.proto, v1.15.0).

    Raises:
        CorruptError: the bytes do not make an array of its shape.
        UnsupportedError: NumPy has no such type, or the array is too large.
    """
    tensor = node.tensor()
    if tensor is None:
        raise CorruptError("a constant of the graph has no value", tensor=node.name)
    found = wire.message(tensor)
    dtype = dtypes.by_number(wire.last_int(found.get(1)))
    sizes = partial_shape(wire.last_bytes(found.get(2)))
    if dtype.name == "string":
        return np.array([b""], object)
    if dtype.storage is None or sizes is None or None in sizes:
        raise UnsupportedError(f"a constant of the graph is {dtype.name}", tensor=node.name)
    shape = bounded([size or 0 for size in sizes], dtype.itemsize)
    count = int(np.prod(shape, dtype=np.int64))
    values = _values(found, dtype, count)
    if len(values) > count:
        raise CorruptError("a constant of the graph has too many values", tensor=node.name)
    if len(values) < count:
        if wire.last_bytes(found.get(4)):
            raise CorruptError("a constant of the graph is cut short", tensor=node.name)
        last = values[-1] if len(values) else np.zeros((), values.dtype)
        values = np.concatenate([values, np.full(count - len(values), last, values.dtype)])
    return dtypes.widened(values, dtype).reshape(shape)


def _values(found: dict[int, list[wire.Value]], dtype: dtypes.DType, count: int) -> NDArray[Any]:
    """Return the stored values, which may be fewer than the shape asks for."""
    kind = np.dtype(dtype.storage).newbyteorder("<")
    content = wire.last_bytes(found.get(4))
    if content:
        if len(content) % kind.itemsize:
            raise CorruptError("a constant of the graph is cut short")
        return np.frombuffer(content, kind).astype(kind.newbyteorder("="))
    stored = found.get(dtype.proto_field, [])
    if kind.kind == "f" and kind.itemsize > 2:
        parts = [
            value if isinstance(value, bytes) else value.to_bytes(8, "little")[: kind.itemsize]
            for value in stored
        ]
        data = b"".join(parts)
        return np.frombuffer(data[: len(data) // kind.itemsize * kind.itemsize], kind).astype(
            kind.newbyteorder("=")
        )
    numbers = list(islice(packed_ints(stored), count + 1))
    if kind.kind == "f":  # half_val holds patterns of 16 bits
        return np.array([number & 0xFFFF for number in numbers], np.uint16).view(np.float16)
    mask = (1 << 8 * kind.itemsize) - 1
    unsigned = np.dtype(f"u{kind.itemsize}")
    patterns = np.array([number & mask for number in numbers], unsigned)
    return patterns.astype(bool) if kind.kind == "b" else patterns.view(kind.newbyteorder("="))
