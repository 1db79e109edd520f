"""Places of a graph that are alike, so that only one of them has to be read.

Without a loop, a graph has the operations of a cell once for each step. While one step is read,
the nodes that are met, and those whose uses are asked for, are recorded. Another place with the
same nodes, to the last attribute that was read, would be read as the first one was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Generic, TypeVar

from lstmstate.cells.from_graph.graph_cell import GraphCell
from lstmstate.checkpoint import graph_walk as walk
from lstmstate.checkpoint.graph import VARIABLE_OPS, Edge, Graph, split_port
from lstmstate.checkpoint.graph_node import Node
from lstmstate.named_tuple import NamedTuple

# Operations that cut a sequence into its elements: each step has another one.
_CUTTING = frozenset({"Unpack", "Split"})
_NOTHING = Node("", "", [])  # in the place of a missing node
_MOST = 64  # kinds that begin alike: a stack has some for each of its cells
_PATIENCE = 4000  # comparisons in vain before one gives up, and
_GAIN = 50  # as many more for each that was not

Result = TypeVar("Result")
Places = Mapping[str, Node]  # the nodes of a place by the names of those of the first of its kind


class Reading(Graph):
    """A graph that records all reads, from one node on.

    Attributes:
        met: the nodes by name, in the order of the reads.
        asked: the nodes whose users were asked for, and the kinds of these users.
    """

    __slots__ = ("asked", "met")

    def __init__(self, graph: Graph, start: Node) -> None:
        self.__dict__ = graph.__dict__  # the same nodes and uses, and the same budget
        self.met = {start.name: start}
        self.asked: dict[str, frozenset[str]] = {}

    def source(self, tensor: str) -> tuple[Node | None, int]:
        """Return the source of a tensor; see `Graph.source`."""
        node, port = super().source(tensor)
        if node is not None:
            self.met.setdefault(node.name, node)
        return node, port

    def edges(self, name: str, ops: frozenset[str]) -> list[Edge]:
        """Return uses of a node's outputs; see `Graph.edges`."""
        edges = super().edges(name, ops)
        self.asked[name] = self.asked.get(name, ops) | ops
        for edge in edges:
            self.met.setdefault(edge.node.name, edge.node)
        return edges


class _Check(NamedTuple):
    """The requirements for a node of a place.

    Attributes:
        node: the one of the first place.
        is_alone: whether all places share the node: a variable.
        inputs: for each that was met its position, the number of its node, the output of that
            node, and whether it is an element of a sequence.
        asked: the kinds of users that were asked for.
        users: the number of each of these, and as which input it takes one.
    """

    node: Node
    is_alone: bool
    inputs: list[tuple[int, int, int, bool]]
    asked: frozenset[str]
    users: list[tuple[int, int]]


