"""Walks through a graph from node to node; those of `graph.tensors` go from tensor to tensor."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from lstmstate import limits
from lstmstate.checkpoint.graph import VARIABLE_OPS, Graph
from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.op_sets import IDENTITIES, PASSING


def data_inputs(node: Node) -> list[str]:
    """Return the inputs of a node that carry data."""
    return [tensor for tensor in node.inputs if not tensor.startswith("^")]


def operand(graph: Graph, node: Node, position: int) -> Node | None:
    """Return the node that gives an input, None if there is none."""
    inputs = node.inputs
    if position or not inputs or inputs[0][:1] == "^":
        inputs = data_inputs(node)
    return graph.source(inputs[position])[0] if position < len(inputs) else None


def operands(graph: Graph, node: Node) -> list[Node]:
    """Return the nodes that give the inputs, in order."""
    graph.spend(len(node.inputs))
    return [
        before
        for tensor in node.inputs
        if tensor[:1] != "^" and (before := graph.source(tensor)[0]) is not None
    ]


def through(graph: Graph, node: Node | None, passing: frozenset[str] = PASSING) -> Node | None:
    """Go back over operations that only hand on a value, to the one that makes it."""
    for _ in range(limits.MAX_WALK):
        if node is None or node.op not in passing:
            return node
        graph.spend()
        node = operand(graph, node, 0)
    return None


def scalar(graph: Graph, node: Node | None) -> float | None:
    """Return the number that a node hands on, None if it is not constant."""
    made = through(graph, node)
    constant = made.constant() if made is not None else None
    # A constant of equal numbers acts as one of them; NaN and Inf are not options of a cell.
    if constant is None or len(set(constant.values)) != 1 or not math.isfinite(constant.values[0]):
        return None
    return constant.values[0]


def backward(
    graph: Graph, start: Iterable[Node], enter: Callable[[Node], bool], limit: int = limits.MAX_WALK
) -> Iterator[Node]:
    """Yield the nodes before `start`, nearest first; those that `enter` refuses are not passed."""
    queue = deque(start)
    seen = {node.name for node in queue}
    while queue and len(seen) <= limit:
        node = queue.popleft()
        graph.spend()
        yield node
        if enter(node):
            # A Switch also takes the condition; what makes that is another matter.
            for before in operands(graph, node)[: 1 if node.op.endswith("Switch") else None]:
                if before.name not in seen:
                    seen.add(before.name)
                    queue.append(before)


def variables(graph: Graph, tensor: Node) -> list[Node]:
    """Return the variables that a weight is made of: one, its shards in order, its norms, …

    Only what comes from variables and constants is followed, so that a walk ends by itself.
    """
    return [
        node
        for node in backward(graph, [tensor], lambda node: node.op not in VARIABLE_OPS, 200)
        if node.op in VARIABLE_OPS
    ]


def consumers(graph: Graph, node: Node, ops: frozenset[str]) -> list[Node]:
    """Return the nodes of some kinds that use an output of a node, through what only hands on."""
    found: list[Node] = []
    queue = deque([node])
    seen = {node.name}
    wanted = ops | IDENTITIES
    while queue:
        for edge in graph.edges(queue.popleft().name, wanted):
            if edge.node.op in ops:
                found.append(edge.node)
            elif edge.node.name not in seen:
                seen.add(edge.node.name)
                queue.append(edge.node)
    return found
