"""Outputs of unrolled steps, joined by the graph or one for each step."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from itertools import islice

from lstmstate.checkpoint.graph import VARIABLE_OPS
from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.graph_walk import ADDING
from lstmstate.graph.dropout import undropped
from lstmstate.graph.evaluate import Scope
from lstmstate.graph.loops import Tensor, data_inputs, past
from lstmstate.records import NamedTuple
from lstmstate.recurrence.step_chain import Chain, keeps

_JOINS = frozenset({"Pack", "Concat", "ConcatV2"})
_BARE = frozenset({"Identity", "ExpandDims"})
_FAR = 400  # nodes between a joined value and the states of its step


class Joined(NamedTuple):
    """A value for each step, in the order of the node that joins them.

    Attributes:
        is_m: whether the values are m itself.
        node: the node that joins them.
    """

    values: tuple[Tensor, ...]
    is_m: bool
    node: Node


Values = tuple[Tensor, ...]


def find_joins(scope: Scope, chains: Sequence[Chain]) -> list[list[tuple[Node, Values]]]:
    """Return for each chain the nodes that may join its outputs, with the joined values.

    Such a node joins as many values as the chain has steps, and its last value is near the states.
    """
    owners: dict[str, dict[int, None]] = {}
    counts: set[int] = set()
    for at, chain in enumerate(chains):
        counts.add(chain.steps)
        for tensor in (*chain.c, *chain.m):
            owners.setdefault(tensor.node, {})[at] = None
    found: list[list[tuple[Node, Values]]] = [[] for _ in chains]
    for node in scope.nodes.values() if chains else ():
        values = _find_values(scope, node) if node.op in _JOINS else ()
        if len(values) not in counts or (len(values) == 1 and node.op != "Pack"):
            continue
        for at in _find_owners(scope.nodes, values[-1], owners):
            if len(values) == chains[at].steps:
                found[at].append((node, values))
    return found


def _find_owners(
    nodes: Mapping[str, Node], tensor: Tensor, owners: Mapping[str, Mapping[int, None]]
) -> dict[int, None]:
    """Return the chains whose states a value may be computed from, also by way of others."""
    found: dict[int, None] = {}
    for name in islice(_walk_back(nodes, tensor), 2 * _FAR):
        found |= owners.get(name, {})
    return found


def _walk_back(
    nodes: Mapping[str, Node], tensor: Tensor, ends: Container[str] = ()
) -> Iterator[str]:
    """Yield the nodes that a tensor is computed from, the nearest first.

    Args:
        ends: nodes whose inputs are not followed.
    """
    queue, seen = deque([tensor.node]), {tensor.node}
    while queue:
        name = queue.popleft()
        yield name
        node = None if name in ends else nodes.get(name)
        for one in data_inputs(node) if node is not None and node.op not in VARIABLE_OPS else []:
            if one.node not in seen:
                seen.add(one.node)
                queue.append(one.node)


def find_joined(scope: Scope, chain: Chain, some: Iterable[tuple[Node, Values]]) -> list[Joined]:
    """Return the joined values that come from the steps of a chain, m first.

    Args:
        some: the nodes that may join them; see `find_joins`.
    """
    number = {tensor.node: at for states in (chain.c, chain.m) for at, tensor in enumerate(states)}
    steps = chain.m[1:]
    found: dict[Values, Joined] = {}
    for node, values in some:
        if values in (steps, steps[::-1]):
            found[values] = Joined(values, True, node)
        elif _are_steps(scope.nodes, values, number):
            found[values] = Joined(values, False, node)
    return sorted(found.values(), key=lambda one: not one.is_m)


def find_outputs_apart(scope: Scope, chain: Chain) -> tuple[Values, bool] | None:
    """Return the outputs of the steps that the graph does not join, and whether they are m.

    An output is the sum of m and the step's input (a residual connection), or m before the end of
    a sequence and another value after it. None if the outputs are the states.
    """
    m = [_find_chosen(scope, tensor) for tensor in chain.m[1:]]
    sums = _find_residuals(scope, [tensor for tensor, _ in m], chain.x)
    if sums is None and not any(depth for _, depth in m):
        return None
    found = []
    for at, (made, depth) in enumerate(m):
        given = _follow_selects(scope, sums[at] if sums else made, depth, chain.m[at])
        if given is None:
            return None
        found.append(given)
    return tuple(found), sums is None


def _find_chosen(scope: Scope, tensor: Tensor) -> tuple[Tensor, int]:
    """Return the value of a state before the end of a sequence, and the number of Selects."""
    depth = 0
    while tensor.node in scope.unchosen:
        tensor, depth = data_inputs(scope.nodes[tensor.node])[0], depth + 1
    return tensor, depth


def _follow_selects(scope: Scope, made: Tensor, depth: int, before: Tensor) -> Tensor | None:
    """Return the result of as many Selects of a value that do not select the old state."""
    ends = [made]
    for _ in range(depth):
        ends = [
            Tensor(user.name)
            for end in ends
            for user, position in scope.users.get(end.node, ())
            if user.name in scope.unchosen and data_inputs(user)[position] == end
        ]
    others = [end for end in dict.fromkeys(ends) if not keeps(scope, end.node, before)]
    return others[0] if len(others) == 1 else None


def _find_residuals(scope: Scope, states: Sequence[Tensor], x: Sequence[Tensor]) -> Values | None:
    """Return the sums of m and each step's input; None if a step has no such sum."""
    found = []
    for m, read in zip(states, x, strict=False):
        queue, sums = [m], []
        while queue:
            tensor = queue.pop()
            for user, _ in scope.users.get(tensor.node, ()):
                given = {_skip_dropout(scope.nodes, one) for one in data_inputs(user)}
                both = {_skip_dropout(scope.nodes, one) for one in (m, read)}
                if user.op in ADDING and given == both:
                    sums.append(Tensor(user.name))
                elif undropped(scope.nodes, user) == tensor:
                    queue.append(Tensor(user.name))
        if len(sums) != 1:
            return None
        found += sums
    return tuple(found)


