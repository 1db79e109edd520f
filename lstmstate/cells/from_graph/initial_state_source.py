"""The first state: the variable, constant or placeholder that a graph takes it from.

The way back from the c or m of a step goes over operations that pass a value on, take a part of it,
spread one row over the batch, or set rows to zero when an episode begins.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Container, Iterator

from lstmstate.cells.activations import ACTIVATION_OPS
from lstmstate.cells.cell import UNKNOWN, Option
from lstmstate.cells.from_graph.activations import Value, operand, skip_identity
from lstmstate.cells.from_graph.axes import SPREADING, TAKING, TensorPart, numbers, part
from lstmstate.cells.from_graph.loop_states import FED, is_column_cut
from lstmstate.checkpoint import graph_walk as walk
from lstmstate.checkpoint.graph import VARIABLE_OPS, Graph
from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.op_sets import (
    BRANCHES,
    CALLS,
    CLIPS,
    JOINING,
    LOOP_RESULTS,
    MERGES,
    NEXTS,
    PASSING,
    SELECTS,
    SUMMING,
    WHILES,
)
from lstmstate.named_tuple import NamedTuple

_ZEROS = frozenset({"Fill", "Const", "ZerosLike"})
_RESHAPING = frozenset({"ExpandDims", "Reshape", "Cast"})
_SOURCES = VARIABLE_OPS | (FED - PASSING) | _ZEROS
_LEARNT = VARIABLE_OPS | frozenset(ACTIVATION_OPS) | {"MatMul", "Conv2D", "Conv3D"}
_FAR = 200  # values on the way back to a first state; published graphs have below 20
_NEAR = 100  # nodes that a mask is made of


class StateSource(NamedTuple):
    """The source of a state before the first step.

    Attributes:
        made: the variable, constant or placeholder; or a node that was asked for.
        path: the operations that take the state out of it, from there on.
    """

    made: Node
    path: tuple[Value, ...]


def find_source(graph: Graph, value: Value | None) -> StateSource | None:
    """Return the source of a state; None if the graph shows none, or more than one.

    If a condition chooses between a variable and zeros, the source is the variable.
    """
    found = list(find_sources(graph, value))
    for kinds in (VARIABLE_OPS, FED, _ZEROS):
        of_kind = [one for one in found if one.made.op in kinds]
        if of_kind:
            one_only = kinds is _ZEROS or len({one.made.name for one in of_kind}) == 1
            return of_kind[0] if one_only else None
    return None


def find_sources(
    graph: Graph, value: Value | None, asked: Container[str] = (), *, loops: bool = False
) -> Iterator[StateSource]:
    """Yield all sources of a state.

    Args:
        asked: names of nodes to be yielded too if they are on the way.
        loops: whether to go on before another loop, if the state is its result.
    """
    queue: deque[tuple[Value, tuple[Value, ...]]] = deque([(value, ())] if value else [])
    seen: set[tuple[str, int]] = set()
    while queue and len(seen) < _FAR:
        (node, port), path = queue.popleft()
        graph.spend()
        if (node.name, port) in seen:
            continue
        seen.add((node.name, port))
        if node.name in asked or node.op in _SOURCES:
            yield StateSource(node, path)
        if node.op in TAKING:
            path = ((node, port), *path)
        if node.op not in _SOURCES and (loops or node.op not in LOOP_RESULTS):
            queue.extend((before, path) for before in _before(graph, node, port))


def _before(graph: Graph, node: Node, port: int) -> list[Value]:
    """Return the values that a value may be taken from."""
    inputs = [operand(graph, node, at) for at in range(len(walk.data_inputs(node)))]
    given: list[Value | None] = []
    if node.op in MERGES:
        # A loop begins with what enters it; a condition merges two branches.
        is_loop = any(one and one[0].op in NEXTS for one in inputs)
        given = inputs[:1] if is_loop else inputs
    elif node.op in ("IdentityN", *WHILES):
        given = inputs[port : port + 1]
    elif node.op in PASSING or node.op == "Cast":
        given = inputs[:1]
    elif node.op in CALLS | BRANCHES:
        results = [some[port] for some in graph.returns.get(node.name, ()) if port < len(some)]
        given = [(made, at) for made, at in map(graph.source, results) if made is not None]
    elif node.op in SELECTS:
        given = inputs[1:3]
    elif node.op == "Mul":
        given = [one for one, by in _both_ways(inputs) if is_mask(graph, by[0])]
    elif node.op in SPREADING:
        given = [one for one, by in _both_ways(inputs) if _is_zero(graph, by[0])]
    elif node.op == "MatMul":
        given = inputs[1:2] if inputs[0] and _are_ones(graph, node, inputs[0][0]) else []
    elif node.op in TAKING:
        at = TAKING[node.op].value
        given = inputs[at : at + 1]
    return [one for one in given if one is not None]


def _both_ways(inputs: list[Value | None]) -> list[tuple[Value, Value]]:
    known = [one for one in inputs if one is not None]
    return [(known[0], known[1]), (known[1], known[0])] if len(known) == 2 else []


def is_mask(graph: Graph, node: Node) -> bool:
    """Whether a factor is made of placeholders and constants alone: no part of it was learnt."""
    near = list(walk.backward(graph, [node], lambda node: node.op not in _LEARNT | _SOURCES, _NEAR))
    return len(near) < _NEAR and not any(node.op in _LEARNT for node in near)


def _is_zero(graph: Graph, node: Node) -> bool:
    made = walk.through(graph, node)
    if made is not None and made.op == "Fill":
        made = walk.operand(graph, made, 1)
    return (made is not None and made.op == "ZerosLike") or walk.scalar(graph, made) == 0


def _are_ones(graph: Graph, product: Node, factor: Node) -> bool:
    """Whether a product only repeats the rows of its second factor."""
    made = walk.through(graph, factor)
    if made is not None and made.op == "Fill":
        made = walk.operand(graph, made, 1)
    turned = product.number("transpose_a") or product.number("transpose_b")
    return not turned and walk.scalar(graph, made) == 1


# ---- what follows from a source


def part_of(
    graph: Graph, begun: StateSource, shape: tuple[int | None, ...] | None
) -> TensorPart | None:
    """Return the part of its source that a state is; None if unknown.

    Args:
        shape: that of a variable, as it is stored; else that of the node.
    """
    shape = shape if shape is not None else _shape(graph, begun.made)
    return None if shape is None else part(graph, shape, begun.path)


def _shape(graph: Graph, node: Node) -> tuple[int | None, ...] | None:
    if node.op == "Const":
        return node.constant_shape()
    if node.op == "Fill":
        sizes = numbers(graph, walk.operand(graph, node, 0))
        return None if sizes is None else tuple(sizes)
    return node.shape()


def batch_size(graph: Graph, c_old: Value | None) -> Option:
    """Return the static batch size; value None if it is dynamic."""
    begun = find_source(graph, c_old) or next(find_sources(graph, c_old, loops=True), None)
    if begun is None:
        return UNKNOWN
    left = part_of(graph, begun, None)
    if left is not None and len(left.axes) == 2:
        return Option(left.axes[0].size, "graph")
    if left is None and begun.made.op == "Fill":
        return _first_size(graph, walk.operand(graph, begun.made, 0))
    return UNKNOWN


def _first_size(graph: Graph, dims: Node | None) -> Option:
    """Return the first number of a shape that a graph joins."""
    dims = walk.through(graph, dims)
    while dims is not None and dims.op in JOINING | _RESHAPING:
        parts = walk.operands(graph, dims)
        # Concat takes the axis first, ConcatV2 last, Pack as an attribute.
        at = 1 if dims.op == "Concat" else 0
        dims = walk.through(graph, parts[at]) if at < len(parts) else None
    constant = dims.constant() if dims is not None else None
    if constant is not None and math.isfinite(constant.values[0]):
        return Option(int(constant.values[0]), "graph")
    return Option(None, "graph") if dims is not None else UNKNOWN


def state_is_tuple(graph: Graph, c_old: Value) -> Option:
    """Return whether c is a tensor of its own, and not columns of a wider one.

    Behind a mask or a choice the source of c has to be known.
    """
    queue, seen, ends = [skip_identity(graph, c_old)], set[str](), set[str]()
    is_behind = False
    while queue and len(seen) < _NEAR:
        node, port = queue.pop()
        if node.name in seen:
            continue
        seen.add(node.name)
        graph.spend()
        if is_column_cut(graph, node):
            return Option(False, "graph")
        if node.op in _CHOOSING:
            is_behind = True
            queue += [skip_identity(graph, one) for one in _before(graph, node, port)]
        else:
            ends.add(node.op)
    return UNKNOWN if is_behind and not ends & _KNOWN_ENDS else Option(True, "graph")


_CHOOSING = SPREADING - SUMMING
# A sum, clipped or not, is the new c of the step before.
_KNOWN_ENDS = (_SOURCES | PASSING | frozenset(TAKING) | CLIPS) - _CHOOSING - {"MatMul"}
