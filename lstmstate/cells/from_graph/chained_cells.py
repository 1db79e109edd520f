"""Cells of a graph that take the output of another cell, and nothing else.

The way back from the input of a cell to its source goes over operations that transpose sequences,
store them step by step and read them again.
"""

from __future__ import annotations

from collections.abc import Mapping

from lstmstate.cells.cell import Cell
from lstmstate.cells.from_graph.activations import Value, operand
from lstmstate.cells.from_graph.gates import WITH_CUTS, products_with
from lstmstate.cells.from_graph.graph_cell import GraphCell
from lstmstate.cells.from_graph.match_variables import GraphView
from lstmstate.checkpoint import graph_walk as walk
from lstmstate.checkpoint.graph import Graph
from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.op_sets import CALLS, MERGES, PASSING, SELECTS, WHILES

# The inputs of an operation that are the sequence, or the step of it, in its output.
_GIVING = {
    **dict.fromkeys(PASSING | {"Reshape", "Squeeze", "ExpandDims", "Cast"}, (0,)),
    **dict.fromkeys(("Transpose", "Unpack", "TensorListFromTensor", "TensorListStack"), (0,)),
    **dict.fromkeys(MERGES, (0, 1)),
    **dict.fromkeys(SELECTS, (1, 2)),
    **dict.fromkeys(("TensorArrayReadV3", "TensorArrayReadV2", "TensorArrayRead"), (2,)),
    **dict.fromkeys(("TensorArrayScatterV3", "TensorArrayScatterV2", "TensorArrayScatter"), (2,)),
    **dict.fromkeys(("TensorArrayGatherV3", "TensorArrayGatherV2", "TensorArrayGather"), (2,)),
    **dict.fromkeys(("TensorArrayWriteV3", "TensorArrayWriteV2", "TensorArrayWrite"), (2,)),
    **dict.fromkeys(("TensorListSetItem",), (2,)),
    **dict.fromkeys(("TensorListGetItem",), (0,)),
}
# Arrays before their first step, and outputs of sequences that ended.
_EMPTY = frozenset(
    """
    TensorArrayV3 TensorArrayV2 TensorArray TensorListReserve EmptyTensorList Fill Const ZerosLike
    """.split()
)
_NEAR = 100  # nodes between two layers: a loop has some 20


def feeders(view: GraphView, cells: Mapping[str, Cell]) -> dict[str, str]:
    """Return the cells that only take the output of another cell, with the name of that cell."""
    wired = {name: view.cell_of(cell.variables) for name, cell in cells.items()}
    makers = {
        node: name
        for name, one in wired.items()
        if one is not None
        for (node, _), half in one.lasts.items()
        if half == "m"
    }
    found: dict[str, str] = {}
    for name, one in wired.items():
        inputs = [] if one is None else _inputs(view, cells[name], one)
        made = {_maker(view.graph, node, makers) for node in inputs}
        if len(made) == 1 and (maker := made.pop()) is not None and maker != name:
            found[name] = maker
    return found


def _inputs(view: GraphView, cell: Cell, wired: GraphCell) -> list[Node]:
    """Return the nodes of the input of a cell, in its loop if it has one."""
    graph = view.graph
    given = list(wired.inputs)
    if not given and "recurrent_kernel" in cell.variables:
        kernels = (node for name in cell.variables["kernel"] for node in view.nodes.get(name, ()))
        for kernel in kernels:
            for product in products_with(graph, graph.nodes[kernel], WITH_CUTS):
                given += walk.operands(graph, product)[:1]
    if not given and wired.block:
        blocks = (graph.nodes[name] for name, _ in wired.lasts)
        given = [node for block in blocks for node in walk.operands(graph, block)[:1]]
    # Keras calls a cell once before its loop, to see its output.
    return given if wired.frame is None else [x for x in given if view.sources.of(x)]


def _maker(graph: Graph, x: Node, makers: Mapping[str, str]) -> str | None:
    """Return the cell that makes an input; None if there is none, or another source too."""
    found: set[str | None] = set()
    queue: list[Value] = [(x, 0)]
    seen = set(queue)
    while queue and len(seen) < _NEAR:
        node, port = queue.pop()
        graph.spend()
        if node.name in makers:
            found.add(makers[node.name])
            continue
        before = _before(graph, node, port)
        if before is None:
            found.add(None)
        for value in before or ():
            if value not in seen:
                seen.add(value)
                queue.append(value)
    return found.pop() if len(found) == 1 and not queue else None


def _before(graph: Graph, node: Node, port: int) -> list[Value] | None:
    """Return the values that a value is passed on from; None if an operation computes it."""
    if node.op in CALLS | WHILES:
        returned = graph.returns.get(node.name, [])
        made = [graph.source(one[port])[0] for one in returned[:1] if port < len(one)]
        return [(one, 0) for one in made if one is not None] or None
    if node.op in _EMPTY:
        return []
    if node.op not in _GIVING:
        return None
    given = (operand(graph, node, at) for at in _GIVING[node.op])
    return [value for value in given if value is not None]
