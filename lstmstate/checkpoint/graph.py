"""The graph that lies beside a checkpoint (`.meta`, `saved_model.pb`), as nodes and edges.

It is walked as bytes and never imported: whatever operations it names, none is run. Messages:
TensorFlow core/protobuf/{meta_graph,saved_model}.proto, core/framework/{graph,node_def,
attr_value,tensor}.proto (v1.15.0).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from lstmstate import limits
from lstmstate.checkpoint import wire
from lstmstate.checkpoint.functions import Returns, inlined
from lstmstate.checkpoint.node import Node, parse_node
from lstmstate.checkpoint.source import read_whole
from lstmstate.errors import CorruptError, UnsupportedError, located

VARIABLE_OPS = frozenset({"Variable", "VariableV2", "VarHandleOp", "AutoReloadVariable"})
_SAVE_OPS = {"SaveV2": (1, 3), "SaveSlices": (1, 3), "Save": (1, 2)}  # op: (names, first value)

# GraphDef.versions.producer → release, for graphs that do not name it (before 0.12).
# Source: core/public/version.h at each tag.
_RELEASES = ((1, "0.5-0.6"), (8, "0.7"), (9, "0.8-0.9"), (11, "0.10"), (15, "0.11"), (17, "0.12"))


class Edge(NamedTuple):
    """One use of an output: which node takes it, as which input, and which output it is."""

    node: Node
    position: int
    port: int


class Graph:
    """Nodes by name, and who uses whose outputs.

    Attributes:
        nodes: the operations of the graph, and of the functions that it calls.
        tensorflow_version: the release that wrote it, as it says itself, or by its producer
            number where it does not; None where neither is there.
        producer: GraphDef.versions.producer.
        trainable: node names of the trainable variables; None where the graph lists none.
        returns: for each node that calls functions, the tensors that each of them returns.
    """

    def __init__(self, meta_graph: bytes) -> None:
        self.nodes: dict[str, Node] = {}
        self.producer = 0
        self.tensorflow_version: str | None = None
        self.trainable: frozenset[str] | None = None
        self.returns: Returns = {}
        self._edges: dict[str, list[Edge]] | None = None
        self._steps: int | None = None
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
        """Read a GraphDef: 1 repeated node, 2 library of functions, 4 versions {1 producer}."""
        library = b""
        for number, _, value in wire.fields(graph_def):
            if number == 1 and isinstance(value, bytes):
                self._add(parse_node(value))
            elif number == 2 and isinstance(value, bytes):
                library = value
            elif number == 4 and isinstance(value, bytes):
                self.producer = wire.last_int(wire.message(value).get(1))

        if library:
            for node in list(inlined(library, self.nodes, self.returns)):
                self._add(node)

    def _add(self, node: Node) -> None:
        self.nodes[node.name] = node
        if len(self.nodes) > limits.MAX_ENTRIES:
            raise CorruptError(f"the graph has more than {limits.MAX_ENTRIES} nodes")

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

    def spend(self, steps: int = 1) -> None:
        """Count steps along the edges, so that no graph can make a reader walk for ever.

        Raises:
            UnsupportedError: there were too many for a graph of this size.
        """
        if self._steps is None:
            self._steps = limits.WALK_STEPS + limits.WALK_STEPS_PER_NODE * len(self.nodes)
        self._steps -= steps
        if self._steps < 0:
            raise UnsupportedError("the graph is too tangled to be followed")

    def source(self, tensor: str) -> tuple[Node | None, int]:
        """Return the node and the output that an input string such as "a/b:1" names."""
        name, port = _split_port(tensor)
        return self.nodes.get(name), port

    def edges(self, name: str) -> list[Edge]:
        """Return all uses of a node's outputs; edges of control are not among them."""
        if self._edges is None:
            self._edges = {}
            for node in self.nodes.values():
                for position, tensor in enumerate(node.inputs):
                    if tensor.startswith("^"):
                        continue
                    start, port = _split_port(tensor)
                    self._edges.setdefault(start, []).append(Edge(node, position, port))
        return self._edges.get(name, [])

    def saved_names(self) -> Iterator[tuple[str, Node]]:
        """Yield (key in the checkpoint, the node whose value is saved under it).

        A Saver may save a variable under any name: the operation that saves tells.
        """
        lists: dict[str, list[str]] = {}
        for node in self.nodes.values():
            if node.op in _SAVE_OPS:
                names, first = _SAVE_OPS[node.op]
                values = [self.source(tensor)[0] for tensor in node.inputs if tensor[:1] != "^"]
                keys = values[names] if names < len(values) else None
                if keys is not None and keys.op == "Const":
                    if keys.name not in lists:
                        lists[keys.name] = keys.strings()
                    self.spend(len(values))
                    for key, value in zip(lists[keys.name], values[first:], strict=False):
                        if value is not None:
                            yield key, value


def _split_port(tensor: str) -> tuple[str, int]:
    """Return the node and the output of an input string; no operation has a million outputs."""
    name, _, port = tensor.rpartition(":")
    if name and port.isascii() and port.isdecimal() and len(port) <= 6:
        return name, int(port)
    return tensor, 0


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


def _release(producer: int) -> str | None:
    """Return the release that wrote graphs of this producer number, up to 0.12."""
    known = [release for number, release in _RELEASES if 0 < number <= producer]
    return known[-1] if known and producer <= _RELEASES[-1][0] else None
