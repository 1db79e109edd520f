"""The graph that lies beside a checkpoint (`.meta`, `saved_model.pb`), as nodes and edges.

It is walked as bytes and never imported: whatever operations it names, none is run. Messages:
TensorFlow core/protobuf/{meta_graph,saved_model}.proto, core/framework/{graph,node_def,
attr_value,tensor}.proto (v1.15.0).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from lstmstate import limits
from lstmstate.checkpoint import dtypes, wire
from lstmstate.checkpoint.source import read_whole
from lstmstate.checkpoint.variables import Shape
from lstmstate.errors import CorruptError, UnsupportedError, located

VARIABLE_OPS = frozenset({"Variable", "VariableV2", "VarHandleOp", "AutoReloadVariable"})
_SAVE_OPS = {"SaveV2": (1, 3), "SaveSlices": (1, 3), "Save": (1, 2)}  # op: (names, first value)
_LARGEST = {"f": 3.4028234e38, "e": 65504.0}  # what struct packs without overflow
_MAX_CONSTANT = 64  # numbers of a constant that are worth reading: hyper-parameters are few

# GraphDef.versions.producer → release, for graphs that do not name it (before 0.12).
# Source: core/public/version.h at each tag.
_RELEASES = ((1, "0.5-0.6"), (8, "0.7"), (9, "0.8-0.9"), (11, "0.10"), (15, "0.11"), (17, "0.12"))


class Edge(NamedTuple):
    """One use of an output: which node takes it, as which input, and which output it is."""

    node: Node
    position: int
    port: int


class Node:
    """An operation of the graph; its attributes are read when asked for."""

    __slots__ = ("_attributes", "inputs", "name", "op")

    def __init__(self, name: str, op: str, inputs: list[str], attributes: list[bytes]) -> None:
        self.name = name
        self.op = op
        self.inputs = inputs
        self._attributes = attributes

    def __repr__(self) -> str:
        return f"<Node {self.name} {self.op}>"

    def _attribute(self, name: str) -> dict[int, list[wire.Value]]:
        """Return an AttrValue: 2 s, 3 i, 4 f, 5 b, 6 type, 7 shape, 8 tensor; {} if not set."""
        key = name.encode()
        start = bytes([0x0A, len(key)]) + key  # how every entry of the map with this key begins
        for entry in self._attributes:
            if entry.startswith(start):
                return wire.message(wire.last_bytes(wire.message(entry).get(2)))
        return {}

    def number(self, name: str) -> int | None:
        """An int or bool attribute, None where it is not set."""
        value = self._attribute(name)
        found = value.get(3) or value.get(5)
        return None if found is None else wire.signed(wire.last_int(found))

    def real(self, name: str) -> float | None:
        """A float attribute, None where it is not set."""
        found = self._attribute(name).get(4)
        return None if found is None else _shortest(wire.float32(wire.last_int(found)))

    def string(self, name: str) -> str | None:
        """A string attribute, None where it is not set."""
        found = self._attribute(name).get(2)
        return None if found is None else wire.text(wire.last_bytes(found))

    def shape(self) -> tuple[int | None, ...] | None:
        """The attribute `shape` of a variable or placeholder; None in it: not fixed."""
        found = self._attribute("shape").get(7)
        return None if found is None else _partial_shape(wire.last_bytes(found))

    def constant(self) -> Constant | None:
        """The value of a Const of at most 64 numbers; None for other nodes and larger ones."""
        found = self._attribute("value").get(8) if self.op == "Const" else None
        return None if found is None else _constant(wire.last_bytes(found))

    def constant_shape(self) -> tuple[int | None, ...] | None:
        """The shape of a Const of any size."""
        found = self._attribute("value").get(8) if self.op == "Const" else None
        tensor = wire.message(wire.last_bytes(found)) if found else {}
        return _partial_shape(wire.last_bytes(tensor.get(2))) if tensor else None

    def strings(self) -> list[str]:
        """The strings of a Const that holds names."""
        found = self._attribute("value").get(8)
        tensor = wire.message(wire.last_bytes(found)) if found else {}
        return [wire.text(value) for value in wire.all_bytes(tensor.get(8))]


class Constant(NamedTuple):
    """A small constant of a graph."""

    shape: Shape
    values: tuple[float, ...]

    @property
    def scalar(self) -> float | None:
        """Its value where it is one number."""
        return self.values[0] if len(self.values) == 1 else None


class Graph:
    """Nodes by name, and who uses whose outputs.

    Attributes:
        nodes: the operations of the graph (bodies of functions are left out).
        tensorflow_version: the release that wrote it, as it says itself, or by its producer
            number where it does not; None where neither is there.
        producer: GraphDef.versions.producer.
        trainable: node names of the trainable variables; None where the graph lists none.
    """

    def __init__(self, meta_graph: bytes) -> None:
        self.nodes: dict[str, Node] = {}
        self.producer = 0
        self.tensorflow_version: str | None = None
        self.trainable: frozenset[str] | None = None
        self._edges: dict[str, list[Edge]] | None = None
        for number, _, value in wire.fields(meta_graph):
            if not isinstance(value, bytes):
                continue
            if number == 1:
                self.tensorflow_version = wire.text(wire.last_bytes(wire.message(value).get(5)))
            elif number == 2:
                self._add_nodes(value)
            elif number == 4:
                self._add_collection(value)
        self.tensorflow_version = self.tensorflow_version or _release(self.producer)

    def _add_nodes(self, graph_def: bytes) -> None:
        """Read a GraphDef: 1 repeated node, 4 versions {1 producer}."""
        for number, _, value in wire.fields(graph_def):
            if number == 1 and isinstance(value, bytes):
                node = _node(value)
                self.nodes[node.name] = node
                if len(self.nodes) > limits.MAX_ENTRIES:
                    raise CorruptError(f"the graph has more than {limits.MAX_ENTRIES} nodes")
            elif number == 4 and isinstance(value, bytes):
                self.producer = wire.last_int(wire.message(value).get(1))

    def _add_collection(self, entry: bytes) -> None:
        """Read the collection of trainable variables: VariableDefs, whose field 1 is the name."""
        found = wire.message(entry)
        if wire.last_bytes(found.get(1)) != b"trainable_variables":
            return
        collection = wire.message(wire.last_bytes(found.get(2)))
        listed = wire.message(wire.last_bytes(collection.get(2)))  # 2 bytes_list {1 value}
        names = (
            wire.text(wire.last_bytes(wire.message(variable).get(1)))
            for variable in wire.all_bytes(listed.get(1))
        )
        self.trainable = frozenset(name.rpartition(":")[0] or name for name in names)

    def source(self, tensor: str) -> tuple[Node | None, int]:
        """Return the node and the output that an input string such as "a/b:1" names."""
        name, _, port = tensor.rpartition(":")
        if name and port.isdecimal():
            return self.nodes.get(name), int(port)
        return self.nodes.get(tensor), 0

    def edges(self, name: str) -> list[Edge]:
        """Return all uses of a node's outputs; edges of control are not among them."""
        if self._edges is None:
            self._edges = {}
            for node in self.nodes.values():
                for position, tensor in enumerate(node.inputs):
                    if tensor.startswith("^"):
                        continue
                    start, _, port = tensor.rpartition(":")
                    edge = Edge(node, position, int(port) if start and port.isdecimal() else 0)
                    self._edges.setdefault(start or tensor, []).append(edge)
        return self._edges.get(name, [])

    def saved_names(self) -> Iterator[tuple[str, Node]]:
        """Yield (key in the checkpoint, the node whose value is saved under it).

        A Saver may save a variable under any name: the operation that saves tells.
        """
        for node in self.nodes.values():
            if node.op in _SAVE_OPS:
                names, first = _SAVE_OPS[node.op]
                values = [self.source(tensor)[0] for tensor in node.inputs if tensor[:1] != "^"]
                keys = values[names] if names < len(values) else None
                if keys is not None and keys.op == "Const":
                    for key, value in zip(keys.strings(), values[first:], strict=False):
                        if value is not None:
                            yield key, value


