"""Constants of a graph as NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstmstate.checkpoint import dtypes
from lstmstate.checkpoint import protobuf as wire
from lstmstate.checkpoint.graph_node import Node, partial_shape
from lstmstate.checkpoint.tensor_proto import tensor_value
from lstmstate.errors import CorruptError, UnsupportedError
from lstmstate.graph.operations import bounded


def constant_array(node: Node) -> Any:
    """Return the value of a Const; strings become an array of one blank object.

    Raises:
        CorruptError: the bytes do not make an array of its shape.
        UnsupportedError: NumPy has no such type, or the array is too large.
    """
    found = node.tensor()
    if found is None:
        raise CorruptError("a constant of the graph has no value", tensor=node.name)
    dtype = dtypes.by_number(wire.last_int(found.get(1)))
    sizes = partial_shape(wire.last_bytes(found.get(2)))
    if dtype.name == "string":
        return np.array([b""], object)
    if dtype.storage is None or sizes is None or None in sizes:
        raise UnsupportedError(f"a constant of the graph is {dtype.name}", tensor=node.name)
    return tensor_value(found, dtype, bounded([size or 0 for size in sizes], dtype.itemsize))
