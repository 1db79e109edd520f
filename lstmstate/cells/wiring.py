"""The LSTM cells of a graph, found by their structure."""

from __future__ import annotations

from collections.abc import Iterator

from lstmstate.cells.blocks import BLOCKS, block_step
from lstmstate.cells.gates import split_step
from lstmstate.cells.model import UNKNOWN, Option
from lstmstate.cells.origin import SPLITS
from lstmstate.cells.wired import Wired
from lstmstate.checkpoint.graph import Graph


def wired_cells(graph: Graph) -> list[Wired]:
    """Return the cells of a graph, the steps of an unrolled or reused one as one."""
    cells: dict[tuple[str, ...], Wired] = {}
    for step in _steps(graph):
        known = cells.get(step.key)
        if known is None:
            cells[step.key] = step
        else:
            _merge(known, step)
    return list(cells.values())


def _steps(graph: Graph) -> Iterator[Wired]:
    for node in graph.nodes.values():
        if node.op in SPLITS:
            step = split_step(graph, node)
        elif node.op in BLOCKS:
            step = block_step(graph, node)
        else:
            continue
        if step is not None and step.kernels:
            yield step


def _merge(known: Wired, step: Wired) -> None:
    """Add another step: what two steps tell differently is not told at all."""
    known.gate_order = known.gate_order or step.gate_order
    for name, option in step.options.items():
        mine = known.options.get(name, UNKNOWN)
        if name == "forget_bias" and option != mine:
            # One that is fed in one place and fixed in another is not told either.
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
