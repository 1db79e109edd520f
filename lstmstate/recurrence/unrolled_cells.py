"""Cells in unrolled steps, the sequences that the steps read, and their outputs."""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import copy
from functools import partial
from itertools import combinations, islice, product
from typing import Any

import numpy as np

from lstmstate.cells.from_graph.graph_cell import GraphCell
from lstmstate.checkpoint.graph import VARIABLE_OPS
from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.op_sets import ADDING, JOINING, SELECTS
from lstmstate.errors import LstmstateError, UnsupportedError, printable
from lstmstate.graph.dropout import before_dropout
from lstmstate.graph.evaluate import Scope
from lstmstate.graph.tensors import Tensor, behind, data_inputs, node_at, past
from lstmstate.named_tuple import NamedTuple
from lstmstate.recurrence.data_path import READS_SIZES, Front, front_of, origins, tail_of
from lstmstate.recurrence.find_states import JUMPS, Causes, take
from lstmstate.recurrence.graph_network import Output, Port, Recurrence, RecurrentCell, name_of
from lstmstate.recurrence.loop_cells import leads_to
from lstmstate.recurrence.probe import OPEN, Probe
from lstmstate.recurrence.sequence_ends import Straight
from lstmstate.recurrence.step_chain import Chain, chains, keeps
from lstmstate.recurrence.unrolled import are_same, find_unrolled, fixed_batch, with_batch

_NEAR = 60  # nodes between the input of a step and x, or the states of another chain
# The axis that a step is cut out of, by whether it changes with the corners [0, 0], [0, -1] and
# [-1, 0] of the sequence: the first or the last row, the first or the last column.
_AXES = {
    (True, True, False): 0,
    (False, False, True): 0,
    (True, False, True): 1,
    (False, True, False): 1,
}
_BARE = frozenset({"Identity", "ExpandDims"})
_FAR = 400  # nodes between a joined value and the states of its step
_Values = tuple[Tensor, ...]


def chain_drafts(
    probe: Probe, names: Mapping[str, str], wired: Iterable[GraphCell], others: list[str]
) -> Iterator[Recurrence]:
    """Yield a recurrence for each chain of unrolled steps; its connections are still unknown."""
    graph, probe = probe, probe.on_straight()
    straight = graph.straight
    known = chains(probe.scope, [_move_outside(straight, one) for one in wired])
    more = find_unrolled(probe)
    # If the states of several layers are one tensor, only the structure shows their order.
    reading = Counter(chain.x for chain in more)
    doubled = {chain.x for chain in more if any(_is_one(one, chain) for one in known)}
    more = [
        chain for chain in more if chain.x not in doubled or (chain.x and reading[chain.x] == 1)
    ]
    known = [chain for chain in known if not any(_is_one(chain, other) for other in more)]
    every = [_restore_branches(straight, chain) for chain in (*known, *more)]
    begun = Counter(tensor for chain in every for tensor in chain.initial)
    placed = [_find_placed(chain) for chain in every]
    whole = set().union(*placed)
    for chain, parts in zip(every, placed, strict=True):
        whole -= {*chain.initial} - parts
    continued = _find_continued(probe, every)
    for at, (chain, some) in enumerate(zip(every, _find_joins(probe.scope, every), strict=True)):
        try:
            if chain.problem is not None:
                raise UnsupportedError(chain.problem)
            if at in continued:
                raise UnsupportedError("the graph starts it again within one sequence")
            starts = {*chain.initial} - whole
            is_shared = any(begun[tensor] > 1 for tensor in starts)
            output = _find_output(probe.scope, chain, some)
            if is_shared and (
                not all(chain.entries)
                or {*chain.initial} & {*(output.tensors if output else chain.m[1:])}
            ):
                raise UnsupportedError(
                    "several initial states are one tensor, and cannot be fed separately"
                )
            after = (chain.c[1], chain.m[1])
            look = partial(Probe.values, tensors=after)
            starts_at = (*chain.initial, *chain.x[:1])
            shapes, batch = with_batch(probe, chain.steps, starts_at, look)
            batch = batch or fixed_batch(probe, chain.steps, after)
        except LstmstateError as error:
            others.append(f"{printable(chain.scope)}: {error}")
            continue
        c, m = (
            Port(
                states[0],
                place,
                states[0],
                states[-1],
                place,
                states[1:],
                place,
                take(value, place).shape[-1],
                str(value.dtype),
                is_apart=True,
                entries=entries if is_shared else (*entries, states[0]),
            )
            for states, value, place, entries in zip(
                (chain.c, chain.m), shapes, chain.places, chain.entries, strict=True
            )
        )
        name, is_known = name_of(chain.kernels, names)
        yield Recurrence(
            chain.scope,
            (RecurrentCell(name, c, m, chain.scope, is_known),),
            chain.x,
            tuple(front_of(probe.scope.nodes, x) for x in chain.x),
            (),
            tuple(tensor.node for tensor in chain.made),
            output or Output.of_m(m),
            chain.steps,
            batch,
            _find_causes(graph, chain, output),
            is_chain=True,
            doubt=chain.doubt,
        )


