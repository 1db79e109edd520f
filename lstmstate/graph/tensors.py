"""Tensors of a graph, the outputs of its nodes, and walks from one to another."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence

from lstmstate.checkpoint.graph import split_port
from lstmstate.checkpoint.graph_node import Node
from lstmstate.named_tuple import NamedTuple

_ABSENT = Node("", "", [])
_FAR = 40  # operations in a row that only pass on a tensor


class Tensor(NamedTuple):
    """An output of a node.

    Attributes:
        part: "" for the output itself. For the loop variable `port` of the loop `node`: "initial"
            for its initial value, "history" for its values after every step. "input" for the input
            `port` of the node, to feed that input alone.
    """

    node: str
    port: int = 0
    part: str = ""

    @classmethod
    def of(cls, text: str) -> Tensor:
        """Return the tensor that an input such as "a/b:1" names."""
        return cls(*split_port(text))


def data_inputs(node: Node) -> list[Tensor]:
    """Return the inputs of a node, without control inputs; the list is kept, never change it."""
    if node.data is None:
        node.data = [Tensor.of(tensor) for tensor in node.inputs if not tensor.startswith("^")]
    return node.data


def node_at(nodes: Mapping[str, Node], tensor: Tensor) -> Node:
    """Return the node of a tensor; one without a type and inputs if it is not in the graph."""
    return nodes.get(tensor.node, _ABSENT)


def input_at(nodes: Mapping[str, Node], node: Node, position: int) -> Node:
    """Return the node of an input, as `node_at` does; -1 is the last input."""
    given = data_inputs(node)
    return node_at(nodes, given[position]) if position < len(given) and given else _ABSENT


def past(nodes: Mapping[str, Node], tensor: Tensor, passing: Container[str]) -> Tensor:
    """Return the tensor before operations that only pass on their first input."""
    for _ in range(_FAR):
        node = nodes.get(tensor.node)
        given = data_inputs(node) if node is not None and node.op in passing else []
        if not given:
            break
        tensor = given[0]
    return tensor


def behind(
    nodes: Mapping[str, Node],
    starts: Iterable[Tensor],
    enter: Callable[[Node], bool] | None = None,
    limit: float = float("inf"),
    into: Callable[[Node], Iterable[Tensor]] = data_inputs,
) -> Iterator[tuple[Tensor, Node]]:
    """Yield tensors and those that they are computed from, each once, the nearest first.

    Each comes with its node; see `node_at`.

    Args:
        enter: whether to go on to the inputs of a node; of all by default.
        limit: the number of tensors at which the walk ends.
        into: the inputs of a node to go on to.
    """
    queue = deque(dict.fromkeys(starts))
    seen = set(queue)
    while queue and len(seen) < limit:
        tensor = queue.popleft()
        node = node_at(nodes, tensor)
        yield tensor, node
        if enter is None or enter(node):
            for before in into(node):
                if before not in seen:
                    seen.add(before)
                    queue.append(before)


def between(
    nodes: Mapping[str, Node],
    start: str,
    end: Tensor,
    enter: Callable[[Node], bool] | None = None,
    limit: float = float("inf"),
) -> list[Node] | None:
    """Return the nodes after one node on the shortest way from it to a tensor, in order.

    Args:
        enter, limit: see `behind`.

    Returns:
        None if the tensor is not computed from the node.
    """
    after: dict[str, Node] = {}

    def into(node: Node) -> list[Tensor]:
        given = data_inputs(node)
        for before in given:
            after.setdefault(before.node, node)
        return given

    if all(tensor.node != start for tensor, _ in behind(nodes, [end], enter, limit, into)):
        return None
    way = []
    while start != end.node:
        way.append(after[start])
        start = after[start].name
    return way


def ahead(
    users: Mapping[str, Sequence[tuple[Node, int]]],
    start: str,
    passing: Container[str],
    limit: float = float("inf"),
) -> Iterator[tuple[Node, int]]:
    """Yield the nodes that read a node, or those that pass on its value, the nearest first.

    Each comes with the number of the input.

    Args:
        users: see `Scope.users`.
        passing: operations that pass on their first input.
        limit: the number of nodes that pass it on at which no more are followed.
    """
    queue = deque([start])
    seen = {start}
    while queue and len(seen) < limit:
        for user, position in users.get(queue.popleft(), ()):
            yield user, position
            if position == 0 and user.op in passing and user.name not in seen:
                seen.add(user.name)
                queue.append(user.name)
