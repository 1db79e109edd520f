"""Loops over a sequence: their loop variables, and the sequences that they read and write."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lstmstate.checkpoint.dtypes import FLOATS
from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.op_sets import (
    ENTERS,
    MERGES,
    SELECTS,
    STACK_POPS,
    SWITCHES,
    UNSTACKS,
    WHILES,
)
from lstmstate.errors import UnsupportedError
from lstmstate.graph.evaluate import Scope, compile_step
from lstmstate.graph.loops import Loop, LoopVariable, is_unchanged, while_loop
from lstmstate.graph.tensors import Tensor, ahead, behind, data_inputs, node_at, past
from lstmstate.named_tuple import NamedTuple
from lstmstate.recurrence.data_path import origins
from lstmstate.recurrence.probe import Probe

PASSES_LOOP_VALUES = ENTERS | {"Identity", "RefIdentity", "EnsureShape"}
# Operations that make an index that does not advance by one when its counter does.
_UNEVEN = frozenset(
    "Minimum Maximum Mod FloorMod FloorDiv Mul Abs Select SelectV2 Gather GatherV2".split()
)
_CHOOSING = (PASSES_LOOP_VALUES | MERGES | SWITCHES) - ENTERS
_FAR = 40  # nodes between a counter and an index
_OF_LENGTHS = frozenset({"Cast", "Max", "Min"})
_SLICING = frozenset({"Slice", "StridedSlice", "Gather", "GatherV2"})
_SHRINKS = frozenset({"Squeeze", "Reshape"})
COMPARISONS = frozenset({"GreaterEqual", "Greater", "Less", "LessEqual"})
_FLAGS = COMPARISONS | {"Equal", "NotEqual", "LogicalAnd", "LogicalOr", "LogicalNot", "Any", "All"}


class SequenceInput(NamedTuple):
    """A sequence that a loop reads.

    Attributes:
        element: the tensor of one step, within the loop.
        value: the whole sequence, outside of the loop.
        axis: the time axis of `value`; None if `value` is the element of the first step.
        is_backward: whether the first step reads the end of the sequence.
        is_even: whether the index of an element advances with the steps.
        is_ahead: whether the step before reads the element and carries it to this one.
    """

    element: Tensor
    value: Tensor
    axis: int | None = 0
    is_backward: bool = False
    is_even: bool = True
    is_ahead: bool = False


class SequenceOutput(NamedTuple):
    """A sequence that a loop writes.

    Attributes:
        number: the number of the loop variable for the array.
        element: the tensor of one step, within the loop.
    """

    number: int
    element: Tensor


class LoopRecurrence(NamedTuple):
    """A loop that carries floating-point values from step to step.

    Attributes:
        inside: the nodes of the body.
        carried: the numbers of the loop variables with these values.
    """

    loop: Loop
    inside: Scope
    carried: tuple[int, ...]
    inputs: tuple[SequenceInput, ...]
    outputs: tuple[SequenceOutput, ...]


def loop_recurrences(scope: Scope) -> list[LoopRecurrence]:
    """Return the loops of a graph that carry a state over a sequence, gradients left out."""
    loops = [*scope.frames]
    loops += [
        loop
        for node in scope.nodes.values()
        if node.op in WHILES and not scope.is_inner(node.name)
        if (loop := while_loop(node, scope.functions)) is not None
    ]
    found = (_find_recurrence(scope, loop) for loop in loops)
    return [one for one in found if one is not None]


def _find_recurrence(scope: Scope, loop: Loop) -> LoopRecurrence | None:
    inside = scope if loop.body is None else scope.within(loop.body)
    carried: list[int] = []
    outputs: list[SequenceOutput] = []
    for number, variable in enumerate(loop.variables):
        node = node_at(inside.nodes, skip(inside.nodes, variable.next))
        if not node.op or is_unchanged(loop, number, inside.nodes):
            continue
        given = data_inputs(node)
        if node.op.startswith("TensorArrayWrite") or node.op == "TensorListSetItem":
            place = node_at(inside.nodes, skip(inside.nodes, given[1]))
            is_last = place.op == "Const"  # keeps only the last step
            if not is_last and _is_float(node):
                outputs.append(SequenceOutput(number, given[2]))
        elif not node.op.startswith("TensorList") and _is_float(node):
            carried.append(number)
    if not carried or _is_gradient(inside, loop):
        return None
    inputs = {one.element: one for one in _find_inputs(scope, inside, loop)}
    for number in [*carried]:
        read = _find_read_ahead(scope, inside, loop.variables[number], inputs)
        if read is not None:
            carried.remove(number)
            inputs[loop.variables[number].read] = inputs.pop(read)._replace(
                element=loop.variables[number].read, is_ahead=True
            )
    return LoopRecurrence(loop, inside, tuple(carried), tuple(inputs.values()), tuple(outputs))


def may_end_early(scope: Scope, one: LoopRecurrence) -> bool:
    """Whether the condition of a loop depends on its states or its input in any step."""
    loop, inside = one.loop, one.inside
    test = inside if loop.test is None else scope.within(loop.test)
    element = len(loop.variables)
    tested = {variable.tested.node: at for at, variable in enumerate(loop.variables)}
    read = {each.element.node: element for each in one.inputs}
    read |= {variable.read.node: at for at, variable in enumerate(loop.variables)}
    own = tested if loop.test is not None else read | tested
    queue = [*origins(test.nodes, [loop.condition], own).recurrences]
    seen = set(queue)
    while queue:
        at = queue.pop()
        if at == element or at in one.carried:
            return True
        found = origins(inside.nodes, [loop.variables[at].next], read).recurrences - seen
        seen |= found
        queue += found
    return False


def _find_read_ahead(
    scope: Scope, inside: Scope, variable: LoopVariable, inputs: Mapping[Tensor, SequenceInput]
) -> Tensor | None:
    """Return the element of a sequence that a step reads and carries to the next one as its input.

    The first step takes its element of the same sequence from outside of the loop.
    """
    ahead = [one for one in _find_choices(inside.nodes, variable.next) if one in inputs]
    first = [scope.nodes[one.node] for one in _find_choices(scope.nodes, variable.source)]
    arrays = [skip(scope.nodes, data_inputs(node)[-1]) for node in first if _is_read(node)]
    if len(ahead) != 1 or len(arrays) != 1:
        return None
    is_same = _find_scattered(scope.nodes, arrays[0]) == inputs[ahead[0]].value
    return ahead[0] if is_same else None


def _find_choices(nodes: Mapping[str, Node], tensor: Tensor) -> list[Tensor]:
    """Return the tensors that a value may come from, one for each branch of a condition."""

    def into(node: Node) -> list[Tensor]:
        return data_inputs(node)[: None if node.op in MERGES else 1]

    way = behind(nodes, [tensor], lambda node: node.op in _CHOOSING, _FAR, into)
    return [one for one, node in way if node.op and node.op not in _CHOOSING]


def _is_read(node: Node) -> bool:
    return node.op.startswith("TensorArrayRead")


def _find_scattered(nodes: Mapping[str, Node], array: Tensor) -> Tensor | None:
    """Return the sequence that was scattered into a TensorArray."""
    node = node_at(nodes, past(nodes, array, PASSES_LOOP_VALUES | SWITCHES))
    return data_inputs(node)[UNSTACKS[node.op]] if node.op in UNSTACKS else None


def is_fed(scope: Scope, loop: Loop, tensor: Tensor) -> bool:
    """Whether a step's value from outside is a placeholder, apart from a cast or a maximum."""
    way = origins(scope.nodes, _find_outside(scope, loop, tensor), {})
    is_of_lengths = all(node.op in _OF_LENGTHS for node in way.operations)
    return bool(way.sources) and not way.variables and is_of_lengths


