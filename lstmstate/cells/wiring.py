"""The LSTM cells of a graph, found by their structure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lstmstate.cells.alike import Kind, Kinds, Reading
from lstmstate.cells.apart import sum_step
from lstmstate.cells.around import SUMMING
from lstmstate.cells.between import mark_sums
from lstmstate.cells.blocks import BLOCKS, block_step
from lstmstate.cells.gates import split_step
from lstmstate.cells.model import UNKNOWN, Option
from lstmstate.cells.origin import SPLITS
from lstmstate.cells.wired import Wired
from lstmstate.checkpoint.graph import Graph
from lstmstate.checkpoint.node import Node


def wired_cells(graph: Graph) -> list[Wired]:
    """Return the cells of a graph, the steps of an unrolled or reused one as one."""
    cells: dict[tuple[str, ...], Wired] = {}
    for step in _steps(graph):
        known = cells.get(step.key)
        if known is None:
            cells[step.key] = step
        else:
            _merge(known, step)
    mark_sums(graph, cells.values())
    return list(cells.values())


def _steps(graph: Graph) -> Iterator[Wired]:
    """Yield the steps of cells: those with one mark first, then what only its sum shows."""
    told: set[str | None] = set()
    split, summed = _Steps(graph, split_step), _Steps(graph, sum_step)
    for node in graph.of(SPLITS.keys() | BLOCKS.keys()):
        step = split.at(node) if node.op in SPLITS else block_step(graph, node)
        if step is not None and step.kernels:
            told.add(step.c_new)
            yield step
    for node in graph.of(SUMMING):
        step = None if node.name in told else summed.at(node)
        if step is not None:
            yield step


class _Steps:
    """The steps of cells that begin with one kind of mark.

    Args:
        read: returns the step of a mark, None where it is no cell's.
    """

    def __init__(self, graph: Graph, read: Callable[[Graph, Node], Wired | None]) -> None:
        self._graph = graph
        self._read = read
        self._kinds: Kinds[Wired] = Kinds(graph)

    def at(self, mark: Node) -> Wired | None:
        """Return the step of a mark: as it was read of a step like it, where there is one."""
        known = self._kinds.find(mark)
        if known is not None:
            told, places = known
            return told.elsewhere(places)
        reading = Reading(self._graph, mark)
        step = self._read(reading, mark)
        if step is not None and step.kernels and step.frame is None:
            states = {value[0].name for pair in step.firsts for value in pair if value}
            self._kinds.add(mark, Kind(reading, step.elsewhere(reading.met), states))
        return step


def _merge(known: Wired, step: Wired) -> None:
    """Add another step: what two steps tell differently is not told at all."""
    known.gate_order = known.gate_order or step.gate_order
    known.frame = known.frame or step.frame
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
    known.steps += step.steps
    known.inputs += step.inputs
    known.outputs += step.outputs
    known.lasts |= step.lasts
    known.is_mixed = known.is_mixed or step.is_mixed
