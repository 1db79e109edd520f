"""Sequences that a loop reads by slicing out the step at its counter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lstmstate.errors import UnsupportedError
from lstmstate.graph.evaluate import compile_step
from lstmstate.graph.loops import Tensor, data_inputs, is_unchanged
from lstmstate.recurrence.loop import LoopRecurrence, SequenceInput, goes_on
from lstmstate.recurrence.probe import Probe

_CUTS = frozenset({"Slice", "StridedSlice", "Gather", "GatherV2"})
_SHRINKS = frozenset({"Squeeze", "Reshape"})
_HANDING = frozenset({"Identity"})
_FAR = 40  # nodes between a counter and an index


def sliced_inputs(one: LoopRecurrence, probe: Probe) -> list[SequenceInput]:
    """Return the sequences that a loop reads by slicing out the element of each step."""
    found = []
    for whole, outer, cut, is_even in _find_cuts(one):
        try:
            sequence = _find_sequence(one, probe, whole, outer, cut)
        except UnsupportedError:
            continue
        if sequence is not None:
            found.append(sequence._replace(is_even=is_even))
    return found


def _find_cuts(one: LoopRecurrence) -> Iterator[tuple[Tensor, Tensor, Tensor, bool]]:
    """Yield the sliced tensors, within and outside of the loop, with their slices.

    The last value is whether the index advances with the steps; see `SequenceInput.is_even`.
    """
    loop, inside = one.loop, one.inside
    given = [(Tensor(name), data_inputs(inside.nodes[name])[0]) for name in sorted(loop.constants)]
    given += [
        (variable.read, variable.source)
        for number, variable in enumerate(loop.variables)
        if loop.body is not None and is_unchanged(loop, number, inside.nodes)
    ]
    for whole, outer in given:
        queue = [whole]
        while queue:
            tensor = queue.pop()
            for user, position in inside.users.get(tensor.node, ()):
                if position == 0 and user.op in _HANDING:
                    queue.append(Tensor(user.name))
                elif position == 0 and user.op in _CUTS:
                    cut = Tensor(user.name)
                    indices = data_inputs(user)[1:]
                    ends = {variable.read for variable in loop.variables}
                    is_even = all(goes_on(inside, index, ends) for index in indices)
                    if _is_counted(one, indices):
                        yield whole, outer, cut, is_even


def _is_counted(one: LoopRecurrence, indices: Sequence[Tensor]) -> bool:
    """Whether indices come from a counter of the loop, and from no state that it carries."""
    loop, nodes = one.loop, one.inside.nodes
    reads = {variable.read: number for number, variable in enumerate(loop.variables)}
    queue, seen = list(indices), set(indices)
    counted = False
    while queue and len(seen) < _FAR:
        tensor = queue.pop()
        if tensor in reads:
            if reads[tensor] in one.carried:
                return False
            counted |= not is_unchanged(loop, reads[tensor], nodes)
        elif tensor.node in nodes and tensor.node not in loop.constants:
            before = [given for given in data_inputs(nodes[tensor.node]) if given not in seen]
            seen.update(before)
            queue += before
    return counted


def _find_sequence(
    one: LoopRecurrence, probe: Probe, whole: Tensor, outer: Tensor, cut: Tensor
) -> SequenceInput | None:
    """Return a sequence whose steps are sliced one after the other, from either end."""
    (value,) = probe.values([outer])
    if np.ndim(value) != 3 or value.dtype.kind != "f":
        return None
    numbered = np.arange(value.size, dtype=value.dtype).reshape(value.shape)
    found = _run_first_steps(one, probe, {whole: numbered}, [cut])
    element = cut
    if np.ndim(found[0][0]) == 3:
        users = [user for user, _ in one.inside.users.get(cut.node, ()) if user.op in _SHRINKS]
        if len(users) != 1:
            return None
        element = Tensor(users[0].name)
        found = _run_first_steps(one, probe, {whole: numbered}, [element])
    for axis in (0, 1):
        places = [_find_place(numbered, step, axis) for (step,) in found]
        last = value.shape[axis] - 1
        if places in ([0, 1], [last, last - 1]) or (last == 0 and places[0] == 0):
            return SequenceInput(element, outer, axis, is_backward=places[0] != 0)
    return None


def _find_place(whole: Any, step: Any, axis: int) -> int | None:
    """Return the index of a step on an axis."""
    every = np.moveaxis(whole, axis, 0)
    return next((at for at, one in enumerate(every) if np.array_equal(one, step)), None)


def _run_first_steps(
    one: LoopRecurrence, probe: Probe, given: dict[Tensor, Any], wanted: Sequence[Tensor]
) -> list[list[Any]]:
    """Return some tensors in the first two steps of a loop, from its counters and given values."""
    loop = one.loop
    counters = [
        number
        for number in range(len(loop.variables))
        if number not in one.carried and not is_unchanged(loop, number, one.inside.nodes)
    ]
    plan = compile_step(one.inside, loop, wanted, list(given), probe.environment)
    read = [number for number in counters if loop.variables[number].read in plan.feeds]
    after = [loop.variables[number].next for number in read]
    following = compile_step(one.inside, loop, after, list(given), probe.environment)
    sources = {variable.read: variable.source for variable in loop.variables}
    feeds = dict(given)
    for tensor in {*plan.feeds, *following.feeds} - given.keys():
        (feeds[tensor],) = probe.values([sources.get(tensor, tensor)])
    found = []
    for _ in range(2):
        with np.errstate(all="ignore"):
            try:
                found.append(plan.bind().run({tensor: feeds[tensor] for tensor in plan.feeds}))
            except UnsupportedError:
                if not found:
                    raise
                return [*found, [None] * len(wanted)]  # the sequence has one step
            values = following.bind().run({tensor: feeds[tensor] for tensor in following.feeds})
        feeds |= {
            loop.variables[number].read: value for number, value in zip(read, values, strict=True)
        }
    return found
