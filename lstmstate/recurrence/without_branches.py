"""Graphs without the branches that `static_rnn` adds for sequence lengths.

With lengths, `static_rnn` computes each step in a branch, and selects the old state for a sequence
that has ended. Without these branches, each step is like the next, and the steps can be found. The
graph that is run keeps its branches.
"""

from __future__ import annotations

from collections.abc import Mapping

from lstmstate.checkpoint.graph import split_port
from lstmstate.checkpoint.graph_node import Node
from lstmstate.graph.evaluate import Scope
from lstmstate.graph.loops import MERGES, SWITCHES, Tensor, data_inputs

_SELECTS = frozenset({"Select", "SelectV2"})
_FAR = 10  # nodes that pass on a comparison


class Straight:
    """A graph without the branches for sequences that have ended.

    Args:
        known: the results of the comparisons with lengths before the end, by node name.

    Attributes:
        scope: the nodes without branches; those of the graph itself if it has no branches.
    """

    def __init__(self, scope: Scope, known: Mapping[str, bool]) -> None:
        self._nodes = scope.nodes
        self._known = known
        self._dead: dict[Tensor, bool] = {}
        self._live: dict[str, int] = {}
        self._unchosen: dict[str, Tensor] = {}
        self.scope = scope.of_nodes(self._straighten(), self._unchosen) if known else scope

    @property
    def is_other(self) -> bool:
        """Whether the graph has such branches."""
        return bool(self._live)

    def behind(self, tensor: Tensor) -> Tensor:
        """Return the tensor outside of the branches for a tensor passed into one."""
        while tensor.node in self._live:
            tensor = data_inputs(self._nodes[tensor.node])[0]
        return tensor

    def _straighten(self) -> dict[str, Node]:
        for node in self._nodes.values():
            if node.op in SWITCHES:
                value = self._evaluate(data_inputs(node)[1])
                if value is not None:
                    self._live[node.name] = int(value)
        found = {}
        for node in self._nodes.values():
            chosen = self._choose(node)
            op, inputs = (node.op, node.inputs) if chosen is None else ("Identity", [chosen])
            if self._live:
                inputs = [
                    one if one.startswith("^") else self._skip_branches(one) for one in inputs
                ]
            same = op == node.op and inputs == node.inputs
            found[node.name] = (
                node if same else Node(node.name, op, inputs, node.attributes, node.frame)
            )
        return found

    def _evaluate(self, tensor: Tensor) -> bool | None:
        """Return the value of a condition, None if not a comparison with lengths decides it."""
        for _ in range(_FAR):
            if tensor.node in self._known:
                return self._known[tensor.node]
            node = self._nodes.get(tensor.node)
            if node is None or node.op not in SWITCHES | {"Identity"}:
                break
            tensor = data_inputs(node)[0]
        return None

    def _choose(self, node: Node) -> str | None:
        """Return the input that a Select or Merge passes on, None for other nodes."""
        given = data_inputs(node)
        if node.op in _SELECTS:
            value = self._evaluate(given[0])
            dead = [] if value is None else [not value, value]
        elif node.op in MERGES and len(given) == 2 and self._live:
            dead = [self._is_dead(one) for one in given]
        else:
            return None
        if sum(dead) != 1:
            return None
        one, other = given[-2:] if not dead[0] else given[:-3:-1]
        self._unchosen[node.name] = other
        return f"{one.node}:{one.port}" if one.port else one.node

    def _skip_branches(self, tensor: str) -> str:
        """Return the source of an input outside of the branches."""
        name, port = split_port(tensor)
        while name in self._live and port == self._live[name]:
            tensor = self._nodes[name].inputs[0]
            name, port = split_port(tensor)
        return tensor

    def _is_dead(self, tensor: Tensor) -> bool:
        """Whether a tensor is in a branch that is not taken."""
        stack, entered = [tensor], set[Tensor]()
        while stack:
            one = stack[-1]
            if one in self._dead:
                stack.pop()
                continue
            if one.node in self._live and one.port != self._live[one.node]:
                self._dead[one] = True
                continue
            node = self._nodes.get(one.node)
            given = [Tensor.of(name.removeprefix("^")) for name in node.inputs] if node else []
            waiting = [before for before in given if before not in self._dead]
            if waiting and one not in entered:
                entered.add(one)
                stack += waiting
                continue
            dead = [self._dead.get(before, False) for before in given]
            is_merge = node is not None and node.op in MERGES
            self._dead[one] = bool(dead) and (all(dead) if is_merge else any(dead))
        return self._dead[tensor]
