"""The LSTM cells of a graph, found by their structure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sized
from functools import partial

from lstmstate.cells.cell import UNKNOWN, Option
from lstmstate.cells.from_graph.fused_cells import read_block_step
from lstmstate.cells.from_graph.gates import read_split_step
from lstmstate.cells.from_graph.graph_cell import FEW, GraphCell
from lstmstate.cells.from_graph.loop_states import SPLITS
from lstmstate.cells.from_graph.residual import mark_sums
from lstmstate.cells.from_graph.separate_gates import read_sum_step
from lstmstate.checkpoint.fused_ops import BLOCK_OPS
from lstmstate.checkpoint.graph import Graph
from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.op_sets import SUMMING


def find_graph_cells(graph: Graph) -> list[GraphCell]:
    """Return the cells of a graph, the steps of an unrolled or reused one as one."""
    cells: dict[tuple[str, ...], GraphCell] = {}
    for step in _find_steps(graph):
        known = cells.get(step.key)
        if known is None:
            cells[step.key] = step
        else:
            _merge(known, step)
    mark_sums(graph, cells.values())
    return list(cells.values())


def _find_steps(graph: Graph) -> Iterator[GraphCell]:
    """Yield the steps of cells: those with a mark first, then those that only a sum shows."""
    known: set[str | None] = set()
    marks, sums = graph.of(SPLITS.keys() | BLOCK_OPS.keys()), graph.of(SUMMING)
    split, summed = (
        _make_reader(graph, read_split_step, marks),
        _make_reader(graph, read_sum_step, sums),
    )
    for node in marks:
        step = split(node) if node.op in SPLITS else read_block_step(graph, node)
        if step is not None and step.kernels:
            known.add(step.c_new)
            yield step
    for node in sums:
        step = None if node.name in known else summed(node)
        if step is not None:
            yield step


def _make_reader(
    graph: Graph, read: Callable[[Graph, Node], GraphCell | None], marks: Sized
) -> Callable[[Node], GraphCell | None]:
    """Return a reader of steps by their marks; of many marks those that are alike are read once."""
    if len(marks) < FEW:
        return partial(read, graph)
    from lstmstate.cells.from_graph.alike_steps import Steps

    return Steps(graph, read).at


def _merge(known: GraphCell, step: GraphCell) -> None:
    """Add another step; an option that differs between two steps becomes unknown."""
    known.gate_order = known.gate_order or step.gate_order
    known.frame = known.frame or step.frame
    for name, option in step.options.items():
        mine = known.options.get(name, UNKNOWN)
        if name == "forget_bias" and option != mine:
            # One that is fed in one place and fixed in another is unknown, too.
            known.options[name] = UNKNOWN
            known.differing.add(name)
            continue
        if name in known.differing:
            continue
        if mine.source != "graph":
            known.options[name] = option
        elif option.source == "graph" and option.value != mine.value:
            known.options[name] = Option(None, "graph")
            known.differing.add(name)
    known.firsts += step.firsts
    known.steps += step.steps
    known.inputs += step.inputs
    known.outputs += step.outputs
    known.lasts |= step.lasts
    known.is_mixed = known.is_mixed or step.is_mixed
