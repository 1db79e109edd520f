"""Networks of a graph: its recurrences, connected as in the graph."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np

from lstmstate.cells.from_graph.graph_cell import GraphCell
from lstmstate.checkpoint.graph_node import Node
from lstmstate.errors import LstmstateError, UnsupportedError, count, printable
from lstmstate.graph.evaluate import Scope
from lstmstate.graph.tensors import Tensor
from lstmstate.named_tuple import NamedTuple
from lstmstate.recurrence.data_path import READS_SIZES, Front, by_place, origins
from lstmstate.recurrence.find_states import PRODUCTS, take
from lstmstate.recurrence.graph_network import (
    GraphNetwork,
    Output,
    Port,
    Recurrence,
    Recurrences,
    RecurrentCell,
    before_the_loop,
    with_own_names,
)
from lstmstate.recurrence.loop_cells import loop_drafts
from lstmstate.recurrence.network_input import input_of
from lstmstate.recurrence.probe import Fed, Probe
from lstmstate.recurrence.sequence_ops import sequence_drafts
from lstmstate.recurrence.unrolled_cells import chain_drafts, chain_front, turned_front

_TRIED = 4  # sizes of a batch
_OPTIONAL = "PlaceholderWithDefault"


# Operations that only rearrange a state, and those that make a state of zeros.
_REARRANGES_STATES = frozenset(
    """
    Split SplitV Slice StridedSlice Unpack Pack Concat ConcatV2 Identity Reshape Squeeze ExpandDims
    Cast Transpose Fill Tile BroadcastTo ZerosLike Enter RefEnter GatherV2 Gather
    """.split()
)


def find_recurrences(
    scope: Scope,
    variable: Callable[[Node], Any],
    names: Mapping[str, str],
    wired: Collection[GraphCell] = (),
    widths: Collection[int] = (),
) -> Recurrences:
    """Return the recurrences of a graph.

    Args:
        variable: returns the value of a variable's node.
        names: the known cell of each variable's node.
        wired: the cells found by their structure, for steps without a loop.
        widths: the input widths of known cells, to try for placeholders without a shape.
    """
    is_open = any(
        node.op == "Placeholder" and node.shape() is None for node in scope.nodes.values()
    )
    candidates: Sequence[int | None] = [*widths][:_TRIED] if is_open else []
    tried = (
        _find_recurrences(Probe(scope, variable, width=width), names, wired)
        for width in candidates or [None]
    )
    return max(tried, key=lambda one: len(one.found))


def _find_recurrences(
    probe: Probe, names: Mapping[str, str], wired: Collection[GraphCell]
) -> Recurrences:
    scope = probe.scope
    others: list[str] = []
    drafts = [
        *loop_drafts(probe, names, others),
        *sequence_drafts(probe, names, others),
        *chain_drafts(probe, names, wired, others),
    ]
    ends = {name: at for at, draft in enumerate(drafts) for name in draft.ends}
    found = []
    sides: list[tuple[Front, ...]] = []
    for draft in drafts:
        fronts = draft.fronts
        if draft.is_chain:
            fronts = ()
            with suppress(LstmstateError):  # its steps can still be fed one by one
                fronts = chain_front(probe, draft, ends)
            fronts = fronts or turned_front(probe, draft, drafts, sides)
        sides.append(fronts)
    for at, (draft, fronts) in enumerate(zip(drafts, sides, strict=True)):
        way = origins(scope.nodes, [*draft.values, *draft.others], ends, at)
        # Steps without a loop are all in the graph, and each is compared.
        is_open = bool(way.recurrences) and not draft.is_chain
        changing = by_place(scope.nodes, draft.values, ends, at) if is_open else None
        is_backward = draft.output.by_step and any(front.reversed for front in fronts)
        is_joined = draft.is_chain and not draft.output.is_state
        joined = origins(scope.nodes, draft.output.tensors if is_joined else (), ends)
        found.append(
            draft._replace(
                fronts=fronts,
                output=draft.output._replace(is_backward=is_backward),
                before=way.recurrences,
                between=changing and (READS_SIZES if way.sizes else before_the_loop(changing)),
                joined=joined.recurrences,
            )
        )
    return Recurrences(probe, tuple(found), tuple(others), ends)


def last_ones(every: Sequence[Recurrence]) -> list[tuple[int, ...]]:
    """Return the recurrences that no other one reads, the two directions as one group."""
    read = {number for one in every for number in one.before}
    groups: list[tuple[int, ...]] = []
    waiting: defaultdict[Collection[Any], deque[int]] = defaultdict(deque)
    for at, one in enumerate(every):
        if at in read:
            continue
        origin, is_backward = _find_origin(every, at)
        # Two directions read the same recurrences, or come from the same input.
        ways: list[tuple[Collection[Any], bool]] = [(origin, is_backward)]
        ways += [(one.before, one.is_reversed)] if one.before else []
        found = []
        for key, is_reversed in ways:
            places = waiting[key]
            while places and len(groups[places[0]]) > 1:
                places.popleft()
            found += [places[0]] if is_reversed and places else []
        if found:
            groups[min(found)] += (at,)
            continue
        for key, is_reversed in ways:
            if not is_reversed:
                waiting[key].append(len(groups))
        groups.append((at,))
    return groups


def _find_origin(every: Sequence[Recurrence], at: int) -> tuple[frozenset[Tensor], bool]:
    """Return the input tensors of a recurrence, and whether a reversal precedes it."""
    fronts: set[Tensor] = set()
    backward = False
    seen: set[int] = set()
    queue = [at]
    while queue:
        one = queue.pop()
        if one in seen:
            continue
        seen.add(one)
        backward |= every[one].is_reversed
        if every[one].before:
            queue += every[one].before
        else:
            fronts |= {front.tensor for front in every[one].fronts}
    return frozenset(fronts), backward


def network_of(
    recurrences: Recurrences, last: Sequence[int], *, alone: bool = False
) -> GraphNetwork:
    """Return the network whose last recurrences are given.

    Args:
        alone: whether the network has only these recurrences, and x replaces the outputs of the
            others.

    Raises:
        UnsupportedError: the network has several inputs, or its input is not a sequence of
            vectors.
    """
    every = recurrences.found
    is_inner = alone and any(every[at].before for at in last)
    if alone:
        every = tuple(
            one._replace(
                before=frozenset(),
                between=None,
                output=one.output if one.is_reversed else one.output.of_loop,
            )
            for one in every
        )
    ways = [_find_levels(every, [at]) for at in last]
    if len(ways) == 2 and ways[0].keys().isdisjoint(ways[1]):  # two directions that never meet
        ways.sort(key=lambda way: any(every[at].is_reversed for at in way))
    else:
        ways = [_find_levels(every, last)]
    order = [
        at
        for levels in ways
        for at in sorted(levels, key=lambda at: (-levels[at], every[at].is_reversed, at))
    ]
    members = _set_unique_names([every[at] for at in order])
    outputs = _find_outputs(every, last)
    tops = [every[at] for at in last]
    ms = tuple(
        Output.of_m(top.cells[-1].m, is_backward=top.is_reversed and not alone) for top in tops
    )
    given, others = input_of(recurrences, members, is_inner=is_inner)
    x = origins(recurrences.probe.scope.nodes, given.tensors, {})
    data = {*(node.name for node in x.sources), *(tensor.node for tensor in given.tensors)}
    flags: dict[Tensor, str] = {}
    halves: list[str] = []
    for cell in (cell for one in members for cell in one.cells):
        found = [_find_fed_start(recurrences, cell, port, data) for port in cell.ports]
        for one in found:
            flags |= _refuse_changed(cell, one, data)
        halves += _note_halves(cell, *found)
    extra = sum(one.extra for one in members)
    remarks: tuple[str, ...] = ()
    if extra:
        remarks += (
            f"the graph carries {count(extra, 'more value')} from step to step: they begin as in "
            "the graph, and the state does not have them",
        )
    backward_from = len(ways[0]) if len(ways) > 1 else None
    probe = recurrences.probe
    masks = {
        mask.tensor: (int(mask.turned), len(probe.describe(mask.tensor)[0]))
        for one in members
        for mask in one.masks
    }
    return GraphNetwork(
        probe.scope,
        members,
        outputs,
        ms,
        given,
        remarks,
        backward_from,
        probe.lengths,
        masks,
        others,
        flags,
        _find_handed(recurrences, order, members),
        tuple(halves),
    )


def _find_outputs(every: Sequence[Recurrence], last: Sequence[int]) -> tuple[Output, ...]:
    """Return the outputs of the last recurrences: one if the graph joins them, or one for each."""
    for at in last:
        if len(last) > 1 and every[at].joined.issuperset(last):
            return (every[at].output,)
    return tuple(dict.fromkeys(every[at].output for at in last))


def _set_unique_names(members: Sequence[Recurrence]) -> tuple[Recurrence, ...]:
    """Return recurrences whose cells have unique names."""
    cells = iter(with_own_names(cell for one in members for cell in one.cells))
    return tuple(one._replace(cells=tuple(next(cells) for _ in one.cells)) for one in members)


def _find_levels(every: Sequence[Recurrence], last: Iterable[int]) -> dict[int, int]:
    """Return the length of the longest path from each recurrence to the last ones.

    Raises:
        UnsupportedError: the recurrences form a cycle.
    """
    queue = list(last)
    before: dict[int, frozenset[int]] = {}
    while queue:
        at = queue.pop()
        if at not in before:
            before[at] = every[at].before
            queue += before[at]
    levels = dict.fromkeys(before, 0)
    try:
        order = list(TopologicalSorter(before).static_order())
    except CycleError:
        raise UnsupportedError("the graph's recurrences form a cycle") from None
    for at in reversed(order):
        for one in before[at]:
            levels[one] = max(levels[one], levels[at] + 1)
    return levels


def _find_handed(
    recurrences: Recurrences, order: Sequence[int], members: Sequence[Recurrence]
) -> dict[str, str]:
    """Return the cells whose initial state is another cell's final state, with a line for each.

    Args:
        order: the numbers of the members.
    """
    nodes, found = recurrences.probe.scope.nodes, {}
    names = {
        at: ", ".join(printable(cell.name) for cell in one.cells)
        for at, one in zip(order, members, strict=True)
    }
    for at, one in zip(order, members, strict=True):
        for cell in one.cells:
            sources = [port.source for port in cell.ports]
            before = origins(nodes, sources, recurrences.ends, at).recurrences & names.keys()
            if before:
                others = " and ".join(names[other] for other in sorted(before))
                line = f"the graph begins {printable(cell.name)} with the final state of {others}"
                found[cell.name] = line
    return found


class _FedStart(NamedTuple):
    """The inputs of the graph for the initial c or m of a cell.

    Attributes:
        fed: the inputs that may take the state.
        held: the inputs among them with its width and an axis for the batch.
        changing: the operations between that do more than rearrange it.
        sources: the nodes at which data enters the graph.
    """

    fed: list[Fed]
    held: list[Fed]
    changing: list[str]
    sources: tuple[Node, ...]


def _find_fed_start(
    recurrences: Recurrences, cell: RecurrentCell, port: Port, data: Collection[str]
) -> _FedStart:
    """Return the inputs of the graph for an initial state.

    Args:
        data: the nodes at which x enters the graph.
    """
    probe, nodes = recurrences.probe, recurrences.probe.scope.nodes
    optional = [node for node in nodes.values() if node.op == _OPTIONAL]
    states = [fed for fed in map(Fed.of, optional) if fed.is_state]
    count = len(states)
    ends = dict.fromkeys(recurrences.ends, count)  # states of other recurrences are not fed
    ends |= {fed.tensor.node: at for at, fed in enumerate(states)}
    widths = (cell.c.width, cell.m.width, cell.c.width + cell.m.width)
    way = origins(nodes, [port.source], ends)
    fed = [states[at] for at in way.recurrences if at < count]
    fed += [one for one in probe.fed_at(way.sources) if one.tensor.node not in data]
    held = [one for one in fed if len(one.sizes or ()) > 1 and (one.sizes or (0,))[-1] in widths]
    changing = [node.op for node in way.operations if node.op not in _REARRANGES_STATES]
    if way.variables:  # the mask of a stored state, or a factor of a product, is not a state
        is_made = not PRODUCTS.keys().isdisjoint(changing)
        fed = held if is_made else [one for one in fed if (one.sizes or (0,))[-1] in widths]
    if len(fed) == 1 and not changing and not _is_in_order(probe, port, fed[0]):
        changing = [node.op for node in way.operations]
    return _FedStart(fed, held, changing, way.sources)


def _refuse_changed(
    cell: RecurrentCell, found: _FedStart, data: Collection[str]
) -> dict[Tensor, str]:
    """Refuse a fed state that the graph changes before the first step.

    Returns:
        The inputs that have to be fed because the change depends on them, such as flags of
        episodes, with the reason.

    Raises:
        UnsupportedError: the change depends on no other input.
    """
    if not (found.fed and found.changing):
        return {}
    problem = (
        f"the graph changes the state that it is fed at {printable(found.fed[0].tensor.node)} "
        f"before the first step ({', '.join(dict.fromkeys(found.changing[:4]))})"
    )
    names = {one.tensor.node for one in found.held} | {*data}
    others = [Tensor(node.name) for node in found.sources if node.name not in names]
    if len(found.held) != 1 or not others or not PRODUCTS.keys().isdisjoint(found.changing):
        raise UnsupportedError(problem, tensor=cell.name)
    return dict.fromkeys(others, problem)


def _note_halves(cell: RecurrentCell, c: _FedStart, m: _FedStart) -> list[str]:
    """Return a line if the graph takes only c or only m from an input, or both as one array."""
    name = printable(cell.name) or "the cell"
    if bool(c.held) != bool(m.held):
        half, own, fed = ("c", "m", c.held) if c.held else ("m", "c", m.held)
        return [
            f"the graph takes the initial {half} of {name} from {printable(fed[0].tensor.node)} "
            f"and computes {own} itself; this run begins with the c and m that are passed"
        ]
    if c.held and (cell.c.source, cell.c.entry) == (cell.m.source, cell.m.entry):
        return [
            f"the graph takes the initial c and m of {name} from one array, "
            f"{printable(c.held[0].tensor.node)}; this run begins with the c and m that are passed"
        ]
    return []


def _is_in_order(probe: Probe, port: Port, fed: Fed) -> bool:
    """Whether a state keeps the order of the rows and columns of its input."""
    with suppress(UnsupportedError):
        shape = fed.value().shape
        numbered = np.arange(math.prod(shape), dtype=np.float64).reshape(shape)
        (found,) = probe.run(probe.compile([port.source], [fed.tensor]), {fed.tensor: numbered})
        part = take(np.asarray(found), port.entry)
        return all((np.diff(part, axis=axis) >= 0).all() for axis in range(part.ndim))
    return True