def _find_placed(chain: Chain) -> set[Tensor]:
    """Return the tensors whose parts are initial states of a chain, if their place is known."""
    return {one for one, place in zip(chain.initial, chain.places, strict=True) if place}


def _move_outside(straight: Straight, wired: GraphCell) -> GraphCell:
    """Return a cell whose steps read tensors outside of the branches."""
    if not straight.is_other:
        return wired

    def outside(node: Node | None) -> Any:
        return node and straight.scope.nodes[straight.behind(Tensor(node.name)).node]

    found = copy(wired)
    found.steps = [
        step._replace(c_old=outside(step.c_old), m_old=outside(step.m_old), x=outside(step.x))
        for step in wired.steps
    ]
    return found


def _restore_branches(straight: Straight, chain: Chain) -> Chain:
    """Return a chain with the tensors of the graph itself, with its branches.

    It has no entries: other branches read the states, too.
    """
    if not straight.is_other:
        return chain
    c, m, x = (tuple(map(straight.behind, some)) for some in (chain.c, chain.m, chain.x))
    return chain._replace(c=c, m=m, x=x, entries=((), ()))


def _find_causes(probe: Probe, chain: Chain, output: Output | None) -> Causes:
    """Return the reasons why steps may differ for values or sizes that are not tried."""
    read = [tensor for entries in chain.entries for tensor in entries]
    made = [*chain.made, *(output.tensors if output else ())]
    known = {tensor.node: 0 for tensor in (*chain.initial, *probe.fed_ends)}
    sizes = origins(probe.scope.nodes, made, known).sizes
    plan = probe.compile(made, [*chain.x, *read, *chain.initial, *probe.fed_ends])
    jumps = sorted(plan.operations & JUMPS)
    return Causes(
        READS_SIZES if sizes else None,
        f"its steps compare or round values ({jumps[0]})" if jumps else None,
    )


def _find_continued(probe: Probe, every: Sequence[Chain]) -> set[int]:
    """Return the chains of one cell that read different parts of the same sequence."""
    nodes = probe.scope.nodes
    sources = [{node.name for node in origins(nodes, one.x, {}).sources} for one in every]
    of_kernel: dict[str, list[int]] = {}
    for at, chain in enumerate(every):
        for kernel in chain.kernels if chain.x else ():
            of_kernel.setdefault(kernel, []).append(at)
    found: set[int] = set()
    for group in of_kernel.values():
        for one, other in combinations(group, 2):
            if not sources[one].isdisjoint(sources[other]) and not any(
                are_same(nodes, *pair) for pair in product(every[one].x, every[other].x)
            ):
                found |= {one, other}
    return found


def _is_one(chain: Chain, other: Chain) -> bool:
    """Whether two chains are the steps of one cell over the same sequence."""
    if not {*chain.made}.isdisjoint(other.made):
        return True
    same_weights = not set(chain.kernels).isdisjoint(other.kernels)
    return same_weights and not set(chain.x).isdisjoint(other.x)


def _find_output(scope: Scope, chain: Chain, some: Iterable[tuple[Node, _Values]]) -> Output | None:
    """Return the output that the graph joins from the steps of a chain, None for m.

    Args:
        some: the nodes that may join it; see `_find_joins`.
    """
    found = _find_joined(scope, chain, some)
    if not found:
        apart = _find_outputs_apart(scope, chain)
        if apart is None:
            return None
        values, is_m = apart
        given = Output(values, (), 0, is_m=is_m, is_own=False, is_apart=True)
        return given._replace(by_step=True)
    values, is_m, node = found[0]
    within = f"{values[0].node.rpartition('/')[0]}/".startswith(f"{chain.scope}/")
    is_own = within and not leads_to(scope.nodes, values[0], chain.m[1])
    is_own &= not _is_chosen(scope, values[0], chain.m[1])
    is_own = not is_m and (is_own or len(found) > 1)
    axis = node.number("axis") or 0
    if node.op == "Pack" and axis in (0, 1):
        tail = tail_of(scope, Tensor(node.name), turned=axis == 1)
        if tail.reversed:
            return Output((tail.tensor,), (), int(tail.turned), is_m=is_m, is_own=is_own)
    return Output(values, (), 0, is_m=is_m, is_own=is_own, is_apart=True)