class StepKind(Generic[Result]):
    """The requirements for places that would be read as one place was.

    Args:
        reading: of that place, from its first node on.
        result: the result of the reading.
        whole: the names of nodes that cut no sequence into its elements.
    """

    def __init__(self, reading: Reading, result: Result, whole: Collection[str] = ()) -> None:
        self.result = result
        self._met = reading.met
        self._asked = reading.asked
        self._whole = {*whole, *reading.asked}
        self._checks: list[_Check] = []

    def at(self, graph: Graph, start: Node) -> Places | None:
        """Return the nodes of a place that begins with one, None if it is not of this kind."""
        self._checks = self._checks or self._all_checks(graph)
        found: list[Node | None] = [None] * len(self._checks) + [_NOTHING]
        found[0] = start
        elements: dict[tuple[int, int], int] = {}
        nodes, uses = graph.nodes, graph.uses
        for node, check in zip(found, self._checks, strict=False):  # those before give each
            model, is_alone, inputs, asked, users = check
            if node is not model and (node is None or is_alone or not model.is_like(node)):
                return None
            for position, number, port, is_element in inputs:
                tensor = node.inputs[position]
                name, own = split_port(tensor) if ":" in tensor else (tensor, 0)
                before = nodes.get(name, _NOTHING)
                if own != (elements.setdefault((number, port), own) if is_element else port):
                    return None
                if (found[number] or before) is not before:
                    return None
                found[number] = before
            if asked:
                every = uses.get(node.name, ())
                graph.spend(len(every))
                theirs = [use for use in every if use[0].op in asked]
                if [at for _, at in theirs] != [at for _, at in users]:
                    return None
                for (user, _), (number, _) in zip(theirs, users, strict=True):
                    if (found[number] or user) is not user:
                        return None
                    found[number] = user
        places = {name: node for name, node in zip(self._met, found, strict=False) if node}
        taken = {(number, own) for (number, _), own in elements.items()}
        # Several nodes, or several elements, may be one here.
        is_apart = len({*found}) == len(found) and len(taken) == len(elements)
        return places if is_apart and len(places) == len(self._met) else None

    def _all_checks(self, graph: Graph) -> list[_Check]:
        """Return the requirements for each node of a place."""
        numbers = {name: number for number, name in enumerate(self._met)}
        found = []
        for node in self._met.values():
            inputs = []
            for position, tensor in enumerate(node.inputs):
                before, port = graph.source(tensor)
                if before is None:  # nothing but control
                    inputs.append((position, -1, 0 if tensor[:1] == "^" else -1, False))
                elif before.name in numbers:
                    is_element = before.op in _CUTTING and before.name not in self._whole
                    inputs.append((position, numbers[before.name], port, is_element))
            asked = self._asked.get(node.name, frozenset())
            uses = graph.uses.get(node.name, ()) if asked else ()
            users = [(numbers[user.name], at) for user, at in uses if user.op in asked]
            found.append(_Check(node, node.op in VARIABLE_OPS, inputs, asked, users))
        return found


class StepKinds(Generic[Result]):
    """The kinds of places that were read.

    Places mostly follow one another as they did before: first the kind is tried that came after
    the last one.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._known: dict[tuple[str, ...], deque[StepKind[Result]]] = {}
        self._after: dict[StepKind[Result] | None, StepKind[Result]] = {}
        self._last: StepKind[Result] | None = None
        self._patience = _PATIENCE

    def find(
        self, start: Node, fits: Callable[[Result, Places], bool] = lambda _result, _places: True
    ) -> tuple[Result, Places] | None:
        """Return the result for a known place like the one at a node, and the nodes at the node."""
        known = self._known.get(self._beginning(start), ())
        guess = self._after.get(self._last)
        for kind in dict.fromkeys([guess, *known] if guess in known else known):
            if self._patience < 0:
                break
            places = kind.at(self._graph, start)
            if places is not None and fits(kind.result, places):
                self._patience += _GAIN
                self._follow(kind)
                return kind.result, places
            self._patience -= 1
        return None

    def add(self, start: Node, kind: StepKind[Result]) -> None:
        """Add a place that is of no kind that is known."""
        known = self._known.setdefault(self._beginning(start), deque(maxlen=_MOST))
        known.appendleft(kind)
        self._follow(kind)

    def _follow(self, kind: StepKind[Result]) -> None:
        self._after[self._last] = kind
        self._last = kind

    def _beginning(self, start: Node) -> tuple[str, ...]:
        return start.op, *(node.op for node in walk.operands(self._graph, start))


class Steps:
    """The steps of cells that begin with one kind of mark.

    Args:
        read: returns the step of a mark, None if it is not a cell's.
    """

    def __init__(self, graph: Graph, read: Callable[[Graph, Node], GraphCell | None]) -> None:
        self._graph = graph
        self._read = read
        self._kinds: StepKinds[GraphCell] = StepKinds(graph)

    def at(self, mark: Node) -> GraphCell | None:
        """Return the step of a mark, from a known step like it if there is one."""
        known = self._kinds.find(mark)
        if known is not None:
            result, places = known
            return result.elsewhere(places)
        reading = Reading(self._graph, mark)
        step = self._read(reading, mark)
        if step is not None and step.kernels and step.frame is None:
            states = {value[0].name for pair in step.firsts for value in pair if value}
            self._kinds.add(mark, StepKind(reading, step.elsewhere(reading.met), states))
        return step
