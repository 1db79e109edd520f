"""The recurrences of a graph, of any kind: loops and steps that carry a state."""

from __future__ import annotations

from collections.abc import Iterable

from lstmstate.cells.from_graph.gates import products_with
from lstmstate.cells.from_graph.graph_cell import GraphCell
from lstmstate.cells.from_graph.loop_states import is_float, next_of
from lstmstate.checkpoint import graph_walk as walk
from lstmstate.checkpoint.fused_ops import CUDNN_OPS
from lstmstate.checkpoint.graph import VARIABLE_OPS, Graph
from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.inlining import INLINED
from lstmstate.checkpoint.op_sets import ENTERS, MERGES, STACK_POPS, SWITCHES

# Arrays of steps are floating-point numbers to their loop, and no state.
_ARRAYS = ("TensorArray", "TensorList")
_READS = frozenset({"Identity", "ReadVariableOp"})
_SWITCHED = SWITCHES | {"Identity"}


def recurrences(graph: Graph, known: Iterable[str]) -> tuple[str, ...]:
    """Return the recurrences that have no known cell: loops, operations, and steps in a row.

    Args:
        known: the nodes of the variables of all known cells.
    """
    loops = _loops(graph)
    weights = [graph.nodes[name] for name in known]
    own = {node.name for node in weights}
    for name in _places(graph, weights) if loops else ():
        loops.pop(name, None)
    for name in [name for name in loops if name in graph.nodes]:
        given = walk.operands(graph, graph.nodes[name])
        if any(one.name in own for value in given for one in walk.variables(graph, value)):
            del loops[name]
    if loops or own:
        return tuple(loops)
    return tuple(node.name for node in graph.of(VARIABLE_OPS) if _is_repeated(graph, node))


def _loops(graph: Graph) -> dict[str, None]:
    """Return the loops that carry a floating-point state, and the operations that are loops."""
    found: dict[str, None] = {}
    gradients: set[str] = set()
    putting_back = {op for op in graph.ops if op.startswith(STACK_POPS)}
    # The arguments of functions are Enters.
    for node in graph.of(CUDNN_OPS | putting_back | MERGES | ENTERS):
        if node.op in CUDNN_OPS:
            found[node.name] = None
        elif node.op in putting_back:
            handle = walk.through(graph, walk.operand(graph, node, 0), _SWITCHED)
            place = _place(graph, handle, node)
            gradients |= {place} if place is not None else set()
        elif node.op in MERGES or node.name in graph.arguments:
            after = next_of(graph, node)
            made = walk.through(graph, after, _READS)
            if (
                after is not None
                and made is not None
                and not made.op.startswith(_ARRAYS)
                and is_float(graph, after)
                and not _is_kept(graph, made, node)
            ):
                found[_loop_of(graph, node)] = None
    return {name: None for name in found if name not in gradients}


def count_layers(graph: Graph, wired: GraphCell) -> int:
    """Return how many states of one cell its loop carries: a cell may be several layers."""
    if wired.frame is None:
        return 1
    firsts = (walk.through(graph, c[0], _SWITCHED) for c, _ in wired.firsts if c is not None)
    merges = {first.name: first for first in firsts if first is not None}
    return sum(_loop_of(graph, merge) == wired.frame for merge in merges.values())


def _is_kept(graph: Graph, made: Node, read: Node) -> bool:
    """Whether a step passes a value on unchanged."""
    return walk.through(graph, made, _READS | _SWITCHED) is read


def _loop_of(graph: Graph, read: Node) -> str:
    """Return the loop that carries a value: the frame of its Enter, or a While."""
    if read.name in graph.arguments:
        return graph.arguments[read.name][0]
    frames = (one.frame for one in walk.operands(graph, read) if one.op in ENTERS)
    return next((frame for frame in frames if frame), read.name)


def _place(graph: Graph, given: Node | None, node: Node) -> str | None:
    """Return the loop around a node, from its inputs."""
    if node.name.startswith(INLINED):
        prefix = node.name.partition("/")[0]
        callers = (
            caller
            for name, (caller, _) in graph.arguments.items()
            if name.partition("/")[0] == prefix
        )
        return next(callers, None)
    return given.frame if given is not None and given.op in ENTERS else None


def _places(graph: Graph, weights: Iterable[Node]) -> set[str]:
    """Return the loops that take some weights."""
    queue = list(weights)
    seen = {node.name for node in queue}
    found: set[str] = set()
    while queue:
        for edge in graph.edges(queue.pop().name, _READS | ENTERS):
            user = edge.node
            if user.name not in seen:
                seen.add(user.name)
                queue.append(user)
                if user.op in ENTERS and user.frame:
                    found.add(user.frame)
    return found


def _is_repeated(graph: Graph, weight: Node) -> bool:
    """Whether a weight is multiplied with the result of another product with it."""
    products = list(products_with(graph, weight))
    names = {node.name for node in products}
    return len(names) > 1 and any(
        before.name in names
        for product in products
        for before in walk.backward(
            graph, walk.operands(graph, product)[:1], lambda node: node.name not in names
        )
    )
