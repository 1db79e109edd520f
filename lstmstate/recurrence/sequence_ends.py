"""Ends of sequences: comparisons of a step's number with sequence lengths, and their branches.

With lengths, `static_rnn` computes each step in a branch, and selects the old state for a sequence
that has ended. Without these branches, each step is like the next, and the steps can be found. The
graph that is run keeps its branches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lstmstate.checkpoint.graph import VARIABLE_OPS, split_port
from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.op_sets import ENTERS, IDENTITIES, MERGES, SELECTS, SUMMING, SWITCHES
from lstmstate.graph.evaluate import Scope, is_branch
from lstmstate.graph.tensors import Tensor, behind, data_inputs, node_at
from lstmstate.named_tuple import NamedTuple

_WHOLE = (3, 9)  # int32, int64
# Whether a comparison of a step's number with a length is true before the end.
_BEFORE_END = {"GreaterEqual": False, "Greater": False, "Less": True, "LessEqual": True}
# Operations that pass on lengths: each, or the largest or smallest of them.
_PASSES_LENGTHS = ENTERS | IDENTITIES | {"ExpandDims", "Maximum", "Minimum", "Max", "Min"}
_COUNTING = ENTERS | MERGES | SWITCHES | IDENTITIES | SUMMING | {"Sub", "Fill"}
_NO_LENGTHS = MERGES | SWITCHES | VARIABLE_OPS | {""}
_NEAR = 10  # nodes that pass on a comparison
_FAR = 30  # nodes between a comparison and a counter, or lengths


class End(NamedTuple):
    """A comparison of a step's number with lengths.

    Attributes:
        lengths: the tensors that may be the lengths, before operations that only pass them on.
        is_apart: whether the step's number is a constant, as in a graph without a loop.
        before: the result of the comparison before the end of a sequence.
    """

    lengths: tuple[Tensor, ...]
    is_apart: bool
    before: bool


def ends(scope: Scope) -> dict[str, End]:
    """Return the nodes that compare a step's number with tensors that may be lengths."""
    found = {}
    for node in scope.nodes.values():
        if node.op in _BEFORE_END and node.number_of_type("T") in _WHOLE:
            one, other = data_inputs(node)
            for number, lengths, turned in ((one, other, False), (other, one, True)):
                is_apart = _is_constant_step(scope, number)
                some = tuple(_trace_lengths(scope, lengths)) if is_apart is not None else ()
                if is_apart is not None and some:
                    found[node.name] = End(some, is_apart, _BEFORE_END[node.op] ^ turned)
    return found


def turning_lengths(scope: Scope) -> Iterator[Tensor]:
    """Yield the lengths by which a graph reverses sequences."""
    for node in scope.nodes.values():
        if node.op == "ReverseSequence":
            yield from _trace_lengths(scope, data_inputs(node)[1])


def _is_constant_step(scope: Scope, tensor: Tensor) -> bool | None:
    """Whether a step's number is a constant; None if the tensor is not a step's number."""

    def into(node: Node) -> list[Tensor]:
        given = data_inputs(node)
        given = given[:1] if node.op in SWITCHES else given[1:] if node.op == "Fill" else given
        return [one for one in given if not node_at(scope.nodes, one).op.endswith("NextIteration")]

    is_apart = True
    way = behind(scope.nodes, [tensor], lambda node: node.op in _COUNTING, into=into)
    for met, (_, node) in enumerate(way):
        if node.op == "Range":  # all of them
            return False
        is_number = node.op == "Const" and not node.constant_shape()
        is_counted = node.op in _COUNTING and (node.op != "Fill" or is_apart)
        if met == _FAR or not (is_number or is_counted):
            return None
        is_apart &= node.op not in ENTERS | MERGES
    return is_apart


def _trace_lengths(scope: Scope, tensor: Tensor) -> Iterator[Tensor]:
    """Yield the tensors that may be lengths, before operations that only pass them on."""

    def is_handed(node: Node) -> bool:
        return node.op in _PASSES_LENGTHS or is_branch(scope.nodes, node)

    def into(node: Node) -> list[Tensor]:
        return data_inputs(node)[: 2 if node.op in ("Maximum", "Minimum") else 1]

    for one, node in behind(scope.nodes, [tensor], is_handed, _FAR, into):
        is_number = node.op == "Const" and not node.constant_shape()
        if not is_number and node.op not in _NO_LENGTHS and not is_handed(node):
            yield one


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
        for _ in range(_NEAR):
            if tensor.node in self._known:
                return self._known[tensor.node]
            node = node_at(self._nodes, tensor)
            if node.op not in SWITCHES | {"Identity"}:
                break
            tensor = data_inputs(node)[0]
        return None

    def _choose(self, node: Node) -> str | None:
        """Return the input that a Select or Merge passes on, None for other nodes."""
        given = data_inputs(node)
        if node.op in SELECTS:
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
            node = node_at(self._nodes, one)
            given = [Tensor.of(name.removeprefix("^")) for name in node.inputs]
            waiting = [before for before in given if before not in self._dead]
            if waiting and one not in entered:
                entered.add(one)
                stack += waiting
                continue
            dead = [self._dead.get(before, False) for before in given]
            self._dead[one] = bool(dead) and (all if node.op in MERGES else any)(dead)
        return self._dead[tensor]
