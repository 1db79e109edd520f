"""Cells in a loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress

from lstmstate.checkpoint.graph import VARIABLE_OPS
from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.op_sets import SELECTS
from lstmstate.errors import LstmstateError, UnsupportedError, printable
from lstmstate.graph.evaluate import Scope
from lstmstate.graph.tensors import Tensor, behind, data_inputs, node_at, past
from lstmstate.recurrence.data_path import Front, front_of, tail_of
from lstmstate.recurrence.find_states import PRODUCTS, LoopStep, Path, StatePair, StatePart
from lstmstate.recurrence.graph_network import Output, Port, Recurrence, RecurrentCell, name_of
from lstmstate.recurrence.loop import (
    PASSES_LOOP_VALUES,
    LoopRecurrence,
    SequenceInput,
    loop_recurrences,
    may_end_early,
    past_selection,
    skip,
    sliced_inputs,
)
from lstmstate.recurrence.probe import Probe

_GATHERS = ("TensorArrayGather", "TensorArrayPack", "TensorListStack")
_TRIED = 4  # sizes of a batch
_NEAR = 60  # nodes between the m of a step and the node that packs the steps


def loop_drafts(probe: Probe, names: Mapping[str, str], others: list[str]) -> Iterator[Recurrence]:
    """Yield a recurrence for each loop with cells; its connections are still unknown."""
    for loop in loop_recurrences(probe.scope):
        name = printable(loop.loop.name)
        try:
            one = loop._replace(inputs=(*loop.inputs, *sliced_inputs(loop, probe)))
            if may_end_early(probe.scope, one):
                raise UnsupportedError(
                    "it may end before the end of the sequence: its condition reads more than the "
                    "number of steps"
                )
            step, steps, batch = _make_step(one, probe)
            pairs = step.pairs()
            if not pairs:
                others.append(f"{name}: it carries no c and m of an LSTM")
                continue
            cells = tuple(_make_cell(one, step, pair, names) for pair in pairs)
            into = step.elements_into(pairs[0])
            used = [item for item in one.inputs if item.element in step.used]
            first = [item for item in used if item.element in into]
            masks = step.masks(pairs)
            yield Recurrence(
                one.loop.name,
                cells,
                tuple(item.value for item in first),
                tuple(_find_front(probe, item) for item in first),
                tuple(item.value for item in used if item.element not in into),
                tuple(one.loop.exits) or (one.loop.name,),
                _find_output(probe.scope, one, cells[-1], pairs[-1]),
                steps,
                batch,
                step.other_causes(pairs),
                len(step.parts) - 2 * len(cells),
                masks=tuple(_find_front(probe, item) for item in used if item.element in masks),
            )
        except LstmstateError as error:
            others.append(f"{name}: {error}")


def _find_front(probe: Probe, given: SequenceInput) -> Front:
    is_turned, is_backward = given.axis == 1, given.is_backward
    return front_of(probe.scope.nodes, given.value, turned=is_turned, backward=is_backward)


def _make_step(one: LoopRecurrence, probe: Probe) -> tuple[LoopStep, int | None, int | None]:
    """Return a loop's step, with the number of steps and the batch if the graph fixes them.

    For unknown sizes of placeholders, two is tried, then the sizes that operations require.
    """
    try:
        return LoopStep(one, probe), None, None
    except UnsupportedError as error:
        first = error
    for steps in probe.unpacked[:_TRIED]:
        with suppress(UnsupportedError):
            return LoopStep(one, probe.with_open(steps)), steps, None
    nodes = probe.scope.nodes
    given = [*map(Tensor, one.loop.constants), *(each.source for each in one.loop.variables)]
    shapes = [node_at(nodes, skip(nodes, tensor)).constant_shape() or () for tensor in given]
    rows = [shape[0] for axes in (1, 2) for shape in shapes if len(shape) == axes]
    rows += _find_variable_rows(one, nodes)
    sizes = dict.fromkeys([*rows, *one.inside.constant_rows])
    for size in list(sizes)[:_TRIED]:
        with suppress(UnsupportedError):
            return LoopStep(one, probe.with_open(size or 1)), None, size
    raise first


def _find_variable_rows(one: LoopRecurrence, nodes: Mapping[str, Node]) -> list[int | None]:
    """Return the numbers of rows of the variables that are initial values of a loop."""
    found: list[int | None] = []
    for number in one.carried:
        source = past(
            nodes, one.loop.variables[number].source, PASSES_LOOP_VALUES | {"ReadVariableOp"}
        )
        node = node_at(nodes, source)
        if node.op in VARIABLE_OPS:
            found += (node.shape() or ())[:1]
    return found


def _make_cell(
    one: LoopRecurrence, step: LoopStep, pair: StatePair, names: Mapping[str, str]
) -> RecurrentCell:
    scope = pair.products[0].rpartition("/")[0] if pair.products else ""
    name, is_known = name_of(step.variables(pair), names)
    return RecurrentCell(
        name, _make_port(one, step, pair.c), _make_port(one, step, pair.m), scope, is_known
    )


def _make_port(one: LoopRecurrence, step: LoopStep, part: StatePart) -> Port:
    loop = one.loop
    final, history = loop.final(part.number), loop.history(part.number)
    return Port(
        loop.initial(part.number),
        part.path,
        loop.variables[part.number].source,
        final or history,  # a graph that was pruned to its outputs has no last state
        part.path if final is not None else ((0, -1), *part.path),
        (history,),
        part.path,
        step.width(part),
        step.dtype(part),
        step.spatial(part),
    )


def _find_output(scope: Scope, one: LoopRecurrence, top: RecurrentCell, pair: StatePair) -> Output:
    """Return the output that a loop writes at each step, m if it writes none."""
    nodes, loop, m = one.inside.nodes, one.loop, pair.m
    read = loop.variables[m.number].read

    def unselect(tensor: Tensor) -> Tensor:
        return past_selection(one.inside, skip(nodes, tensor), read)

    def choose(tensor: Tensor) -> Tensor:
        """Return the value of a Select before the end of a sequence, or at an unmasked step."""
        tensor = unselect(tensor)
        node = node_at(nodes, tensor)
        given = data_inputs(node)[1:] if node.op in SELECTS else []
        return next((new for new in map(unselect, given) if new in (whole, alone)), tensor)

    whole, alone = unselect(loop.variables[m.number].next), unselect(m.next)
    written = [(output.number, choose(output.element)) for output in one.outputs]
    for number, element in written:
        if element == alone:
            return _make_output(scope, one, number, (), is_m=True, is_own=False)
        if element == whole and m.path:
            return _make_output(scope, one, number, m.path, is_m=True, is_own=False)
    if len(written) == 1:
        ((number, element),) = written
        within = f"{element.node.rpartition('/')[0]}/".startswith(f"{top.scope}/")
        is_own = within and not leads_to(nodes, element, m.next)
        return _make_output(scope, one, number, (), is_m=False, is_own=is_own)
    return Output.of_m(top.m)


def leads_to(nodes: Mapping[str, Node], start: Tensor, end: Tensor) -> bool:
    """Whether one value is computed from another, with no product between them."""
    way = behind(nodes, [end], lambda node: node.op not in PRODUCTS, _NEAR)
    return any(tensor == start for tensor, _ in way)


def _make_output(
    scope: Scope, one: LoopRecurrence, number: int, place: Path, *, is_m: bool, is_own: bool
) -> Output:
    """Return the output in a TensorArray; if the graph reverses its steps later, the result."""
    array = one.loop.final(number)
    if array is None:
        raise UnsupportedError("the graph does not read its outputs", tensor=one.loop.name)
    output = Output((array,), place, 0, is_m=is_m, is_own=is_own, array=array)
    for tensor in find_gathered(scope, output):
        tail = tail_of(scope, tensor)
        if tail.reversed:
            return output._replace(tensors=(tail.tensor,), time_axis=int(tail.turned))
    return output


def find_gathered(scope: Scope, output: Output) -> tuple[Tensor, ...]:
    """Return the tensors of an output: one for all steps, or one for each."""
    if output.tensors != (output.array,):
        return output.tensors
    found = []
    queue = [*output.tensors]
    while queue:
        for user, _ in scope.readers(queue.pop()):
            if user.op == "Identity" and not scope.is_inner(user.name):
                queue.append(Tensor(user.name))
            elif user.op.startswith(_GATHERS):
                found.append(Tensor(user.name))
    return tuple(found)
