"""Unrolled steps of a cell: the chain of its states in a graph without a loop."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

from lstmstate.cells.from_graph.graph_cell import GraphCell, GraphStep
from lstmstate.checkpoint.fused_ops import BLOCK_C, BLOCK_M, BLOCK_STEPS
from lstmstate.checkpoint.graph import VARIABLE_OPS
from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.op_sets import CONCATS, MERGES, SELECTS, SWITCHES
from lstmstate.graph.dropout import before_dropout
from lstmstate.graph.evaluate import Scope
from lstmstate.graph.tensors import Tensor, behind, between, data_inputs, input_at, node_at
from lstmstate.named_tuple import NamedTuple
from lstmstate.recurrence import single_step
from lstmstate.recurrence.data_path import origins
from lstmstate.recurrence.find_states import ELEMENTWISE, PRODUCTS, Path

_CUTS = frozenset({"Split", "SplitV", "Slice", "StridedSlice"})
# Operations that concatenate states and split them again.
_LAYING = CONCATS | _CUTS
_CONSTANTS = VARIABLE_OPS | {"Const"}
_CHOOSING = SELECTS | {"Identity"}
_NEAR = 150  # nodes between a state and the next step: shards of a projection and clips
_FAR = 400  # nodes of a step, from its gates back to its products

One = TypeVar("One", Node, GraphStep)  # how a step is known


class Chain(NamedTuple):
    """The steps of one cell, in order.

    Attributes:
        kernels: the nodes of the cell's weights.
        c, m: the state before the first step, and after each step.
        x: the input of each step.
        scope: the name scope of the first step.
        entries: the inputs of nodes of the first step that read c and m, if known.
        places: the places of c and m in their tensors.
        problem, doubt: the reason why the new state of a single step is unknown, or is certain
            only for a cell known to compute it.
    """

    kernels: tuple[str, ...]
    c: tuple[Tensor, ...]
    m: tuple[Tensor, ...]
    x: tuple[Tensor, ...]
    scope: str
    entries: tuple[tuple[Tensor, ...], tuple[Tensor, ...]] = ((), ())
    places: tuple[Path, Path] = ((), ())
    problem: str | None = None
    doubt: str | None = None

    @property
    def steps(self) -> int:
        """The number of steps."""
        return len(self.c) - 1

    @property
    def initial(self) -> tuple[Tensor, Tensor]:
        """c and m before the first step."""
        return self.c[0], self.m[0]

    @property
    def made(self) -> tuple[Tensor, ...]:
        """c after each step, then m."""
        return (*self.c[1:], *self.m[1:])


def chains(scope: Scope, cells: Iterable[GraphCell]) -> list[Chain]:
    """Return the chains of known cells outside of loops."""
    found = _find_block_chains(scope)
    for wired in cells:
        steps = [step for step in wired.steps if step.m is not None]
        if not scope.is_frame(wired.frame) and steps and len(steps) == len(wired.steps):
            ordered = _order(scope, {s.c_new.name: (Tensor(s.c_old.name), s) for s in steps})
            if sum(map(len, ordered)) < len(steps):
                continue  # two steps read one state
            recurrent = _find_recurrent(scope, ordered)
            made = (_make_chain(scope, wired, one, recurrent) for one in ordered)
            found += [chain for chain in made if chain is not None]
    return found


def _find_block_chains(scope: Scope) -> list[Chain]:
    """Return the chains of operations that compute one step each, such as LSTMBlockCell."""
    blocks: dict[frozenset[str], list[Node]] = {}
    for node in scope.nodes.values():
        given = data_inputs(node) if node.op in BLOCK_STEPS else []
        inside = any(_is_carried(scope, tensor) for tensor in given[1:3])
        if len(given) == 8 and not inside and not scope.is_inner(node.name):
            blocks.setdefault(_find_weights(scope, given[3:4]), []).append(node)
    found = []
    for kernels, nodes in blocks.items():
        by_end = {node.name: (data_inputs(node)[1], node) for node in nodes}
        found += [_make_block_chain(scope, kernels, steps) for steps in _order(scope, by_end)]
    return [chain for chain in found if chain is not None]


def _make_block_chain(scope: Scope, kernels: frozenset[str], steps: Sequence[Node]) -> Chain | None:
    x, *read = zip(*(data_inputs(node)[:3] for node in steps), strict=True)
    c, m = (
        _find_states(scope, [Tensor(node.name, port) for node in steps], old)
        for port, old in zip((BLOCK_C, BLOCK_M), read, strict=True)
    )
    if c is None or m is None:
        return None
    first = steps[0].name
    of_c, of_m = (
        (Tensor(first, port, "input"),) if state[0] == old[0] else ()
        for port, state, old in zip((1, 2), (c, m), read, strict=True)
    )
    chain = Chain(tuple(kernels), c, m, x, first.rpartition("/")[0], (of_c, of_m))
    if len(steps) > 1:
        return chain
    return _set_new_state(chain, single_step.of_block(scope, steps[0], (c[0], m[0])))


def _order(scope: Scope, steps: Mapping[str, tuple[Tensor, One]]) -> list[list[One]]:
    """Return the chains of steps in order; a cell that is used twice has two.

    Args:
        steps: the old c and the step, by the node of the new c.
    """
    before = {end: _trace_back(scope, old, steps) for end, (old, _) in steps.items()}
    after = {old: end for end, old in before.items()}
    found = []
    for end in [end for end, old in before.items() if old is None]:
        ends = [end]
        while ends[-1] in after:
            ends.append(after[ends[-1]])
        found.append([steps[one][1] for one in ends])
    return found


def _trace_back(scope: Scope, start: Tensor, ends: Container[str]) -> str | None:
    """Return the nearest of some nodes that a state comes from, with no product between."""
    way = behind(scope.nodes, [start], lambda node: node.op in ELEMENTWISE | _LAYING, _NEAR)
    return next((tensor.node for tensor, _ in way if tensor.node in ends), None)


def _make_chain(
    scope: Scope,
    wired: GraphCell,
    steps: Sequence[GraphStep],
    recurrent: frozenset[str],
) -> Chain | None:
    """Return the chain of some steps, None if a tensor between them is not found.

    Args:
        recurrent: the nodes of the weights of m.
    """
    c_read = [_find_old_c(scope, step.c_new, step.c_old) for step in steps]
    operands = [_find_operands(scope, step, recurrent) for step in steps]
    is_single = len(steps) == 1
    if is_single and None in operands[0]:
        products = _find_products(scope, steps[0])
        operands = [single_step.operands(scope, products, steps[0].m, c_read[0])]
    c = _find_states(scope, [Tensor(step.c_new.name) for step in steps], c_read)
    made = [Tensor(step.m.name) for step in steps if step.m is not None]
    m = _find_states(scope, made, [read for _, read in operands])
    x = tuple(tensor for tensor, _ in operands if tensor is not None)
    if c is None or m is None or len(x) != len(steps):
        return None
    kernels = tuple(node.name for shards in wired.kernels for node in shards)
    entries = _find_entries(scope, steps[0], c[0], m[0], x[0])
    chain = Chain(kernels, c, m, x, steps[0].c_new.name.rpartition("/")[0], entries)
    if not is_single:
        return chain
    return _set_new_state(chain, single_step.new_state(scope, wired, steps[0], (c[0], m[0])))


def _set_new_state(chain: Chain, made: single_step.StateAfterStep) -> Chain:
    """Return the chain of a single step with its new state."""
    c, m = zip(chain.initial, (made.c, made.m), strict=True)
    return chain._replace(c=c, m=m, problem=made.problem, doubt=made.doubt)


def _find_entries(
    scope: Scope, step: GraphStep, c: Tensor, m: Tensor, x: Tensor
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return the inputs of nodes that read c and m in a first step.

    If c and m are one tensor, m is the one that goes into products.
    """
    found: tuple[list[Tensor], list[Tensor]] = ([], [])
    for node in _step_nodes(scope, step, {c.node, m.node, x.node}):
        is_product = node.op in CONCATS or node.op in PRODUCTS
        for at, tensor in enumerate(data_inputs(node)):
            if tensor in (c, m):
                is_m = tensor == m and (c != m or is_product)
                found[is_m].append(Tensor(node.name, at, "input"))
    return tuple(found[0]), tuple(found[1])


