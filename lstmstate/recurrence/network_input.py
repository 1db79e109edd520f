"""Inputs of a network for x: a tensor for all steps, or the tensors that the steps read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from lstmstate.checkpoint.graph import VARIABLE_OPS
from lstmstate.checkpoint.graph_node import Node
from lstmstate.errors import UnsupportedError, count, printable
from lstmstate.graph.dropout import before_dropout
from lstmstate.graph.evaluate import is_source
from lstmstate.graph.tensors import Tensor, behind, data_inputs, node_at
from lstmstate.recurrence.data_path import READS_SIZES, Front, by_place, comes_from, origins
from lstmstate.recurrence.graph_network import Input, Recurrence, Recurrences, before_the_loop
from lstmstate.recurrence.probe import Probe

# Operations that cut a step out of a sequence, with the number of the input for the sequence.
_CUTS = {
    **dict.fromkeys(("Unpack", "SplitV", "StridedSlice", "Slice", "Squeeze", "Reshape"), 0),
    **dict.fromkeys(("Identity", "ExpandDims", "Transpose"), 0),
    "Split": 1,
}
# The inputs that an operation joins.
_JOINED = {"Concat": slice(1, None), "ConcatV2": slice(-1), "Pack": slice(None)}
_NEAR = 60  # nodes between a step and the sequence that it is cut out of


def input_of(
    recurrences: Recurrences, members: Sequence[Recurrence], *, is_inner: bool
) -> tuple[Input, tuple[Input, ...]]:
    """Return the input for x, and other inputs that may take an x of another width.

    Args:
        is_inner: whether other recurrences compute the input.

    Raises:
        UnsupportedError: the input is not a sequence, or there are several.
    """
    probe = recurrences.probe
    try:
        found, others = _find_sequence_input(recurrences, members, is_inner=is_inner)
    except UnsupportedError:
        given = _find_step_input(probe, members)
        if given is None:
            raise
        found, others = given, _find_step_placeholders(probe, given)
    else:
        if not found.note:  # a placeholder: its steps can be fed one by one as well
            with suppress(UnsupportedError):
                given = _find_step_input(probe, members)
                others += () if given is None else (given,)
    same = [one for one in others if one.width == found.width and found.is_apart and not is_inner]
    if len(same) == 1:
        return same[0], (found, *others)
    return found, tuple(one for one in others if one.width != found.width)


def _find_step_input(probe: Probe, members: Sequence[Recurrence]) -> Input | None:
    """Return the inputs of the steps as the input for x, None if they share a tensor.

    Raises:
        UnsupportedError: the steps do not read one sequence.
    """
    first = [one for one in members if not one.before]
    (reads, *others) = {one.reads for one in first}
    if not reads or others:
        return None
    value = _evaluate_first_read(probe, reads)
    if np.ndim(value) != 2 or value.dtype.kind != "f":
        return None
    if not _reads_each_once(probe, reads):
        raise UnsupportedError(
            "its steps do not read one sequence from end to end, each element once",
            tensor=reads[0].node,
        ) from None
    width, kind = value.shape[-1], value.dtype.str[1:]
    note = f"x is the input of each step, from {printable(reads[0].node)} on"
    sizes = (len(reads), first[0].batch, width)
    return Input(reads[0], 0, sizes, width, kind, None, reads[1:], True, note)


def _find_step_placeholders(probe: Probe, given: Input) -> tuple[Input, ...]:
    """Return the placeholders that the input of a single step is computed from."""
    sources = _find_fed_before(probe, given.tensor)
    if given.later or len(sources) != 1:
        return ()
    found = []
    for tensor, note in sources:
        sizes, kind = probe.describe(tensor)
        if not _is_alone(probe, given.tensor, tensor):
            continue
        if len(sizes) == 2 and sizes[1] is not None and kind.startswith("f"):
            shape = (1, given.sizes[1], sizes[1])
            found.append(Input(tensor, 0, shape, sizes[1], kind, None, (), True, note))
    return tuple(found)


def _is_alone(probe: Probe, read: Tensor, x: Tensor) -> bool:
    """Whether x is joined with nothing before a single step: a joined value may be a state."""
    nodes = probe.scope.nodes

    def into(node: Node) -> list[Tensor]:
        if node.op in VARIABLE_OPS:
            return []
        return [one for one in data_inputs(node) if comes_from(nodes, one, x)]

    for _, node in behind(nodes, [read], into=into):
        given = data_inputs(node)[_JOINED.get(node.op, slice(0))]
        if not all(comes_from(nodes, one, x) for one in given):
            return False
    return True


def _find_fed_before(probe: Probe, tensor: Tensor) -> list[tuple[Tensor, str]]:
    """Return the fed tensors behind a tensor, with a note that names the operations between."""
    way = origins(probe.scope.nodes, [tensor], {})
    names = {node.name for node in way.sources}
    kinds = ", ".join(dict.fromkeys(node.op for node in way.operations[:6]))
    return [
        (one, f"x is fed at {printable(one.node)}, before {kinds}")
        for one in probe.fed
        if one.node in names and one != tensor
    ]


def _evaluate_first_read(probe: Probe, reads: Sequence[Tensor]) -> Any:
    """Return a made-up value for the input of the first step."""
    with suppress(UnsupportedError):
        return probe.values(reads[:1])[0]
    return probe.with_open(len(reads)).values(reads[:1])[0]


def _reads_each_once(probe: Probe, reads: Sequence[Tensor]) -> bool:
    """Whether steps read each element of a sequence once and in order, or each its own source.

    A chain that starts in the middle of a sequence, leaves out elements, or reads an element
    twice, cannot be run over a sequence.
    """
    nodes = probe.scope.nodes
    ways = [_trace_cuts(nodes, one) for one in reads]
    shared = set(ways[0]).intersection(*ways)
    if not shared:
        own = [origins(nodes, [one], {}).sources for one in reads]
        names = {node.name for sources in own for node in sources}
        return len(names) == len(reads) and all(len(sources) == 1 for sources in own)
    wholes = [tensor for tensor in ways[0][::-1] if tensor in shared]
    for one in (probe, probe.with_open(len(reads))):
        with suppress(UnsupportedError):
            size = np.size(one.values(wholes[:1])[0])
            same = [tensor for tensor in wholes if np.size(one.values([tensor])[0]) == size]
            return any(_cuts_each_once(one, whole, reads) for whole in same)
    return False


def _cuts_each_once(probe: Probe, whole: Tensor, reads: Sequence[Tensor]) -> bool:
    """Whether steps cut out each element of a sequence once, forward or backward.

    Raises:
        UnsupportedError: the sequence has another number of steps.
    """
    (value,) = probe.values([whole])
    plan = probe.compile(reads, [whole])
    if len(reads) == 1:
        return bool(np.size(value) == np.size(probe.run(plan, {whole: value})[0]))
    numbers = np.indices(np.shape(value)).astype(value.dtype)  # along each axis
    return any(
        _is_in_order(probe.run(plan, {whole: along}), size)
        for along, size in zip(numbers, np.shape(value), strict=True)
    )


def _is_in_order(parts: Sequence[Any], size: int) -> bool:
    """Whether parts contain all indices below a size once, in ascending or descending order."""
    found = [sorted(set(np.asarray(part).ravel().tolist())) for part in parts]
    ways = (found, found[::-1])
    return any([*range(size)] == [number for part in way for number in part] for way in ways)


def _trace_cuts(nodes: Mapping[str, Node], tensor: Tensor) -> list[Tensor]:
    """Return a tensor, and the tensors that it is cut out of or reshaped from."""
    found = [tensor]
    for _ in range(_NEAR):
        node = node_at(nodes, tensor)
        kept = before_dropout(nodes, node)
        if kept is None and node.op not in _CUTS:
            break
        tensor = data_inputs(node)[_CUTS[node.op]] if kept is None else kept
        found.append(tensor)
    return found


def _find_sequence_input(
    recurrences: Recurrences, members: Sequence[Recurrence], *, is_inner: bool
) -> tuple[Input, tuple[Input, ...]]:
    """Return the tensor for x: a placeholder, or the loop input that the graph computes."""
    probe, nodes = recurrences.probe, recurrences.probe.scope.nodes
    fronts = {front.tensor: front for one in members if not one.before for front in one.fronts}
    if len(fronts) != 1:
        names = ", ".join(printable(tensor.node) for tensor in fronts) or "none"
        raise UnsupportedError(f"the network reads {count(len(fronts), 'input')} ({names})")
    ((tensor, front),) = fronts.items()
    batch = next((one.batch for one in members if one.batch is not None), None)
    if probe.is_fed(tensor):
        is_own = is_source(nodes[tensor.node])
        note = "" if is_own else f"x is the loop's input {printable(tensor.node)}"
        return _make_input(probe, front, batch, None, note), ()
    changing = by_place(nodes, [tensor], {})
    sized = origins(nodes, [tensor], {}).sizes
    causes = changing and (READS_SIZES if sized else before_the_loop(changing))
    fed: list[Input] = []
    sources = _find_fed_before(probe, tensor)
    for one, note in sources if not is_inner else ():
        with suppress(UnsupportedError):
            turned = probe.turns(one, tensor)
            if turned is not None or len(sources) == 1:
                way = front._replace(tensor=one, turned=bool(turned) ^ front.turned)
                fed.append(_make_input(probe, way, batch, causes, note))
    names = ", ".join(printable(one.node) for one, _ in sources[:3])
    note = f"x is the loop's input {printable(tensor.node)}, computed from {names}"
    own = None
    try:
        own = _make_input(probe, front, batch, None, note if sources else "")
    except UnsupportedError:
        if len(fed) != 1:
            raise
    if own is None or (len(fed) == len(sources) == 1 and fed[0].sizes[2:] == own.sizes[2:]):
        return fed[0], () if own is None else (own,)
    return own, tuple(fed)


def _make_input(
    probe: Probe, front: Front, batch: int | None, causes: str | None, note: str
) -> Input:
    """Return a tensor for all steps as the input for x.

    Raises:
        UnsupportedError: the tensor is not a sequence of vectors or images.
    """
    sizes, kind = probe.describe(front.tensor)
    width = sizes[-1] if sizes else None
    if len(sizes) < 3 or None in sizes[2:] or width is None:
        shape = ["any" if size is None else size for size in sizes]
        raise UnsupportedError(
            f"expected sequences of vectors or images as the network's input, got {shape}",
            tensor=front.tensor.node,
        )
    if batch is not None:
        sizes = (batch, *sizes[1:]) if front.turned else (sizes[0], batch, *sizes[2:])
    return Input(front.tensor, int(front.turned), sizes, width, kind, causes, note=note)