def skip(nodes: Mapping[str, Node], tensor: Tensor) -> Tensor:
    """Return the tensor before operations that only pass it on."""
    return past(nodes, tensor, PASSES_LOOP_VALUES)


def past_selection(inside: Scope, tensor: Tensor, read: Tensor) -> Tensor:
    """Return the new value of a Select that keeps the old value after the end of a sequence."""
    node = node_at(inside.nodes, tensor)
    if node.op in SELECTS:
        _, yes, no = data_inputs(node)
        for old, new in ((yes, no), (no, yes)):
            if skip(inside.nodes, old) in (read, skip(inside.nodes, read)):
                return skip(inside.nodes, new)
    return tensor


def _is_float(node: Node) -> bool:
    if node.op in _FLAGS:  # their type attribute is that of their operands
        return False
    kinds = [node.number_of_type(name) for name in ("T", "DstT", "dtype", "element_dtype")]
    known = [kind for kind in kinds if kind is not None]
    return not known or known[0] in FLOATS


def _is_gradient(inside: Scope, loop: Loop) -> bool:
    """Whether a loop pops values from a stack, as a gradient loop does."""
    if loop.body is not None:
        return any(node.op.startswith(STACK_POPS) for node in inside.nodes.values())
    return any(
        user.op.startswith(STACK_POPS)
        for name in loop.constants
        for user, _ in inside.users.get(name, ())
    )