def _step_nodes(
    scope: Scope, step: GraphStep, ends: Container[str], stops: Container[str] = VARIABLE_OPS
) -> list[Node]:
    """Return the nodes of a step, back from its new state.

    Args:
        ends: the nodes with its inputs, which are left out.
        stops: the operations whose inputs are not of interest.
    """
    starts = [Tensor(node.name) for node in (step.c_new, step.m) if node is not None]
    way = behind(
        scope.nodes,
        starts,
        lambda node: node.op not in stops and node.name not in ends,
        _FAR,
    )
    return [node for node in dict.fromkeys(node for _, node in way) if node.name not in ends]


def _find_old_c(scope: Scope, c_new: Node, c_old: Node) -> Tensor | None:
    """Return the output of the old c's node that goes into the sum."""
    factors = (
        tensor for term in data_inputs(c_new) for tensor in data_inputs(node_at(scope.nodes, term))
    )
    return next((tensor for tensor in factors if tensor.node == c_old.name), None)


def _find_products(scope: Scope, step: GraphStep) -> list[Node]:
    """Return the products that the gates of a step are computed from."""
    nodes = _step_nodes(scope, step, {step.c_old.name}, PRODUCTS.keys() | VARIABLE_OPS)
    return [node for node in nodes if node.op in PRODUCTS]


