"""Recognition of activations in a graph: single operations, and patterns of several.

Keras wrote some of its functions out in small operations: see `cells.activations`.
"""

from __future__ import annotations

import math

from lstmstate import limits
from lstmstate.cells.activations import ACTIVATION_OPS, LEAK, ROWS, Argument
from lstmstate.checkpoint import graph_walk as walk
from lstmstate.checkpoint.graph import Graph
from lstmstate.checkpoint.graph_node import Node
from lstmstate.named_tuple import NamedTuple

Value = tuple[Node, int]  # a node, and which of its outputs

_PASSES_OPERANDS = frozenset({"Identity", "Cast", "StopGradient"})


class Applied(NamedTuple):
    """An activation, and the value that it is applied to.

    Attributes:
        function: its name; None for a function without a row in `cells.activations`.
        inner: the value before it.
    """

    function: str | None
    inner: Value


# Commutative operations: arguments of a pattern may come in any order.
_COMMUTING = frozenset({"Mul", "Add", "AddV2", "Maximum", "Minimum"})
_PATTERNS = tuple((row.name, pattern) for row in ROWS for pattern in row.patterns)


def find_activation(graph: Graph, value: Value) -> Applied | None:
    """Return the activation that made a value, None if none did."""
    node, _ = skip_identity(graph, value)
    if node.op in ACTIVATION_OPS:
        inner = operand(graph, node, 0)
        return None if inner is None else Applied(_name(node), inner)
    for function, pattern in _PATTERNS:
        if node.op in pattern.ops:
            values: list[Value] = []
            if _fits(graph, (node, 0), pattern, values):
                same = {(inner.name, port) for inner, port in values}
                return Applied(function, values[0]) if len(same) == 1 else None
    return None


def operand(graph: Graph, node: Node, position: int) -> Value | None:
    """Return an input of a node, as a node and its output; None if there is none."""
    inputs = walk.data_inputs(node)
    given, port = graph.source(inputs[position]) if position < len(inputs) else (None, 0)
    return None if given is None else (given, port)


def input_values(graph: Graph, node: Node) -> list[Value]:
    """Return the inputs of a node, as nodes and their outputs."""
    found = (operand(graph, node, at) for at in range(len(walk.data_inputs(node))))
    return [value for value in found if value is not None]


def skip_identity(graph: Graph, value: Value) -> Value:
    """Go back over operations that only pass a value on, within a step: never out of a loop."""
    for _ in range(limits.MAX_WALK):
        before = operand(graph, value[0], 0) if value[0].op in _PASSES_OPERANDS else None
        if before is None:
            break
        graph.spend()
        value = before
    return value


def _name(node: Node) -> str | None:
    """Return the name of an operation's activation; LeakyRelu of another slope has none."""
    slope = node.real("alpha") if node.op == "LeakyRelu" else None
    return ACTIVATION_OPS[node.op] if slope in (None, LEAK) else None


def _fits(graph: Graph, value: Value, pattern: Argument, values: list[Value]) -> bool:
    """Whether a value matches a pattern; add the nodes in the place of its value to `values`."""
    graph.spend()
    if isinstance(pattern, float):
        number = walk.scalar(graph, value[0])
        # Half precision keeps three digits of a constant.
        return number is not None and math.isclose(number, pattern, rel_tol=1e-3)
    value = skip_identity(graph, value)
    if pattern is None:
        values.append(value)
        return True
    if value[0].op not in pattern.ops:
        return False
    operands = [operand(graph, value[0], at) for at in range(len(pattern.arguments))]
    orders = (operands, operands[::-1]) if value[0].op in _COMMUTING else (operands,)
    for order in orders:
        known = len(values)
        if all(
            given is not None and _fits(graph, given, argument, values)
            for given, argument in zip(order, pattern.arguments, strict=True)
        ):
            return True
        del values[known:]
    return False
