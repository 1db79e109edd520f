"""The operations in a cell's steps, or in its loop, that its recognition does not explain."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from lstmstate.cells.cell import Cell, Unexplained
from lstmstate.cells.from_graph.gates import products_with
from lstmstate.cells.from_graph.graph_cell import FEW, GraphCell
from lstmstate.cells.from_graph.loop_states import SPLITS, next_of
from lstmstate.cells.from_graph.options import PRODUCTS
from lstmstate.cells.from_graph.step_walk import (
    CUTS,
    FAR,
    PASSES_VALUES,
    StepWalk,
    number_in,
    plain_name,
)
from lstmstate.cells.from_graph.value_sources import ELEMENTS, Sources
from lstmstate.cells.shapes import PEEPHOLES
from lstmstate.checkpoint import graph_walk as walk
from lstmstate.checkpoint.graph import Graph
from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.op_sets import ADDING, JOINING, SELECTS
from lstmstate.named_tuple import NamedTuple

_GRID = "Grid"  # in a family: its steps go through more than one dimension
# Operations of a plain cell and its loop, without clips, other functions and cuts.
_PLAIN = (
    PASSES_VALUES
    | ADDING
    | JOINING
    | PRODUCTS
    | SPLITS.keys()
    | SELECTS
    | {"Sigmoid", "Tanh", "Mul", "TensorArrayReadV3", "TensorArrayReadV2", "TensorArrayRead"}
    | {"TensorListGetItem"}
)


class Explanation(NamedTuple):
    """The operations in a cell's steps that its family does not have there.

    Attributes:
        unexplained: the operations, and the options that each of them touches.
        unused: the roles of peepholes that the steps do not use.
    """

    unexplained: dict[Unexplained, tuple[str, ...]]
    unused: tuple[str, ...]


def explain(
    graph: Graph,
    sources: Sources,
    cell: Cell,
    wired: GraphCell,
    roles: Callable[[Node], str | None],
) -> Explanation:
    """Walk through the steps of a cell.

    Args:
        cell: with the options that were read.
        roles: returns the role of a variable's node in the cell; "" for one that was not saved,
            None for one that the cell does not have.
    """
    if _GRID in cell.family:
        return Explanation({}, ())
    steps = _choose_walk(wired)(graph, sources, cell, wired, roles)
    for step in wired.steps:
        # Keras calls a cell once before its loop, to see its output.
        if wired.frame is None or sources.of(step.c_old) & Sources.STATE:
            steps.through(step)
    if wired.block:
        steps.block()
    found = {Unexplained(*words, node): options for words, (node, options) in steps.found.items()}
    peepholes = () if wired.block else (role for role in PEEPHOLES if role in cell.variables)
    return Explanation(found, tuple(role for role in peepholes if role not in steps.peepholes))


def _choose_walk(wired: GraphCell) -> type[StepWalk]:
    if len(wired.steps) < FEW:
        return StepWalk
    from lstmstate.cells.from_graph.step_walk_once import StepWalkOnce

    return StepWalkOnce


def find_unusual_operations(
    graph: Graph, sources: Sources, kernels: Iterable[Node]
) -> tuple[Unexplained, ...]:
    """Return the operations that no plain cell has, in the loop that multiplies with some weights.

    This is for a cell whose step has a form that is not read.
    """
    reads = {
        read.name: after
        for kernel in kernels
        for product in products_with(graph, kernel)
        for read in walk.backward(
            graph,
            walk.operands(graph, product)[:1],
            lambda node: node.op in PASSES_VALUES | JOINING | CUTS and next_of(graph, node) is None,
            FAR,
        )
        if (after := next_of(graph, read)) is not None and sources.of(read) & Sources.STATE
    }
    queue = deque(reads.values())
    found: dict[tuple[str, str | None], Unexplained] = {}
    seen: set[str] = set()
    while queue and len(seen) < 4 * FAR:
        node = queue.popleft()
        made = sources.of(node)
        if node.name in seen or not made & ~Sources.WEIGHT or sources.is_made(node):
            continue
        seen.add(node.name)
        after = next_of(graph, node)
        if after is not None:
            queue.append(after)
            continue
        given = walk.operands(graph, node)
        by = number_in(graph, node, given)
        if node.op not in _PLAIN or (by is not None and node.op == "Mul"):
            found.setdefault(
                (node.op, by), Unexplained(node.op, by, "its step", plain_name(node.name))
            )
        if not node.op.startswith(ELEMENTS):
            queue.extend(given)
    return tuple(found.values())