def _is_chosen(scope: Scope, value: Tensor, m: Tensor) -> bool:
    """Whether a value and m are results of a Select with a common input, as with masks."""
    both = [scope.nodes[tensor.node] for tensor in (value, m)]
    given = [data_inputs(node)[1:] for node in both if node.op in SELECTS]
    return len(given) == 2 and not set(given[0]).isdisjoint(given[1])


def chain_front(probe: Probe, draft: Recurrence, ends: dict[str, int]) -> tuple[Front, ...]:
    """Return the source of the sequence that a chain reads step by step."""
    initial = {port.initial.node: -1 for cell in draft.cells for port in cell.ports}
    cut = ChainMap(initial, ends)
    way = origins(probe.scope.nodes, draft.values, cut)
    fed = [Tensor(node.name) for node in way.sources if probe.is_fed(Tensor(node.name))]
    fed = [tensor for tensor in fed if tensor not in probe.lengths]
    if len(fed) != 1:
        return tuple(map(Front, fed))
    is_turned = _is_batch_major(probe, draft, fed[0])
    is_reversed = _is_backward(probe, draft, fed[0], axis=int(is_turned))
    return (Front(fed[0], turned=is_turned, reversed=is_reversed),)


def turned_front(
    probe: Probe,
    draft: Recurrence,
    before: Sequence[Recurrence],
    sides: Sequence[tuple[Front, ...]],
) -> tuple[Front, ...]:
    """Return a reversed front if a chain begins at the last step of the chains that it reads.

    Args:
        before: all drafts.
        sides: the fronts of the first drafts, as far as they are known.
    """
    times: dict[str, int] = {}
    for other, fronts in zip(before, sides, strict=False):
        is_reversed = any(front.reversed for front in fronts)
        for cell in other.cells if other.is_chain and other.steps == draft.steps else ():
            for port in cell.ports:
                every = port.steps[::-1] if is_reversed else port.steps
                times |= {tensor.node: time for time, tensor in enumerate(every)}
    nodes, start = probe.scope.nodes, draft.values[:1]
    way = behind(nodes, start, lambda node: node.name not in times, _NEAR)
    found = {times[tensor.node] for tensor, _ in way if tensor.node in times}
    is_last = found == {(draft.steps or 0) - 1} and draft.steps != 1
    return (Front(draft.values[0], reversed=True),) if is_last else ()


def _is_backward(probe: Probe, draft: Recurrence, x: Tensor, axis: int) -> bool:
    """Whether the first step of a chain reads the last step of its input, and not the first."""
    steps = draft.steps or 1
    static, _ = probe.describe(x)
    open_axes = (at for at, size in enumerate(static) if size is None)
    fed = probe.fed_value(x, [steps if at == axis else OPEN for at in open_axes])
    probe = probe.with_lengths(steps)
    if fed.ndim < 2 or steps == 1:
        return False
    plan = probe.compile(draft.values[:1])
    with suppress(UnsupportedError):
        usual = probe.run(plan, {x: fed})
        changed = []
        for end in (0, -1):
            other = np.moveaxis(fed.copy(), axis, 0)
            other[end] += 1
            moved = probe.run(plan, {x: np.moveaxis(other, 0, axis)})
            changed.append(not np.array_equal(usual[0], moved[0]))
        return changed == [False, True]
    return False


def _is_batch_major(probe: Probe, draft: Recurrence, x: Tensor) -> bool:
    """Whether the second axis of a chain's input is that of time."""
    steps = draft.steps or 1
    batch = OPEN if steps != OPEN else OPEN + 1
    first = draft.values[0]
    for tensor in (first, _find_reader(probe, first, x)):
        if tensor is None or len(probe.fed_value(x, ()).shape) < 2:
            continue
        for axis, sizes in ((1, (batch, steps)), (0, (steps, batch))):
            fed = probe.fed_value(x, sizes)
            with suppress(UnsupportedError):
                (value,) = probe.run(probe.compile([tensor]), {x: fed})
                time, rows = fed.shape[axis], fed.shape[1 - axis]
                if time == steps != rows and np.shape(value)[:1] == (rows,):
                    return axis == 1
        read = _find_axis_read(probe, tensor, x, steps)
        if read is not None:
            return read == 1
    raise UnsupportedError("the graph does not show which axis is time", tensor=x.node)


