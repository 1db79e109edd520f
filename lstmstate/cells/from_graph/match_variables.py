"""The cells of a graph, matched with the variables of the checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

from lstmstate.cells.from_graph.find_cells import find_graph_cells
from lstmstate.cells.from_graph.gates import is_multiplied, is_plain_product
from lstmstate.cells.from_graph.graph_cell import GraphCell
from lstmstate.cells.from_graph.loop_states import time_major
from lstmstate.cells.from_graph.recurrences import recurrences
from lstmstate.cells.from_graph.value_sources import Sources
from lstmstate.cells.variable_names import AVERAGE
from lstmstate.checkpoint.graph import VARIABLE_OPS, Graph
from lstmstate.checkpoint.graph_node import Node
from lstmstate.type_names import Protocol


class VariableFacts(Protocol):
    """The facts about a variable for detection; see `checkpoint.Variable`."""

    @property
    def name(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def full_name(self) -> str | None: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> str: ...
    @property
    def is_inexact(self) -> bool: ...
    @property
    def size(self) -> int: ...
    @property
    def nbytes(self) -> int | None: ...
    @property
    def is_slot(self) -> bool: ...


class GraphView:
    """The graph's cells, tied to the variables of the checkpoint.

    Attributes:
        cells: every cell.
        by_kernel: name of a variable → the cell with this kernel.
        nodes: name of a variable → its nodes.
        time_major: frame of a loop → whether its inputs have the axis of time first.
    """

    def __init__(self, graph: Graph, kept: Mapping[str, VariableFacts]) -> None:
        self._keys: dict[str, VariableFacts] = {}
        by_key = {variable.name: variable for variable in kept.values()}
        for key, node in graph.saved_names():
            variable = by_key.get(key) or kept.get(key[:-2] if key.endswith(":0") else key)
            made = graph.variable_behind(node)
            if variable is not None and made is not None:
                self._keys.setdefault(made.name, variable)
        for path, variable in kept.items():
            full = variable.full_name or path
            if full in graph.nodes and graph.nodes[full].op in VARIABLE_OPS:
                self._keys.setdefault(full, variable)
        self.graph = graph
        self.cells = find_graph_cells(graph)
        self.time_major = time_major(graph)
        self.by_kernel: dict[str, GraphCell] = {}
        for wired in self.cells:
            for variable in (v for shards in wired.kernels for v in self.stored(shards)):
                self.by_kernel.setdefault(variable.name, wired)
        self.nodes: dict[str, list[str]] = {}
        for name, variable in self._keys.items():
            self.nodes.setdefault(variable.name, []).append(name)

    def stored(self, nodes: Iterable[object]) -> tuple[VariableFacts, ...]:
        """Return the checkpoint's variables behind some variable nodes, each once, in order."""
        found = (self._keys.get(getattr(node, "name", "")) for node in nodes)
        return tuple(dict.fromkeys(variable for variable in found if variable is not None))

    def is_dense(self, variable: VariableFacts) -> bool:
        """Whether the graph multiplies with a variable and does not cut the product."""
        nodes = (self.graph.nodes[name] for name in self.nodes.get(variable.name, ()))
        return any(is_plain_product(self.graph, node) for node in nodes)

    @cached_property
    def sources(self) -> Sources:
        """The sources of the values of the graph."""
        unrolled = [wired for wired in self.cells if wired.frame is None]
        firsts = (value for wired in unrolled for pair in wired.firsts for value in pair if value)
        return Sources(
            self.graph,
            (name for wired in self.cells for name, _ in wired.lasts),
            (node.name for node, _ in firsts),
            (node.name for wired in unrolled for node in wired.inputs),
        )

    def unrecognised(self, known: Iterable[str]) -> tuple[str, ...]:
        """Return the recurrences that have none of some variables, and none of their averages."""
        nodes = [node for name in known for node in self.nodes.get(name, ())]
        averages = (node + AVERAGE for node in nodes)
        return recurrences(
            self.graph, [*nodes, *(node for node in averages if node in self.graph.nodes)]
        )

    def multiplies(self, stored: Iterable[VariableFacts]) -> bool:
        """Whether the graph multiplies with a variable, whole or in parts."""
        return any(
            is_multiplied(self.graph, self.graph.nodes[name])
            for variable in stored
            for name in self.nodes.get(variable.name, ())
        )

    def cell_of(self, roles: Mapping[str, tuple[str, ...]]) -> GraphCell | None:
        """Return the graph's cell that has one of these variables as its kernel."""
        named = (self.by_kernel.get(name) for stored in roles.values() for name in stored)
        return next((wired for wired in named if wired is not None), None)

    def variable(self, node: Node | None) -> VariableFacts | None:
        """Return the checkpoint's variable behind a variable node."""
        return self._keys.get(node.name) if node is not None else None

    def is_trainable(self, variable: VariableFacts) -> bool:
        """Whether the graph lists a variable among those that are trained."""
        trainable = self.graph.trainable or frozenset()
        return any(name in trainable for name, stored in self._keys.items() if stored is variable)
