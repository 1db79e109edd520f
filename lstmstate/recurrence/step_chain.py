"""Unrolled steps of a cell: the chain of its states in a graph without a loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Sequence
from itertools import pairwise

from lstmstate.cells.from_graph.graph_cell import Wired, WiredStep
from lstmstate.checkpoint.graph import VARIABLE_OPS
from lstmstate.checkpoint.graph_node import Node
from lstmstate.graph.dropout import undropped
from lstmstate.graph.evaluate import Scope
from lstmstate.graph.loops import MERGES, SWITCHES, Tensor, data_inputs
from lstmstate.records import NamedTuple
from lstmstate.recurrence import single_step
from lstmstate.recurrence.data_path import origins
from lstmstate.recurrence.states import ELEMENTWISE, PRODUCTS, Path

# Operations that concatenate states and split them again.
_JOINS = frozenset({"Concat", "ConcatV2"})
_CUTS = frozenset({"Split", "SplitV", "Slice", "StridedSlice"})
_LAYING = _JOINS | _CUTS
_CHOOSING = frozenset({"Select", "SelectV2", "Identity"})
_BLOCKS = frozenset({"LSTMBlockCell", "LSTMFusedCell"})
_NEAR = 150  # nodes between a state and the next step: shards of a projection and clips
_FAR = 400  # nodes of a step, from its gates back to its products


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


def chains(scope: Scope, cells: Iterable[Wired]) -> list[Chain]:
    """Return the chains of known cells outside of loops."""
    found = _find_block_chains(scope)
    for wired in cells:
        steps = [step for step in wired.steps if step.m is not None]
        if not scope.is_frame(wired.frame) and steps and len(steps) == len(wired.steps):
            ordered = _order_steps(scope, steps)
            recurrent = _find_recurrent(scope, ordered)
            made = (_make_chain(scope, wired, one, recurrent) for one in ordered)
            found += [chain for chain in made if chain is not None]
    return found


def _find_block_chains(scope: Scope) -> list[Chain]:
    """Return the chains of operations that compute one step each, such as LSTMBlockCell."""
    blocks: dict[frozenset[str], list[Node]] = {}
    for node in scope.nodes.values():
        given = data_inputs(node) if node.op in _BLOCKS else []
        inside = any(_is_carried(scope, tensor) for tensor in given[1:3])
        if len(given) == 8 and not inside and not scope.is_inner(node.name):
            blocks.setdefault(_find_weights(scope, given[3:4]), []).append(node)
    found = []
    for kernels, nodes in blocks.items():
        after: dict[str, Node] = {}
        by_name = {node.name: node for node in nodes}
        first = []
        for node in nodes:
            way = _trace_back(scope, data_inputs(node)[1], by_name)
            if way is None:
                first.append(node)
            else:
                after[way[0]] = node
        for node in first:
            ordered = [node]
            while ordered[-1].name in after:
                ordered.append(after[ordered[-1].name])
            x, c, m = ([data_inputs(one)[at] for one in ordered] for at in range(3))
            states = [
                _find_states(scope, [Tensor(one.name, port) for one in ordered], read)
                for port, read in ((1, c), (6, m))
            ]
            if states[0] is not None and states[1] is not None:
                scope_name = node.name.rpartition("/")[0]
                entries = tuple(
                    (Tensor(node.name, port, "input"),)
                    if state[0] == data_inputs(node)[port]
                    else ()
                    for port, state in zip((1, 2), (states[0], states[1]), strict=True)
                )
                chain = Chain(
                    tuple(kernels),
                    states[0],
                    states[1],
                    tuple(x),
                    scope_name,
                    (entries[0], entries[1]),
                )
                if len(ordered) == 1:
                    old = (chain.c[0], chain.m[0])
                    chain = _set_new_state(chain, single_step.of_block(scope, node, old))
                found.append(chain)
    return found


def _order_steps(scope: Scope, steps: Sequence[WiredStep]) -> list[list[WiredStep]]:
    """Return the chains of steps in order; a cell that is used twice has two."""
    by_end = {step.c_new.name: step for step in steps}
    after: dict[str, WiredStep] = {}
    first = []
    for step in steps:
        way = _trace_back(scope, Tensor(step.c_old.name), by_end)
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


def _trace_back(
    scope: Scope, start: Tensor, ends: Container[str]
) -> tuple[str, tuple[str, ...]] | None:
    """Return the end that a tensor comes from, with the nodes from the end to the tensor."""
    queue: deque[tuple[str, tuple[str, ...]]] = deque([(start.node, (start.node,))])
    seen = {start.node}
    while queue and len(seen) < _NEAR:
        name, way = queue.popleft()
        if name in ends:
            return name, way[::-1]
        node = scope.nodes.get(name)
        if node is None or node.op not in ELEMENTWISE | _LAYING:
            continue
        for tensor in data_inputs(node):
            if tensor.node not in seen:
                seen.add(tensor.node)
                queue.append((tensor.node, (*way, tensor.node)))
    return None


def _make_chain(
    scope: Scope,
    wired: Wired,
    steps: Sequence[WiredStep],
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


def _set_new_state(chain: Chain, made: single_step.Made) -> Chain:
    """Return the chain of a single step with its new state."""
    c, m = (chain.c[0], made.c), (chain.m[0], made.m)
    return chain._replace(c=c, m=m, problem=made.problem, doubt=made.doubt)


def _find_entries(
    scope: Scope, step: WiredStep, c: Tensor, m: Tensor, x: Tensor
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return the inputs of nodes that read c and m in a first step.

    If c and m are one tensor, m is the one that goes into products.
    """
    found: tuple[list[Tensor], list[Tensor]] = ([], [])
    ends = [node.name for node in (step.c_new, step.m) if node is not None]
    queue, seen = deque(ends), {*ends, c.node, m.node, x.node}
    while queue and len(seen) < _FAR:
        node = scope.nodes.get(queue.popleft())
        if node is None or node.op in VARIABLE_OPS:
            continue
        is_product = node.op in _JOINS or node.op in PRODUCTS
        for at, tensor in enumerate(data_inputs(node)):
            if tensor in (c, m):
                is_m = tensor == m and (c != m or is_product)
                found[is_m].append(Tensor(node.name, at, "input"))
            if tensor.node not in seen:
                seen.add(tensor.node)
                queue.append(tensor.node)
    return tuple(found[0]), tuple(found[1])