def _find_weights(scope: Scope, weights: Sequence[Tensor]) -> frozenset[str]:
    """Return the variables that some weights are computed from."""
    return frozenset(origins(scope.nodes, weights, {}).variables)


def _is_carried(scope: Scope, tensor: Tensor) -> bool:
    """Whether a state comes from a loop variable, so that the step is within the loop."""
    for _ in range(10):
        node = node_at(scope.nodes, tensor)
        if node.op not in ELEMENTWISE | _LAYING | SWITCHES:
            break
        tensor = data_inputs(node)[0]
    return node.op in MERGES


def _find_recurrent(scope: Scope, chains_of: Iterable[Sequence[GraphStep]]) -> frozenset[str]:
    """Return the weights of m, if the input has weights of its own."""
    return frozenset(
        name
        for steps in chains_of
        for before, step in pairwise(steps)
        for operand, *weights in map(data_inputs, _find_products(scope, step))
        if before.m is not None and _trace_back(scope, operand, (before.m.name,))
        for name in _find_weights(scope, weights[:1])
    )


def _find_operands(
    scope: Scope, step: GraphStep, recurrent: frozenset[str]
) -> tuple[Tensor | None, Tensor | None]:
    """Return the tensors of x and of the old m that a step multiplies with its weights."""
    if step.m_old is not None and step.x is not None:
        users = (scope.users.get(node.name, ()) for node in (step.m_old, step.x))
        for user, _ in min(users, key=len):  # many cells may share an initial state of zeros
            given = data_inputs(user)
            by_node = {tensor.node: tensor for tensor in given}
            joined = {step.x.name, step.m_old.name} <= by_node.keys()
            if user.op in CONCATS and joined:
                return by_node[step.x.name], by_node[step.m_old.name]
    sides: tuple[set[Tensor], set[Tensor]] = (set(), set())
    for product in _find_products(scope, step):
        is_m = not recurrent.isdisjoint(_find_weights(scope, data_inputs(product)[1:2]))
        sides[is_m].add(data_inputs(product)[0])
    x, m = (next(iter(side)) if len(side) == 1 else None for side in sides)
    return x, m


