"""Steps of a cell that a graph repeats one after the other, without a loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lstmstate.cells.wired import Wired, WiredStep
from lstmstate.checkpoint.graph import VARIABLE_OPS
from lstmstate.checkpoint.node import Node
from lstmstate.graph.loops import Tensor, data_inputs
from lstmstate.graph.plan import Scope
from lstmstate.recurrence.states import PRODUCTS

# What may be between the state after one step and the next step's: each changes every number
# by itself.
_ELEMENTWISE = frozenset(
    """
    Identity Mul Add AddV2 Sub RealDiv Minimum Maximum ClipByValue Cast StopGradient Relu Tanh
    Select SelectV2 Neg
    """.split()
)
_NEAR = 40  # nodes between a state and the next step: a clip has five
_FAR = 4000  # nodes back from what a step reads


class Chain(NamedTuple):
    """The steps of one cell, in order.

    Attributes:
        kernels: the nodes of the variables of its products.
        c, m: the state before the first step, and after each.
        x: what each step reads.
        scope: the name scope of the first step.
    """

    kernels: tuple[str, ...]
    c: tuple[Tensor, ...]
    m: tuple[Tensor, ...]
    x: tuple[Tensor, ...]
    scope: str


def chains(scope: Scope, cells: Iterable[Wired]) -> list[Chain]:
    """Return the chains of cells that the graph steps outside of loops."""
    found = []
    for wired in cells:
        steps = [step for step in wired.steps if step.m is not None and step.m_old is not None]
        if wired.frame is None and steps and len(steps) == len(wired.steps):
            found += [
                chain
                for ordered in _in_order(scope, steps)
                if (chain := _chain(scope, wired, ordered)) is not None
            ]
    return found


def _in_order(scope: Scope, steps: Sequence[WiredStep]) -> list[list[WiredStep]]:
    """Return the steps that follow one another; a cell that is used twice has two chains."""
    by_end = {step.c_new.name: step for step in steps}
    after: dict[str, WiredStep] = {}
    first = []
    for step in steps:
        way = _way_back(scope, Tensor(step.c_old.name), by_end)
        if way is None:
            first.append(step)
        elif way[0] in after:
            return []
        else:
            after[way[0]] = step
    found = []
    for step in first:
        ordered = [step]
        while ordered[-1].c_new.name in after:
            ordered.append(after[ordered[-1].c_new.name])
        found.append(ordered)
    return found


def _way_back(
    scope: Scope, start: Tensor, ends: Iterable[str]
) -> tuple[str, tuple[str, ...]] | None:
    """Return the end that a tensor comes from, with the nodes on the way, the end's first."""
    targets = set(ends)
    queue: deque[tuple[str, tuple[str, ...]]] = deque([(start.node, (start.node,))])
    seen = {start.node}
    while queue and len(seen) < _NEAR:
        name, way = queue.popleft()
        if name in targets:
            return name, way[::-1]
        node = scope.nodes.get(name)
        if node is None or node.op not in _ELEMENTWISE | {"Split", "SplitV", "Slice", "ConcatV2"}:
            continue
        for tensor in data_inputs(node):
            if tensor.node not in seen:
                seen.add(tensor.node)
                queue.append((tensor.node, (*way, tensor.node)))
    return None


def _chain(scope: Scope, wired: Wired, steps: Sequence[WiredStep]) -> Chain | None:
    """Return the tensors between the steps, None where they are not all seen."""
    nodes = scope.nodes
    olds_c = [_taken(scope, step.c_new, step.c_old) for step in steps]
    olds_m = [_read(scope, step) for step in steps]
    if None in olds_c or None in olds_m or any(step.x is None for step in steps):
        return None
    c = _states(scope, [step.c_new for step in steps], [t for t in olds_c if t])
    m = _states(scope, [step.m for step in steps if step.m], [t for t in olds_m if t])
    x = [_input(scope, step) for step in steps]
    if c is None or m is None or None in x:
        return None
    kernels = tuple(node.name for shards in wired.kernels for node in shards)
    return Chain(
        kernels,
        c,
        m,
        tuple(tensor for tensor in x if tensor),
        nodes[steps[0].c_new.name].name.rpartition("/")[0],
    )