def read_meta(path: str) -> Graph:
    """Read a `.meta` file, which is a MetaGraphDef.

    Raises:
        LstmstateError: it is missing, or not one.
    """
    with located(path):
        return Graph(read_whole(path, limits.MAX_GRAPH_BYTES, "a graph"))


def read_saved_model(path: str) -> Graph:
    """Read the first graph of a `saved_model.pb`: SavedModel {1 version, 2 repeated graph}.

    Raises:
        LstmstateError: it is missing, not one, or holds no graph.
    """
    with located(path):
        for number, _, value in wire.fields(
            read_whole(path, limits.MAX_GRAPH_BYTES, "a SavedModel")
        ):
            if number == 2 and isinstance(value, bytes):
                return Graph(value)
        raise UnsupportedError("it holds no graph")


def _node(data: bytes) -> Node:
    """Read a NodeDef: 1 name, 2 op, 3 repeated input, 4 device, 5 repeated attr.

    The loop is that of `wire.fields`, written out for the fields that a node has: a graph has
    thousands of nodes, and this is where the time goes.
    """
    name = op = ""
    inputs: list[str] = []
    attributes: list[bytes] = []
    at, end = 0, len(data)
    while at + 1 < end:
        key, length = data[at], data[at + 1]
        if key & 0x87 != wire.LENGTH_DELIMITED:
            raise CorruptError("a node of the graph has a field that no node has")
        start = at + 2
        if length >= 0x80:
            length, start = wire.varint(data, at + 1)
        at = start + length
        if at > end:
            break
        if key == 0x2A:
            attributes.append(data[start:at])
        elif key == 0x1A:
            inputs.append(wire.text(data[start:at]))
        elif key == 0x0A:
            name = wire.text(data[start:at])
        elif key == 0x12:
            op = wire.text(data[start:at])
    if at != end:
        raise CorruptError("a node of the graph runs over its end")
    return Node(name, op, inputs, attributes)