def _find_states(
    scope: Scope, made: Sequence[Tensor], read: Sequence[Tensor | None]
) -> tuple[Tensor, ...] | None:
    """Return the state before the first step and after each step.

    The graph may change the state between two steps (clip, project, decay). If it changes the
    initial state in the same way, each state is the value before the change, else the value after.
    """
    taken = [tensor for tensor in read if tensor is not None]
    if len(taken) != len(made):
        return None
    root, entry = _find_root(scope, taken[0])
    if len(made) == 1:
        return (root, made[0])  # see `single_step`
    way = between(scope.nodes, made[0].node, taken[1], _is_of_state, _NEAR)
    if way is None:
        return None
    changed: list[Node] = []
    for node in way:
        kept = before_dropout(scope.nodes, node)
        names = [made[0].node, *(one.name for one in changed)]
        if kept is not None and kept.node in names:
            del changed[names.index(kept.node) :]
            continue
        joined = next((one for one in reversed(changed) if one.op != "Identity"), None)
        if node.op in _CUTS and joined is not None and joined.op in CONCATS:
            del changed[changed.index(joined) :]  # taken apart again by the next step
        else:
            changed.append(node)
    if entry and entry == [node.op for node in changed if node.op != "Identity"]:
        changed = []
    elif entry:
        return None
    states = [root]
    for tensor in made:
        found = _follow(scope, tensor, changed, states[-1])
        if found is None:
            return None
        states.append(found)
    return tuple(states)


def _find_root(scope: Scope, tensor: Tensor) -> tuple[Tensor, list[str]]:
    """Return the source of an initial state, and the types of operations that change it."""
    entry: list[str] = []
    for _ in range(_NEAR):
        node = node_at(scope.nodes, tensor)
        free = [one for one in data_inputs(node) if not _is_constant(scope, one)]
        if node.op not in ELEMENTWISE or len(free) != 1:
            break
        if node.op != "Identity":
            entry.insert(0, node.op)
        tensor = free[0]
    return tensor, entry


def _is_constant(scope: Scope, tensor: Tensor) -> bool:
    """Whether a factor is a constant, a variable, or 1 - mask."""
    node = node_at(scope.nodes, tensor)
    node = input_at(scope.nodes, node, 0) if node.op == "Sub" else node
    return node.op in _CONSTANTS


def _is_of_state(node: Node) -> bool:
    """Whether a node may be between a step's result and what the next step reads."""
    return node.op in ELEMENTWISE | _LAYING | PRODUCTS.keys() | {"BiasAdd"}


def _follow(scope: Scope, made: Tensor, way: Sequence[Node], before: Tensor) -> Tensor | None:
    """Return the result of the same operations after the result of another step.

    Args:
        way: the operations.
        before: the state before that other step.
    """
    name = made.node
    for node in way:
        users = {
            user.name: user
            for user, position in scope.users.get(name, ())
            if user.op == node.op
            and (name != made.node or data_inputs(user)[position : position + 1] == [made])
        }
        if len(users) > 1:  # such as the products with each shard of a projection
            given = set(data_inputs(node))
            users = {
                one: user
                for one, user in users.items()
                if any(tensor in given for tensor in data_inputs(user) if tensor.node != name)
                or before in data_inputs(user)
                or keeps(scope, one, before)
            }
        if len(users) != 1:
            return None
        (name,) = users
    return Tensor(name) if way else made


def keeps(scope: Scope, name: str, state: Tensor) -> bool:
    """Whether a node passes on an old state instead of a new value after the end of a sequence."""
    passing = _CHOOSING | SWITCHES | MERGES

    def others(node: Node) -> list[Tensor]:
        return [scope.unchosen[node.name]] if node.name in scope.unchosen else []

    def into(node: Node) -> list[Tensor]:
        return data_inputs(node) + others(node) if node.op in passing else []

    starts = others(scope.nodes[name])
    return any(one == state for one, _ in behind(scope.nodes, starts, None, _NEAR, into))