def _taken(scope: Scope, c_new: Node, c_old: Node) -> Tensor | None:
    """Return the tensor of the old c that goes into the sum: the node may have several."""
    for term in data_inputs(c_new):
        product = scope.nodes.get(term.node)
        for tensor in data_inputs(product) if product is not None else []:
            if tensor.node == c_old.name:
                return tensor
    return None


def _product(scope: Scope, step: WiredStep) -> Node | None:
    """Return what joins x and the old m for the product."""
    assert step.m_old is not None
    for user, _ in scope.users.get(step.m_old.name, ()):
        inputs = {tensor.node for tensor in data_inputs(user)}
        if step.x is not None and step.x.name in inputs and user.op in ("ConcatV2", "Concat"):
            return user
    return None


def _read(scope: Scope, step: WiredStep) -> Tensor | None:
    """Return the tensor of the old m that goes into the product."""
    joined = _product(scope, step)
    if joined is None or step.m_old is None:
        return None
    return next((t for t in data_inputs(joined) if t.node == step.m_old.name), None)


def _input(scope: Scope, step: WiredStep) -> Tensor | None:
    joined = _product(scope, step)
    if joined is None or step.x is None:
        return None
    return next((t for t in data_inputs(joined) if t.node == step.x.name), None)


def _states(
    scope: Scope, made: Sequence[Node], read: Sequence[Tensor]
) -> tuple[Tensor, ...] | None:
    """Return the state before the first step and after each.

    Between two steps it may be changed (clipped, projected, decayed). Where the value before the
    first step is changed in the same way, it is the state as a step makes it; else as one reads
    it.
    """
    root, entry = _root(scope, read[0])
    if len(made) == 1:
        return (root, _settled(scope, made[0])) if not entry else None
    way = _between(scope, made[0], read[1])
    if way is None:
        return None
    ops = [node.op for node in way]
    if entry and entry == [op for op in ops if op != "Identity"]:
        return (root, *(Tensor(node.name) for node in made))
    if entry:
        return None
    last = _follow(scope, made[-1], way)
    return None if last is None else (root, *read[1:], last)


def _root(scope: Scope, tensor: Tensor) -> tuple[Tensor, list[str]]:
    """Return what a first state comes from, and the operations that change it on the way."""
    entry: list[str] = []
    for _ in range(_NEAR):
        node = scope.nodes.get(tensor.node)
        given = data_inputs(node) if node is not None else []
        if node is None or node.op not in _ELEMENTWISE or not given:
            break
        rest = [one for one in given if _is_constant(scope, one)]
        free = [one for one in given if one not in rest]
        if len(free) != 1:
            break
        if node.op != "Identity":
            entry.insert(0, node.op)
        tensor = free[0]
    return tensor, entry


def _is_constant(scope: Scope, tensor: Tensor) -> bool:
    node = scope.nodes.get(tensor.node)
    return node is not None and node.op in {"Const", *VARIABLE_OPS}


def _between(scope: Scope, made: Node, read: Tensor) -> list[Node] | None:
    """Return the nodes from what a step makes to what the next one reads."""
    queue: deque[tuple[str, tuple[str, ...]]] = deque([(read.node, (read.node,))])
    seen = {read.node}
    allowed = _ELEMENTWISE | PRODUCTS.keys() | {"BiasAdd"}
    while queue and len(seen) < _NEAR:
        name, way = queue.popleft()
        if name == made.name:
            return [scope.nodes[step] for step in way[::-1][1:]]
        node = scope.nodes.get(name)
        for tensor in data_inputs(node) if node is not None and node.op in allowed else []:
            if tensor.node not in seen:
                seen.add(tensor.node)
                queue.append((tensor.node, (*way, tensor.node)))
    return None


def _follow(scope: Scope, made: Node, way: Sequence[Node]) -> Tensor | None:
    """Return where the same operations lead from what the last step makes."""
    name = made.name
    for node in way:
        users = [user for user, _ in scope.users.get(name, ()) if user.op == node.op]
        if len({user.name for user in users}) != 1:
            return None
        name = users[0].name
    return Tensor(name)


def _settled(scope: Scope, made: Node) -> Tensor:
    """Return what a single step makes, clipped or projected where the graph does so."""
    name = made.name
    for _ in range(4):
        users = [
            user
            for user, _ in scope.users.get(name, ())
            if user.op in ("Minimum", "Maximum", "ClipByValue")
        ]
        if len(users) != 1:
            break
        name = users[0].name
    return Tensor(name)
