"""Frozen graphs: GraphDefs with constants in the place of variables."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lstmstate import limits
from lstmstate.checkpoint import dtypes
from lstmstate.checkpoint import protobuf as wire
from lstmstate.checkpoint.graph import VARIABLE_OPS, read_graph_def
from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.inlining import INLINED
from lstmstate.checkpoint.slices import Extents
from lstmstate.checkpoint.tensor_proto import Fields, tensor_value
from lstmstate.checkpoint.variables import Spec, parse_shape
from lstmstate.errors import UnsupportedError, count, located
from lstmstate.files.reader import read_whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_VARIABLE = "VariableV2"
_OP = _VARIABLE.encode()
_NO_END = "it has neither versions nor a library at its end: nothing shows that it is whole"


class FrozenGraph:
    """A frozen graph; its constants of real numbers that have an axis are its variables.

    Args:
        path: the file.

    Attributes:
        graph: the graph, with these constants as operations that hold a variable.
        notes: lines for the user on how it was read.
    """

    def __init__(self, path: str) -> None:
        self.data_files = (path,)
        self.specs: dict[str, Spec] = {}
        self.notes: list[str] = []
        self._tensors: dict[str, Fields] = {}
        self.graph = read_graph_def(path, needs_end=False)
        with located(path):
            for node in list(self.graph.nodes.values()):
                self._add(node)
            others = [n.name for n in self.graph.nodes.values() if n.op in VARIABLE_OPS]
            if not self.specs:
                raise UnsupportedError(
                    "this graph has no constants that could be weights",
                    advice="pass the checkpoint that belongs to it",
                )
            if not self.graph.has_end:
                self.notes.append(f"{path}: {_NO_END}")
            if len(others) > len(self.specs):
                left = count(len(others) - len(self.specs), "variable")
                self.notes.append(f"{path}: {left} of it not frozen: the values are not here")

    def _add(self, node: Node) -> None:
        """List a constant as a variable, and let its node in the graph be one."""
        tensor = node.tensor()
        if tensor is None or node.name.startswith(INLINED):
            return
        with located(tensor=node.name):
            dtype = dtypes.by_number(wire.last_int32(tensor.get(1)))
            if not dtype.is_float:
                return
            written = wire.merge(tensor.get(2))
            shape = parse_shape(written)
        if not shape or not math.prod(shape):
            return
        self._tensors[node.name] = tensor
        self.specs[node.name] = Spec(dtype, shape)
        attributes = {
            b"shape": wire.bytes_field(7, written),
            b"dtype": wire.int_field(6, wire.last_int32(tensor.get(1))),
        }
        entries = [
            wire.bytes_field(1, key) + wire.bytes_field(2, value)
            for key, value in attributes.items()
        ]
        self.graph.nodes[node.name] = Node(node.name, _VARIABLE, [], entries)

    def meta_graph(self) -> bytes:
        """Return its file as a MetaGraphDef, with variables again in the place of constants."""
        data = read_whole(self.data_files[0], limits.MAX_GRAPH_BYTES, "a graph")
        parts = []
        for number, kind, value in wire.fields(data):
            if isinstance(value, bytes):
                parts.append(
                    wire.bytes_field(number, self._thawed(value) if number == 1 else value)
                )
            elif kind == wire.VARINT:
                parts.append(wire.int_field(number, value))
        return wire.bytes_field(2, b"".join(parts))

    def _thawed(self, node_def: bytes) -> bytes:
        """Return a node as it is, or the variable in its place."""
        name = wire.text(wire.last_bytes(wire.message(node_def).get(1)))
        if name not in self._tensors:
            return node_def
        start = wire.bytes_field(1, wire.encode_text(name)) + wire.bytes_field(2, _OP)
        attributes = self.graph.nodes[name].attributes
        return start + b"".join(wire.bytes_field(5, entry) for entry in attributes)

    def read(self, name: str, spec: Spec, extents: Extents | None) -> NDArray[np.generic]:
        """Return the value of a constant; see `variables.Reader`."""
        assert extents is None, "constants are whole"
        with located(self.data_files[0], name):
            return tensor_value(self._tensors[name], spec.dtype, spec.shape)