def _release(producer: int) -> str | None:
    """Return the release that wrote graphs of this producer number, up to 0.12."""
    known = [release for number, release in _RELEASES if 0 < number <= producer]
    return known[-1] if known and producer <= _RELEASES[-1][0] else None


def _partial_shape(data: bytes) -> tuple[int | None, ...] | None:
    """Read a TensorShapeProto in which sizes, or all of it, may be left open (-1, 3: true)."""
    found = wire.message(data)
    if wire.last_int(found.get(3)):
        return None
    sizes = [
        wire.signed(wire.last_int(wire.message(axis).get(1)))
        for axis in wire.all_bytes(found.get(2))[: limits.MAX_RANK]
    ]
    return tuple(None if size < 0 else size for size in sizes)


def _constant(data: bytes) -> Constant | None:
    """Read a TensorProto: 1 dtype, 2 shape, 4 content as bytes, or a field of values."""
    found = wire.message(data)
    dtype = dtypes.by_number(wire.last_int(found.get(1)))
    sizes = _partial_shape(wire.last_bytes(found.get(2)))
    if sizes is None or None in sizes or dtype.storage is None:
        return None
    shape = tuple(size for size in sizes if size is not None)
    count = 1
    for size in shape:
        count *= size
    code = {"f2": "e", "f4": "f", "f8": "d", "i4": "i", "i8": "q", "u1": "B", "?": "?"}.get(
        dtype.storage
    )
    if not 0 < count <= _MAX_CONSTANT or code is None:
        return None
    content = wire.last_bytes(found.get(4))
    stored = found.get(dtype.proto_field, [])
    if not content and code in "fd":
        content = b"".join(
            value if isinstance(value, bytes) else value.to_bytes(dtype.itemsize, "little")
            for value in stored
        )
    if content:
        if len(content) % dtype.itemsize:
            return None
        values = struct.unpack(f"<{len(content) // dtype.itemsize}{code}", content)
    else:
        values = tuple(_packed_ints(stored))
        if code == "e":  # half_val holds bit patterns
            patterns = [int(value) & 0xFFFF for value in values]
            values = struct.unpack(f"<{len(values)}e", struct.pack(f"<{len(values)}H", *patterns))
    values = values or (0,)  # a TensorProto without values is one of zeros
    if code in "fe":
        values = tuple(_shortest(value, code) for value in values)
    # A TensorProto may leave out repetitions of its last value.
    return Constant(shape, (*values, *[values[-1]] * (count - len(values)))[:count])


def _shortest(value: float, code: str = "f") -> float:
    """Return the shortest decimal that is the same float32: 0.8, not 0.800000011920929."""
    stored = struct.pack(code, value)
    for digits in range(1, 9):
        short = float(f"{value:.{digits}g}")
        if abs(short) < _LARGEST[code] and struct.pack(code, short) == stored:
            return short
    return value


def _packed_ints(stored: list[wire.Value]) -> Iterator[int]:
    """Yield the numbers of a repeated integer field, packed or not."""
    for value in stored:
        if isinstance(value, int):
            yield wire.signed(value)
            continue
        at = 0
        while at < len(value):
            number, at = wire.varint(value, at)
            yield wire.signed(number)
