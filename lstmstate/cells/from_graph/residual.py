"""Residual connections, other sums between cells, and zoneout.

A ResidualWrapper adds the input of a cell to its output, an OutputProjectionWrapper a bias to a
product of it. Neither shows in the names of the cells.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from lstmstate.cells.from_graph.graph_cell import GraphCell
from lstmstate.checkpoint import graph_walk as walk
from lstmstate.checkpoint.graph import Graph
from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.op_sets import ADDING, PASSING

_SUMS = ADDING | {"AddN"}
# Operations between a cell's m and its users: dropout, projections, clips and casts.
_PASSES_OUTPUTS = PASSING | frozenset(
    """
    Mul RealDiv Div Select SelectV2 MatMul Minimum Maximum ClipByValue Cast Reshape Transpose
    """.split()
)
_MIXING = frozenset({"Mul", "Sub"})
_FAR = 80  # nodes: dropout and a projection have some 20


def mark_sums(graph: Graph, cells: Iterable[GraphCell]) -> None:
    """Mark each cell that has a sum in its input, or its input added to its output."""
    cells = list(cells)
    outputs = {name for cell in cells for name in cell.outputs}
    for cell in cells:
        cell.takes_sum = any(_is_sum(graph, x, outputs) for x in cell.inputs)
        cell.is_residual = _adds_input(graph, cell)


def _adds_input(graph: Graph, cell: GraphCell) -> bool:
    """Whether a cell's input is added to its output, at any of its steps.

    Only the nodes around the cells are read here. `recurrence.unrolled_cells` looks for the sum of
    every step of an unrolled cell again: its tensors are the outputs to fetch.
    """
    taken = {walk.through(graph, x) for x in cell.inputs}
    sums = dict.fromkeys(  # one of gradients takes something of every step
        user
        for name in dict.fromkeys(cell.outputs)
        for user in walk.consumers(graph, graph.nodes[name], _SUMS)
    )
    return any(
        walk.through(graph, other) in taken for user in sums for other in walk.operands(graph, user)
    )


def is_mixed(graph: Graph, c_new: Node, c_old: Node) -> bool:
    """Whether a new c is mixed with the old one, as zoneout does: (1 - z) * c' + z * c.

    It is written so, or as z * (c' - c) + c.
    """
    old = walk.through(graph, c_old)
    for user in walk.consumers(graph, c_new, _MIXING):
        other = [node for node in walk.operands(graph, user) if node is not c_new]
        if user.op == "Sub" and any(walk.through(graph, node) is old for node in other):
            return True
        if user.op == "Mul" and any(walk.scalar(graph, node) is not None for node in other):
            for mixed in walk.consumers(graph, user, _SUMS):
                shares = [node for node in walk.operands(graph, mixed) if node is not user]
                if any(
                    walk.through(graph, factor) is old
                    for share in shares
                    if share.op == "Mul"
                    for factor in walk.operands(graph, share)
                ):
                    return True
    return False


def _is_sum(graph: Graph, x: Node, outputs: set[str]) -> bool:
    """Whether there is a sum between the input of a cell and the output of another."""
    queue = deque([(x, False)])
    seen: set[tuple[str, bool]] = set()
    while queue and len(seen) < _FAR:
        node, summed = queue.popleft()
        if (node.name, summed) in seen:
            continue
        seen.add((node.name, summed))
        graph.spend()
        if node.name in outputs:
            if summed:
                return True
        elif node.op in _SUMS | _PASSES_OUTPUTS:
            before = walk.operands(graph, node)[: 1 if node.op.endswith("Switch") else None]
            queue.extend((each, summed or node.op in _SUMS) for each in before)
    return False