def _find_old_c(scope: Scope, c_new: Node, c_old: Node) -> Tensor | None:
    """Return the output of the old c's node that goes into the sum."""
    for term in data_inputs(c_new):
        product = scope.nodes.get(term.node)
        for tensor in data_inputs(product) if product is not None else []:
            if tensor.node == c_old.name:
                return tensor
    return None


def _find_products(scope: Scope, step: WiredStep) -> list[Node]:
    """Return the products that the gates of a step are computed from."""
    queue = deque([step.c_new.name, *([step.m.name] if step.m is not None else [])])
    seen: set[str] = set()
    found = []
    while queue and len(seen) < _FAR:
        node = scope.nodes.get(queue.popleft())
        if node is None or node.name in seen or node.name == step.c_old.name:
            continue
        seen.add(node.name)
        if node.op in PRODUCTS:
            found.append(node)
        elif node.op not in VARIABLE_OPS:
            queue += [tensor.node for tensor in data_inputs(node)]
    return found


def _find_weights(scope: Scope, weights: Sequence[Tensor]) -> frozenset[str]:
    """Return the variables that some weights are computed from."""
    return frozenset(origins(scope.nodes, weights, {}).variables)


def _is_carried(scope: Scope, tensor: Tensor) -> bool:
    """Whether a state comes from a loop variable, so that the step is within the loop."""
    for _ in range(10):
        node = scope.nodes.get(tensor.node)
        if node is None or node.op not in ELEMENTWISE | _LAYING | SWITCHES | MERGES:
            return False
        if node.op in MERGES:
            return True
        tensor = data_inputs(node)[0]
    return False