def _skip_dropout(nodes: Mapping[str, Node], tensor: Tensor) -> Tensor:
    """Return the value of a tensor before dropout."""
    node = nodes.get(tensor.node)
    kept = undropped(nodes, node) if node is not None else None
    return past(nodes, tensor if kept is None else kept, _BARE)


def _find_values(scope: Scope, node: Node) -> tuple[Tensor, ...]:
    """Return the values that a node joins, before an axis for the steps is added to them."""
    given = data_inputs(node)
    if node.op != "Pack":
        given = given[:-1] if node.op == "ConcatV2" else given[1:]
    return tuple(_skip_bare(scope, tensor) for tensor in given)


def _skip_bare(scope: Scope, tensor: Tensor) -> Tensor:
    for _ in range(10):
        node = scope.nodes.get(tensor.node)
        if node is None or node.op not in _BARE or node.name in scope.unchosen:
            break
        tensor = data_inputs(node)[0]
    return tensor


def _are_steps(
    nodes: Mapping[str, Node], values: Sequence[Tensor], number: Mapping[str, int]
) -> bool:
    """Whether each value comes from the state of its step, in either order of the steps."""
    return any(_follow_one_another(nodes, way, number) for way in (values, values[::-1]))


def _follow_one_another(
    nodes: Mapping[str, Node], values: Sequence[Tensor], number: Mapping[str, int]
) -> bool:
    """Whether each value comes from the state after that of the one before it."""
    known = dict(number)  # a value may be computed from the values before it
    last: int | None = None
    for value in values:
        found = max((known[name] for name in _find_states(nodes, value, known)), default=None)
        if found is None or (last is not None and found != last + 1):
            return False
        last = known.setdefault(value.node, found)
    return True


def _find_states(nodes: Mapping[str, Node], tensor: Tensor, among: Container[str]) -> set[str]:
    """Return the nodes of the states that a value is computed from; none if they are far."""
    near = list(islice(_walk_back(nodes, tensor, among), _FAR + 1))
    return {name for name in near if name in among} if len(near) <= _FAR else set()
