"""The explanation of a cell's steps: the operations that its family does not have."""

from __future__ import annotations

from collections.abc import Callable

from lstmstate.cells.cell import Cell, Unexplained
from lstmstate.cells.from_graph.graph_cell import FEW, GraphCell
from lstmstate.cells.from_graph.step_walk import Walk
from lstmstate.cells.from_graph.value_sources import Sources
from lstmstate.cells.shapes import PEEPHOLES
from lstmstate.checkpoint.graph import Graph
from lstmstate.checkpoint.graph_node import Node
from lstmstate.named_tuple import NamedTuple

_GRID = "Grid"  # in a family: its steps go through more than one dimension


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
    walk = _choose_walk(wired)(graph, sources, cell, wired, roles)
    for step in wired.steps:
        # Keras calls a cell once before its loop, to see its output.
        if wired.frame is None or sources.of(step.c_old) & Sources.STATE:
            walk.through(step)
    if wired.block:
        walk.block()
    found = {Unexplained(*words, node): options for words, (node, options) in walk.found.items()}
    peepholes = () if wired.block else (role for role in PEEPHOLES if role in cell.variables)
    return Explanation(found, tuple(role for role in peepholes if role not in walk.peepholes))


def _choose_walk(wired: GraphCell) -> type[Walk]:
    if len(wired.steps) < FEW:
        return Walk
    from lstmstate.cells.from_graph.step_walk_once import WalkOnce

    return WalkOnce
