"""The sources of the values of a graph: inputs, states and variables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from lstmstate.cells.from_graph.loop_states import is_float, next_of
from lstmstate.checkpoint import graph_walk as walk
from lstmstate.checkpoint.graph import VARIABLE_OPS, Graph
from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.op_sets import LOOP_RESULTS, RANDOM

ELEMENTS = ("TensorArrayRead", "TensorListGetItem")
# Of what these take only the shape matters, or nothing.
SHAPES = frozenset({"Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike"})
_MADE_OF_NOTHING = SHAPES | LOOP_RESULTS


class Sources:
    """The sources of the values of a graph: inputs, states, variables. Each value is read once.

    Args:
        made: the nodes that give a new c or m.
        states, inputs: the nodes that give the old state, and the input, of steps without a loop.

    Attributes:
        given: the sources of these by their names.
    """

    X, STATE, WEIGHT = 1, 2, 4
    _MADE = 8

    def __init__(
        self, graph: Graph, made: Iterable[str], states: Iterable[str], inputs: Iterable[str]
    ) -> None:
        self._graph = graph
        self._operands: dict[str, list[Node]] = {}
        self._known: dict[str, int] = {}
        self._noted: dict[str, int] | None = None
        self._own: set[str] = set()  # found while that is noted
        self.given: Mapping[str, int] = {
            **dict.fromkeys(inputs, self.X),
            **dict.fromkeys(states, self.STATE),
            **dict.fromkeys(made, self.STATE | self._MADE),
        }

    @contextmanager
    def note_reads(self, graph: Graph) -> Iterator[dict[str, int]]:
        """Read from another view of the graph, and note all earlier results that are asked for."""
        whole, noted = self._graph, dict[str, int]()
        self._graph, self._noted, self._own, self._operands = graph, noted, set(), {}
        yield noted
        self._graph, self._noted = whole, None

    def is_made(self, node: Node) -> bool:
        """Whether a node is a new c or m."""
        return self.given.get(node.name, 0) & self._MADE != 0

    def of(self, node: Node) -> int:
        """Return the sources of a value, as a sum of X, STATE and WEIGHT."""
        known = self._known
        stack: list[tuple[Node, bool]] = [(node, False)]
        while stack:
            at, is_done = stack.pop()
            if is_done:
                for before in self.operands(at):
                    known[at.name] |= known[before.name]
            elif at.name not in known:
                leaf = self._leaf(at)
                known[at.name] = leaf or 0
                if self._noted is not None:
                    self._own.add(at.name)
                if leaf is None:
                    stack.append((at, True))
                    stack += [(before, False) for before in self.operands(at)]
            elif self._noted is not None and at.name not in self._own:
                self._noted[at.name] = known[at.name]
        return known[node.name]

    def operands(self, node: Node) -> list[Node]:
        """Return the nodes that give the inputs, in order."""
        given = self._operands.get(node.name)
        if given is None:
            given = self._operands[node.name] = walk.operands(self._graph, node)
        return given

    def _leaf(self, node: Node) -> int | None:
        """Return the source that a node is itself, None if it has operands to go on to."""
        given = self.given.get(node.name)
        if given is not None:
            return given & ~self._MADE
        if node.op in VARIABLE_OPS:
            return self.WEIGHT
        if node.op.startswith(ELEMENTS):
            return self.X
        if node.op in _MADE_OF_NOTHING or node.op.startswith(RANDOM):
            return 0
        after = next_of(self._graph, node)
        return None if after is None else self.STATE if is_float(self._graph, after) else 0