def _find_inputs(scope: Scope, inside: Scope, loop: Loop) -> Iterator[SequenceInput]:
    """Yield the sequences that a step reads, each once."""
    ends = {variable.read for variable in loop.variables}
    for node, handle in _find_reads(inside, loop):
        is_even = goes_on(inside, data_inputs(node)[1], ends)
        for outer in _find_outside(scope, loop, handle):
            value = _find_scattered(scope.nodes, outer)
            if value is not None:
                yield SequenceInput(Tensor(node.name), value, is_even=is_even)


def _find_reads(inside: Scope, loop: Loop) -> Iterator[tuple[Node, Tensor]]:
    """Yield the nodes that read an element, with the tensor of the array."""
    if loop.body is not None:
        for node in inside.nodes.values():
            if node.op == "TensorListGetItem":
                yield node, skip(inside.nodes, data_inputs(node)[0])
        return
    for name in loop.constants:
        for user, position in ahead(inside.users, name, SWITCHES):
            if _is_read(user) and position == 2:
                yield user, Tensor(name)


def goes_on(one: Scope, index: Tensor, ends: Collection[Tensor]) -> bool:
    """Whether an index advances as its counter does, also in later steps.

    Args:
        ends: the loop variables that a step reads.
    """
    stops = {end.node for end in ends}
    way = behind(
        one.nodes,
        [index],
        lambda node: node.op not in MERGES | ENTERS and node.name not in stops,
        _FAR,
    )
    return not any(node.op in _UNEVEN for tensor, node in way if tensor not in ends)


def _find_outside(scope: Scope, loop: Loop, handle: Tensor) -> list[Tensor]:
    """Return the tensor outside of a loop for an array within it, if there is one."""
    if loop.body is None:
        return [skip(scope.nodes, handle)]
    sources = [one.source for one in loop.variables if one.read == handle]
    return [skip(scope.nodes, source) for source in sources[:1]]


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
    ends = {variable.read for variable in loop.variables}
    for whole, outer in given:
        for user, position in ahead(inside.users, whole.node, {"Identity"}):
            indices = data_inputs(user)[1:]
            if position == 0 and user.op in _SLICING and _is_counted(one, indices):
                is_even = all(goes_on(inside, index, ends) for index in indices)
                yield whole, outer, Tensor(user.name), is_even


def _is_counted(one: LoopRecurrence, indices: Sequence[Tensor]) -> bool:
    """Whether indices come from a counter of the loop, and from no state that it carries."""
    loop, nodes = one.loop, one.inside.nodes
    reads = {variable.read: number for number, variable in enumerate(loop.variables)}
    stops = {tensor.node for tensor in reads} | loop.constants
    way = behind(nodes, indices, lambda node: node.name not in stops, _FAR)
    numbers = {reads[tensor] for tensor, _ in way if tensor in reads}
    return numbers.isdisjoint(one.carried) and not all(
        is_unchanged(loop, number, nodes) for number in numbers
    )


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
        try:
            found.append(plan.run(feeds))
        except UnsupportedError:
            if not found:
                raise
            return [*found, [None] * len(wanted)]  # the sequence has one step
        values = following.run(feeds)
        feeds |= zip((loop.variables[number].read for number in read), values, strict=True)
    return found
