"""Where x goes into a network: a tensor of all steps, or what each step reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from lstmstate.checkpoint.node import Node
from lstmstate.errors import UnsupportedError, count, printable
from lstmstate.graph.loops import Tensor, data_inputs
from lstmstate.recurrence.front import by_place, origins
from lstmstate.recurrence.model import (
    Input,
    Recurrence,
    Recurrences,
    before_the_loop,
)
from lstmstate.recurrence.probe import Probe

# What cuts a step out of a sequence: which of its inputs that is.
_CUTS = {
    **dict.fromkeys(("Unpack", "SplitV", "StridedSlice", "Slice", "Squeeze", "Reshape"), 0),
    **dict.fromkeys(("Identity", "ExpandDims", "Transpose"), 0),
    "Split": 1,
}


_NEAR = 60  # nodes between the m of a step and where the steps are packed


def input_of(
    recurrences: Recurrences, members: Sequence[Recurrence], *, is_inner: bool
) -> tuple[Input, tuple[str, ...]]:
    """Return where x goes in, and notes on it.

    Args:
        is_inner: whether other recurrences give it.

    Raises:
        UnsupportedError: it is no sequence, or there are several.
    """
    try:
        return _input_of_all(recurrences, members, is_inner=is_inner)
    except UnsupportedError:
        first = [one for one in members if not one.before]
        (reads, *others) = {one.reads for one in first}
        if not reads or others:
            raise
        value = _first_read(recurrences.probe, reads)
        if np.ndim(value) != 2 or value.dtype.kind != "f":
            raise
        if not _reads_each_once(recurrences.probe, reads):
            raise UnsupportedError(
                "its steps do not read one sequence from end to end, each element once",
                tensor=reads[0].node,
            ) from None
        width, kind = value.shape[-1], value.dtype.str[1:]
        given = Input(
            reads[0], 0, (len(reads), first[0].batch, width), width, kind, None, reads[1:], True
        )
        return given, (f"x is what each step reads, from {printable(reads[0].node)} on",)


def _first_read(probe: Probe, reads: Sequence[Tensor]) -> Any:
    """Return a value of what the first step reads."""
    with suppress(UnsupportedError):
        return probe.values(reads[:1])[0]
    return probe.with_open(len(reads)).values(reads[:1])[0]


def _reads_each_once(probe: Probe, reads: Sequence[Tensor]) -> bool:
    """Whether steps read a sequence from its first element to the last, or each its own source.

    A chain that begins anew in the middle of a sequence, leaves some of it out, or reads an
    element twice, is no run over it.
    """
    nodes = probe.scope.nodes
    ways = [_cut_out_of(nodes, one) for one in reads]
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
    """Whether steps cut every element out of a sequence once, in order or from the end.

    Raises:
        UnsupportedError: the sequence has another number of steps.
    """
    (value,) = probe.values([whole])
    plan = probe.compile(reads, [whole])
    if len(reads) == 1:
        return bool(np.size(value) == np.size(probe.run(plan, {whole: value})[0]))
    return any(
        _is_in_order(probe.run(plan, {whole: _numbered(value, axis)}), value.shape[axis])
        for axis in range(np.ndim(value))
    )


def _numbered(value: Any, axis: int) -> Any:
    """Return an array whose elements are their numbers along an axis."""
    return np.indices(value.shape)[axis].astype(value.dtype)


def _is_in_order(parts: Sequence[Any], size: int) -> bool:
    """Whether parts have all numbers up to a size, each once, from the first part or the last."""
    found = [sorted(set(np.asarray(part).ravel().tolist())) for part in parts]
    ways = (found, found[::-1])
    return any([*range(size)] == [number for part in way for number in part] for way in ways)


def _cut_out_of(nodes: Mapping[str, Node], tensor: Tensor) -> list[Tensor]:
    """Return a tensor, and those that it is cut out of, or laid out anew from."""
    found = [tensor]
    for _ in range(_NEAR):
        node = nodes.get(tensor.node)
        if node is None or node.op not in _CUTS:
            break
        tensor = data_inputs(node)[_CUTS[node.op]]
        found.append(tensor)
    return found


def _input_of_all(
    recurrences: Recurrences, members: Sequence[Recurrence], *, is_inner: bool
) -> tuple[Input, tuple[str, ...]]:
    """Return the tensor that takes x: a placeholder, or what the graph computes for its loops."""
    probe, nodes = recurrences.probe, recurrences.probe.scope.nodes
    fronts = {front.tensor: front for one in members if not one.before for front in one.fronts}
    if len(fronts) != 1:
        names = ", ".join(printable(tensor.node) for tensor in fronts) or "none"
        raise UnsupportedError(f"the network reads {count(len(fronts), 'input')} ({names})")
    ((tensor, front),) = fronts.items()
    sizes, kind = probe.describe(tensor)
    notes: tuple[str, ...] = ()
    causes = None
    if not probe.is_fed(tensor):
        way = origins(nodes, [tensor], {})
        fed = [Tensor(node.name) for node in way.sources if probe.is_fed(Tensor(node.name))]
        first = probe.describe(fed[0])[0] if len(fed) == 1 and not is_inner else ()
        if len(first) == len(sizes) > 2 and first[2:] == sizes[2:]:
            kinds = ", ".join(dict.fromkeys(node.op for node in way.operations[:6]))
            notes = (f"x is fed at {printable(fed[0].node)}, before {kinds}",)
            changing = by_place(nodes, [tensor], {})
            causes = changing and before_the_loop(changing)
            front = front._replace(turned=probe.is_turned(fed[0], tensor) ^ front.turned)
            tensor, (sizes, kind) = fed[0], probe.describe(fed[0])
        elif way.sources:
            sources = ", ".join(printable(node.name) for node in way.sources[:3])
            notes = (f"x is the loop's input {printable(tensor.node)}, computed from {sources}",)
    width = sizes[-1] if sizes else None
    if len(sizes) < 3 or None in sizes[2:] or width is None:
        shape = ["any" if size is None else size for size in sizes]
        raise UnsupportedError(
            f"the network's input is {shape}, and sequences of vectors or images are run",
            tensor=tensor.node,
        )
    batch = next((one.batch for one in members if one.batch is not None), None)
    if batch is not None:
        sizes = (batch, *sizes[1:]) if front.turned else (sizes[0], batch, *sizes[2:])
    return Input(tensor, int(front.turned), sizes, width, kind, causes), notes