def _find_recurrent(scope: Scope, chains_of: Iterable[Sequence[WiredStep]]) -> frozenset[str]:
    """Return the weights of m, if the input has weights of its own."""
    found: set[str] = set()
    for steps in chains_of:
        for before, step in pairwise(steps):
            for product in _find_products(scope, step):
                if before.m is not None and _trace_back(
                    scope, data_inputs(product)[0], (before.m.name,)
                ):
                    found |= _find_weights(scope, data_inputs(product)[1:2])
    return frozenset(found)


def _find_operands(
    scope: Scope, step: WiredStep, recurrent: frozenset[str]
) -> tuple[Tensor | None, Tensor | None]:
    """Return the tensors of x and of the old m that a step multiplies with its weights."""
    if step.m_old is not None and step.x is not None:
        users = (scope.users.get(node.name, ()) for node in (step.m_old, step.x))
        for user, _ in min(users, key=len):  # many cells may share an initial state of zeros
            given = data_inputs(user)
            by_node = {tensor.node: tensor for tensor in given}
            joined = {step.x.name, step.m_old.name} <= by_node.keys()
            if user.op in ("ConcatV2", "Concat") and joined:
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
    way = _find_between(scope, made[0], taken[1])
    if way is None:
        return None
    changed: list[Node] = []
    for node in way:
        kept = undropped(scope.nodes, node)
        names = [made[0].node, *(one.name for one in changed)]
        if kept is not None and kept.node in names:
            del changed[names.index(kept.node) :]
            continue
        joined = next((one for one in reversed(changed) if one.op != "Identity"), None)
        if node.op in _CUTS and joined is not None and joined.op in _JOINS:
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
        node = scope.nodes.get(tensor.node)
        given = data_inputs(node) if node is not None else []
        if node is None or node.op not in ELEMENTWISE or not given:
            break
        rest = [one for one in given if _is_constant(scope, one) or _is_mask(scope, one)]
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


def _is_mask(scope: Scope, tensor: Tensor) -> bool:
    """Whether a factor is 1 - mask."""
    node = scope.nodes.get(tensor.node)
    given = data_inputs(node) if node is not None and node.op == "Sub" else []
    return bool(given) and _is_constant(scope, given[0])


def _find_between(scope: Scope, made: Tensor, read: Tensor) -> list[Node] | None:
    """Return the nodes between a step's result and the tensor that the next step reads."""
    queue: deque[tuple[str, tuple[str, ...]]] = deque([(read.node, (read.node,))])
    seen = {read.node}
    allowed = ELEMENTWISE | _LAYING | PRODUCTS.keys() | {"BiasAdd"}
    while queue and len(seen) < _NEAR:
        name, way = queue.popleft()
        if name == made.node:
            return [scope.nodes[step] for step in way[::-1][1:]]
        node = scope.nodes.get(name)
        for tensor in data_inputs(node) if node is not None and node.op in allowed else []:
            if tensor.node not in seen:
                seen.add(tensor.node)
                queue.append((tensor.node, (*way, tensor.node)))
    return None


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
    queue = [scope.unchosen[name]] if name in scope.unchosen else []
    seen = set(queue)
    while queue and len(seen) < _NEAR:
        tensor = queue.pop()
        if tensor == state:
            return True
        node = scope.nodes.get(tensor.node)
        if node is not None and node.op in _CHOOSING | SWITCHES | MERGES:
            others = [scope.unchosen[node.name]] if node.name in scope.unchosen else []
            before = [one for one in (*data_inputs(node), *others) if one not in seen]
            seen.update(before)
            queue += before
    return False
