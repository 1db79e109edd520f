"""Functions of a graph: bodies of v2 loops and branches, and functions that a SavedModel calls."""

from __future__ import annotations

from collections.abc import Mapping

from lstmstate.checkpoint import protobuf as wire
from lstmstate.checkpoint.graph_node import Node, NodeReader
from lstmstate.checkpoint.inlining import as_in_graph
from lstmstate.records import NamedTuple


class FunctionBody(NamedTuple):
    """A function of a graph.

    Attributes:
        arguments: the names of its arguments, in order.
        returns: the tensors of its body that it returns, in order.
        nodes: its operations by name, with inputs written "node:port" as in a graph.
    """

    arguments: tuple[str, ...]
    returns: tuple[str, ...]
    nodes: Mapping[str, Node]


def read_functions(library: bytes) -> dict[str, FunctionBody]:
    """Return the functions of a FunctionDefLibrary {1 repeated FunctionDef} by name.

    FunctionDef: 1 signature {1 name, 2 repeated input_arg {1 name}, 3 repeated output_arg},
    3 repeated node_def, 4 map ret (core/framework/function.proto, v1.15.0).
    """
    found = {}
    for data in wire.all_bytes(wire.message(library).get(1)) if library else ():
        fields = wire.message(data)
        signature = wire.message(wire.last_bytes(fields.get(1)))
        arguments = _names(signature, 2)
        nodes, read = {}, NodeReader().node
        for body in wire.all_bytes(fields.get(3)):
            node = read(body)
            nodes[node.name] = node
        kinds = {name: node.op for name, node in nodes.items()}
        renamed = {
            name: Node(name, node.op, [as_in_graph(t, kinds) for t in node.inputs], node.attributes)
            for name, node in nodes.items()
        }
        returned = {}
        for entry in wire.all_bytes(fields.get(4)):
            pair = wire.message(entry)
            returned[wire.text(wire.last_bytes(pair.get(1)))] = wire.text(
                wire.last_bytes(pair.get(2))
            )
        results = (returned.get(name, name) for name in _names(signature, 3))
        returns = tuple(as_in_graph(result, kinds) for result in results)
        name = wire.text(wire.last_bytes(signature.get(1)))
        found[name] = FunctionBody(arguments, returns, renamed)
    return found


def _names(signature: dict[int, list[wire.Value]], field: int) -> tuple[str, ...]:
    return tuple(
        wire.text(wire.last_bytes(wire.message(argument).get(1)))
        for argument in wire.all_bytes(signature.get(field))
    )
