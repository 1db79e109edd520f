"""Graphs of the samples, each with one operation changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from lstmstate.checkpoint.graph import Graph
from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.protobuf import bytes_field, fixed32_field, int_field

# The operations that may replace an operation: others with as many operands.
OTHER = {
    "Sigmoid": ("Tanh", "Relu", "Softsign"),
    "Tanh": ("Sigmoid", "Relu", "Softsign"),
    "Relu": ("Tanh", "Elu"),
    "Mul": ("AddV2", "Maximum"),
    "AddV2": ("Sub", "Mul"),
    "Add": ("Sub", "Mul"),
    "Maximum": ("Minimum",),
    "Minimum": ("Maximum",),
    "BiasAdd": ("Mul",),
    "Sub": ("AddV2",),
}
JOINING = ("Split", "ConcatV2", "MatMul")
INSERTED = ("Neg", "Tanh", "Relu", "Square")
STEP = ("/while/", "lstm_cell", "BasicLSTMCell", "basic_lstm")


class Mutant(NamedTuple):
    """A change of one node; `nodes` replace others of the same name, or are added."""

    what: str
    nodes: tuple[Node, ...]


def mutants(graph: Graph) -> Iterator[Mutant]:
    """Yield every change of one operation of a step."""
    for node in list(graph.nodes.values()):
        if "gradients" in node.name or "save/" in node.name or "Initializer" in node.name:
            continue
        if not any(word in node.name for word in STEP) or node.name.endswith("/read"):
            continue
        yield from _other_operations(node)
        yield from _other_operands(graph, node)
        yield from _other_constants(node)


def _other_operations(node: Node) -> Iterator[Mutant]:
    for other in OTHER.get(node.op, ()):
        yield Mutant(f"{node.name}: {node.op} to {other}", (_copy(node, op=other),))


def _other_operands(graph: Graph, node: Node) -> Iterator[Mutant]:
    if node.op in ("Mul", "Sub", "AddV2", "Add") and len(node.inputs) == 2:
        twice = [node.inputs[0], node.inputs[0]]
        yield Mutant(f"{node.name}: first operand twice", (_copy(node, inputs=twice),))
    if node.op == "Sub":
        yield Mutant(f"{node.name}: operands turned", (_copy(node, inputs=node.inputs[::-1]),))
    for at, tensor in enumerate(node.inputs if node.op in {*JOINING, *OTHER} else ()):
        if not tensor.startswith("^") and _is_value(graph, tensor):
            for op in INSERTED:
                added = Node(f"{node.name}/mutant", op, [tensor], list(node.attributes))
                inputs = [*node.inputs[:at], added.name, *node.inputs[at + 1 :]]
                changed = (added, _copy(node, inputs=inputs))
                yield Mutant(f"{node.name}: {op} before operand {at}", changed)


def _other_constants(node: Node) -> Iterator[Mutant]:
    constant = node.constant() if node.op == "Const" else None
    if constant is None or constant.scalar is None or node.number_of_type("dtype") != 1:
        return
    for value in (constant.scalar * 0.5 + 0.25, -constant.scalar - 0.5):
        yield Mutant(f"{node.name}: {constant.scalar} to {value}", (_number(node, value),))


def _is_value(graph: Graph, tensor: str) -> bool:
    """Whether a tensor is floating-point: neither an axis nor a size."""
    node = graph.source(tensor)[0]
    while node is not None and node.op in ("Identity", "Enter", "Switch", "Merge"):
        node = graph.source(node.inputs[0])[0]
    if node is None or node.op in ("Shape", "Range", "Pack", "StridedSlice"):
        return False
    kind = node.number_of_type("dtype") or node.number_of_type("T")
    return kind == 1 and not node.op.startswith("TensorArray")


def _copy(node: Node, op: str | None = None, inputs: list[str] | None = None) -> Node:
    return Node(node.name, op or node.op, inputs or list(node.inputs), list(node.attributes))


def _number(node: Node, value: float) -> Node:
    """Return a constant with another value of the same shape."""
    number = fixed32_field(5, np.float32(value).view(np.uint32).item())
    tensor = int_field(1, 1) + bytes_field(2, b"") + number
    entry = bytes_field(1, b"value") + bytes_field(2, bytes_field(8, tensor))
    others = [one for one in node.attributes if not one.startswith(b"\x0a\x05value")]
    return Node(node.name, "Const", list(node.inputs), [*others, entry])
