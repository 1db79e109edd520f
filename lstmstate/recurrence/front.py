"""The way of data between recurrences: from the input to a loop, from a loop to its outputs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from lstmstate.checkpoint.graph import VARIABLE_OPS
from lstmstate.checkpoint.node import Node
from lstmstate.graph.loops import Tensor, data_inputs
from lstmstate.graph.plan import Scope

_REVERSES = frozenset({"Reverse", "ReverseV2", "ReverseSequence"})
_HANDING = frozenset({"Identity", "StopGradient", "EnsureShape", "Snapshot"})
_LAYOUT = _REVERSES | _HANDING | {"Transpose"}
# Where data comes into a graph: placeholders, queues, iterators.
_SOURCES = ("Placeholder", "IteratorGetNext", "OneShotIterator", "QueueDequeue", "FIFOQueue")


class Front(NamedTuple):
    """How a sequence comes from a tensor: over operations that only lay it out anew.

    Attributes:
        tensor: where it begins.
        turned: whether batch and time change places on the way.
        reversed: whether time is reversed.
    """

    tensor: Tensor
    turned: bool
    reversed: bool


def front_of(nodes: Mapping[str, Node], value: Tensor) -> Front:
    """Return where a sequence that a loop reads comes from."""
    turned = backward = False
    for _ in range(40):
        node = nodes.get(value.node)
        if node is None or node.op not in _LAYOUT:
            break
        turned ^= node.op == "Transpose"
        backward ^= node.op in _REVERSES
        value = data_inputs(node)[0]
    return Front(value, turned, backward)


def tail_of(scope: Scope, value: Tensor) -> Front:
    """Return the tensor that a sequence that a loop gives ends as, laid out anew alone.

    Of several ways the one that reverses it counts: it is put back into the order of the input.
    """
    best = Front(value, turned=False, reversed=False)
    queue = [best]
    seen = {value}
    while queue and len(seen) < 200:
        at = queue.pop(0)
        if (at.reversed, at.turned) > (best.reversed, best.turned):
            best = at
        for user, position in scope.users.get(at.tensor.node, ()):
            given = data_inputs(user)
            if position or user.op not in _LAYOUT or given[0] != at.tensor:
                continue
            tensor = Tensor(user.name)
            if tensor not in seen:
                seen.add(tensor)
                queue.append(
                    Front(
                        tensor,
                        at.turned ^ (user.op == "Transpose"),
                        at.reversed ^ (user.op in _REVERSES),
                    )
                )
    return best


class Origins(NamedTuple):
    """What some tensors are computed from.

    Attributes:
        recurrences: the numbers of the recurrences that they come from.
        sources: the nodes through which data comes into the graph.
        operations: the operations on the way, layout aside.
        variables: the nodes of the variables.
    """

    recurrences: frozenset[int]
    sources: tuple[Node, ...]
    operations: tuple[Node, ...]
    variables: tuple[str, ...]


def origins(
    nodes: Mapping[str, Node],
    tensors: Collection[Tensor],
    ends: Mapping[str, int],
    past: int | None = None,
) -> Origins:
    """Walk back from tensors to recurrences and to where data comes in.

    Args:
        ends: the nodes at which a recurrence ends, with its number.
        past: the number of a recurrence whose ends are passed.
    """
    recurrences: set[int] = set()
    sources: list[Node] = []
    operations: list[Node] = []
    variables: list[str] = []
    queue = [tensor.node for tensor in tensors]
    seen = set(queue)
    while queue:
        name = queue.pop()
        if name in ends and ends[name] != past:
            recurrences.add(ends[name])
            continue
        node = nodes.get(name)
        if node is None or node.op in ("Const", "Shape"):
            continue
        if node.op in VARIABLE_OPS:
            variables.append(name)
            continue
        if is_source(node):
            sources.append(node)
            continue
        if node.op not in _HANDING | {"Transpose"}:
            operations.append(node)
        for tensor in data_inputs(node):
            if tensor.node not in seen:
                seen.add(tensor.node)
                queue.append(tensor.node)
    return Origins(frozenset(recurrences), tuple(sources), tuple(operations), tuple(variables))


def is_source(node: Node) -> bool:
    """Whether data comes into the graph through a node."""
    return node.op.startswith(_SOURCES) and not node.op.startswith("PlaceholderWithDefault")