def _find_reader(probe: Probe, first: Tensor, x: Tensor) -> Tensor | None:
    """Return the tensor nearest to the first step's input that is computed directly from x."""
    way = behind(probe.scope.nodes, [first], limit=_NEAR)
    return next((tensor for tensor, node in way if x in data_inputs(node)), None)


def _find_axis_read(probe: Probe, step: Tensor, x: Tensor, steps: int) -> int | None:
    """Return the axis of a sequence that a step is cut out of, if both have the same size."""
    fed = probe.fed_value(x, (steps, steps))
    if steps == 1 or fed.shape[:2] != (steps, steps):
        return None
    plan = probe.compile([step])
    changed = []
    try:
        (usual,) = probe.run(plan, {x: fed})
        for corner in ((0, 0), (0, -1), (-1, 0)):
            other = fed.copy()
            other[corner] += 1
            (value,) = probe.run(plan, {x: other})
            changed.append(not np.array_equal(usual, value))
    except UnsupportedError:
        return None
    return _AXES.get((changed[0], changed[1], changed[2]))


class _Joined(NamedTuple):
    """A value for each step, in the order of the node that joins them.

    Attributes:
        is_m: whether the values are m itself.
        node: the node that joins them.
    """

    values: tuple[Tensor, ...]
    is_m: bool
    node: Node


def _find_joins(scope: Scope, chains: Sequence[Chain]) -> list[list[tuple[Node, _Values]]]:
    """Return for each chain the nodes that may join its outputs, with the joined values.

    Such a node joins as many values as the chain has steps, and its last value is near the states.
    """
    owners: dict[str, dict[int, None]] = {}
    counts: set[int] = set()
    for at, chain in enumerate(chains):
        counts.add(chain.steps)
        for tensor in (*chain.c, *chain.m):
            owners.setdefault(tensor.node, {})[at] = None
    found: list[list[tuple[Node, _Values]]] = [[] for _ in chains]
    for node in scope.nodes.values() if chains else ():
        values = _find_values(scope, node) if node.op in JOINING else ()
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

    def enter(node: Node) -> bool:
        return node.name not in ends and node.op not in VARIABLE_OPS

    return (one.node for one, _ in behind(nodes, [tensor], enter))


def _find_joined(scope: Scope, chain: Chain, some: Iterable[tuple[Node, _Values]]) -> list[_Joined]:
    """Return the joined values that come from the steps of a chain, m first.

    Args:
        some: the nodes that may join them; see `_find_joins`.
    """
    number = {tensor.node: at for states in (chain.c, chain.m) for at, tensor in enumerate(states)}
    steps = chain.m[1:]
    found: dict[_Values, _Joined] = {}
    for node, values in some:
        if values in (steps, steps[::-1]):
            found[values] = _Joined(values, True, node)
        elif any(_follow_one_another(scope.nodes, way, number) for way in (values, values[::-1])):
            found[values] = _Joined(values, False, node)
    return sorted(found.values(), key=lambda one: not one.is_m)


def _find_outputs_apart(scope: Scope, chain: Chain) -> tuple[_Values, bool] | None:
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
        readers = (user.name for end in ends for user, _ in scope.readers(end))
        ends = [Tensor(name) for name in readers if name in scope.unchosen]
    others = [end for end in dict.fromkeys(ends) if not keeps(scope, end.node, before)]
    return others[0] if len(others) == 1 else None


def _find_residuals(scope: Scope, states: Sequence[Tensor], x: Sequence[Tensor]) -> _Values | None:
    """Return the sums of m and each step's input; None if a step has no such sum.

    `cells.from_graph.residual` only marks a cell that has such a sum at any step.
    """
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
                elif before_dropout(scope.nodes, user) == tensor:
                    queue.append(Tensor(user.name))
        if len(sums) != 1:
            return None
        found += sums
    return tuple(found)


def _skip_dropout(nodes: Mapping[str, Node], tensor: Tensor) -> Tensor:
    """Return the value of a tensor before dropout."""
    kept = before_dropout(nodes, node_at(nodes, tensor))
    return past(nodes, tensor if kept is None else kept, _BARE)


def _find_values(scope: Scope, node: Node) -> tuple[Tensor, ...]:
    """Return the values that a node joins, before an axis for the steps is added to them."""
    given = data_inputs(node)
    if node.op != "Pack":
        given = given[:-1] if node.op == "ConcatV2" else given[1:]
    return tuple(_skip_bare(scope, tensor) for tensor in given)


def _skip_bare(scope: Scope, tensor: Tensor) -> Tensor:
    for _ in range(10):
        node = node_at(scope.nodes, tensor)
        if node.op not in _BARE or node.name in scope.unchosen:
            break
        tensor = data_inputs(node)[0]
    return tensor


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
