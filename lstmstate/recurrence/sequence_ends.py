"""Ends of sequences: comparisons of a step's number with sequence lengths in a graph."""

from __future__ import annotations

from collections.abc import Iterator

from lstmstate.checkpoint.graph import VARIABLE_OPS
from lstmstate.checkpoint.graph_node import Node
from lstmstate.graph.evaluate import Scope
from lstmstate.graph.loops import ENTERS, MERGES, SWITCHES, Tensor, data_inputs
from lstmstate.records import NamedTuple

_WHOLE = (3, 9)  # int32, int64
# Whether a comparison of a step's number with a length is true before the end.
_BEFORE_END = {"GreaterEqual": False, "Greater": False, "Less": True, "LessEqual": True}
# Operations that pass on lengths: each, or the largest or smallest of them.
_HANDING = ENTERS | {"Identity", "Cast", "ExpandDims", "Maximum", "Minimum", "Max", "Min"}
_COUNTING = ENTERS | MERGES | SWITCHES | {"Identity", "Cast", "Add", "AddV2", "Sub", "Fill"}
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
                behind = tuple(_trace_lengths(scope, lengths)) if is_apart is not None else ()
                if is_apart is not None and behind:
                    found[node.name] = End(behind, is_apart, _BEFORE_END[node.op] ^ turned)
    return found


def turning_lengths(scope: Scope) -> Iterator[Tensor]:
    """Yield the lengths by which a graph reverses sequences."""
    for node in scope.nodes.values():
        if node.op == "ReverseSequence":
            yield from _trace_lengths(scope, data_inputs(node)[1])


def _is_constant_step(scope: Scope, tensor: Tensor) -> bool | None:
    """Whether a step's number is a constant; None if the tensor is not a step's number."""
    queue, seen = [tensor], {tensor}
    is_apart = True
    while queue:
        node = scope.nodes.get(queue.pop().node)
        if node is None or len(seen) > _FAR:
            return None
        if node.op == "Const":
            if node.constant_shape():
                return None
            continue
        if node.op == "Range":  # all of them
            return False
        if node.op not in _COUNTING or (node.op == "Fill" and not is_apart):
            return None
        is_apart &= node.op not in ENTERS | MERGES
        given = data_inputs(node)
        given = given[:1] if node.op in SWITCHES else given[1:] if node.op == "Fill" else given
        queue += [one for one in given if one not in seen and not _is_next(scope, one)]
        seen.update(given)
    return is_apart


def _is_branch(scope: Scope, node: Node) -> bool:
    """Whether a node passes a value into a branch."""
    if node.op not in SWITCHES:
        return False
    condition = scope.nodes.get(data_inputs(node)[1].node)
    return condition is not None and condition.op != "LoopCond"


def _is_next(scope: Scope, tensor: Tensor) -> bool:
    node = scope.nodes.get(tensor.node)
    return node is not None and node.op.endswith("NextIteration")


def _trace_lengths(scope: Scope, tensor: Tensor) -> Iterator[Tensor]:
    """Yield the tensors that may be lengths, before operations that only pass them on."""
    queue, seen = [tensor], {tensor}
    while queue and len(seen) < _FAR:
        tensor = queue.pop()
        node = scope.nodes.get(tensor.node)
        if node is None:
            continue
        given = data_inputs(node)
        if node.op not in _HANDING and not _is_branch(scope, node):
            is_number = node.op == "Const" and not node.constant_shape()
            if not is_number and node.op not in MERGES | SWITCHES | VARIABLE_OPS:
                yield tensor
            continue
        given = given if node.op in ("Maximum", "Minimum") else given[:1]
        queue += [one for one in given if one not in seen]
        seen.update(given)
