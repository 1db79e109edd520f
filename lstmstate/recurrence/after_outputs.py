"""Operations after the outputs of a network: layers of the graph that a run leaves out."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.op_sets import ENTERS, WHILES
from lstmstate.errors import LstmstateError, printable
from lstmstate.graph.dropout import before_dropout
from lstmstate.graph.evaluate import Scope
from lstmstate.graph.operations import ELEMENTWISE
from lstmstate.graph.tensors import Tensor, behind
from lstmstate.named_tuple import NamedTuple
from lstmstate.recurrence.data_path import SIZES, origins, values_into
from lstmstate.recurrence.find_states import PRODUCTS, take
from lstmstate.recurrence.graph_network import GraphNetwork, Recurrences
from lstmstate.recurrence.loop import loop_recurrences
from lstmstate.recurrence.loop_cells import find_gathered
from lstmstate.recurrence.probe import Probe

Array = Any
_OPEN = 6  # the size of an unknown axis, large enough for every second step to be several steps
_FAR = 400  # operations after the outputs
_REDUCTIONS = frozenset("Mean Sum Prod Max Min All Any ArgMax ArgMin L2Loss".split())
_REARRANGES_OUTPUTS = frozenset(
    """
    Identity IdentityN StopGradient PreventGradient CheckNumerics EnsureShape Snapshot Print
    Reshape ExpandDims Squeeze Transpose Cast Pack Unpack Concat ConcatV2 Split SplitV Slice
    StridedSlice Enter Exit Merge NextIteration Switch TensorListFromTensor TensorListStack
    """.split()
) | {f"TensorArray{name}V3" for name in ("Scatter", "Read", "Write", "Gather")}
_GRADIENTS = re.compile(r"(^|/)gradients(_\d+)?/.*_grad(_\d+)?/")


class _MadeUp(NamedTuple):
    """Made-up outputs without equal numbers.

    Attributes:
        wholes: the arrays that a run returns, each alone and all joined: `[steps, batch, *item]`.
        tensors: the same values for the tensors of the graph.
        steps: the step of each number.
        axes: the number of axes of an item.
    """

    wholes: tuple[Array, ...]
    tensors: dict[Tensor, Array]
    steps: Array
    axes: int


def after(network: GraphNetwork, recurrences: Recurrences) -> list[str]:
    """Return the operations that turn the outputs into another sequence of the same width.

    Not reported: layers with weights, the last step alone, sums over steps, and training. A loop
    over the outputs is always reported.
    """
    scope, given = network.scope, network.input
    steps, batch = given.steps or network.steps or _OPEN, given.batch or _OPEN
    x = np.zeros((steps, batch, *given.spatial, given.width), given.dtype)
    probe = recurrences.probe.of_shapes(_OPEN).given(given.fed(x))
    try:
        made = _make_up_outputs(network, probe, steps, batch)
    except LstmstateError:
        return []  # running it shows why
    states = [port.final for cell in network.cells for port in cell.ports]
    own = {tensor.node for tensor, _ in behind(scope.nodes, [*states, *made.tensors])}
    reached, loops = _find_reached(scope, made.tensors, own)
    loops -= {one.name for one in recurrences.found}
    carrying = [one.loop.name for one in loop_recurrences(scope)] if loops else []
    found = [f"the loop {printable(name)}" for name in carrying if name in loops]
    known = given.fed(x) | _make_up_states(network, batch) | made.tensors
    others = _find_others(scope.nodes, probe.given(known), made, reached)
    losses = _find_losses(scope, others)
    compared = _find_compared(scope.nodes, network, made, losses)
    hidden = _REARRANGES_OUTPUTS | WHILES if found else _REARRANGES_OUTPUTS
    for name, path in others.items():
        if _is_last(scope, name, others.keys() - losses, losses, compared):
            found += [op for op in path if op not in hidden] or path
    return list(dict.fromkeys(found))


def _make_up_outputs(network: GraphNetwork, probe: Probe, steps: int, batch: int) -> _MadeUp:
    """Return made-up outputs."""
    wholes: list[Array] = []
    made: dict[Tensor, Array] = {}
    numbers: list[Array] = [np.full(1, -1)]
    for output in network.outputs:
        top = next(one.cells[-1] for one in network.recurrences if one.output == output)
        tensors = find_gathered(network.scope, output)
        if not tensors:
            continue
        if output.is_m and not output.place:
            shape: Sequence[int] = (steps, batch, *top.spatial, top.m.width)
        else:
            values = probe.values(tensors)
            value = np.stack(values) if output.is_apart else values[0]
            shape = np.shape(value.swapaxes(0, 1) if output.time_axis else value)
        first = sum(map(len, numbers))
        whole = np.arange(first, first + math.prod(shape), dtype=np.float64).reshape(shape)
        numbers.append(np.arange(shape[0]).repeat(whole[0].size))
        wholes.append(take(whole, output.place, lead=1))
        whole = whole[::-1] if output.is_backward else whole
        laid = whole.swapaxes(0, 1) if output.time_axis else whole
        made |= (
            zip(tensors, whole, strict=True) if output.is_apart else dict.fromkeys(tensors, laid)
        )
    if len(wholes) > 1:
        wholes.append(np.concatenate(wholes, -1))
    axes = 1 + len(network.cells[-1].spatial)
    return _MadeUp(tuple(wholes), made, np.concatenate(numbers), axes)


def _make_up_states(network: GraphNetwork, batch: int) -> dict[Tensor, Array]:
    """Return made-up states, so that no recurrence has to be evaluated."""
    return {
        tensor: np.zeros((batch, *cell.spatial, port.width), port.dtype)
        for cell in network.cells
        for port in cell.ports
        if not port.exit
        for tensor in (port.final, *(port.steps if port.is_apart else ()))
    }


def _find_reached(
    scope: Scope, starts: Collection[Tensor], own: Collection[str]
) -> tuple[dict[str, None], set[str]]:
    """Return the nodes computed from some tensors, and the loops that read those values.

    Args:
        own: the nodes of the recurrences themselves.
    """
    reached: dict[str, None] = {}
    loops: set[str] = set()
    queue = [tensor.node for tensor in starts]
    while queue and len(reached) < _FAR:
        name = queue.pop(0)
        for user in _find_users(scope, name):
            given = values_into(scope.nodes, user)
            taken = [one for one in given if one in starts or one.node in reached]
            is_known = user.name in reached or user.name in own
            if is_known or _GRADIENTS.search(user.name) or not taken:
                continue
            if user.op in WHILES or (user.op in ENTERS and scope.is_frame(user.frame)):
                loops.add(user.frame or user.name)
            if user.op not in PRODUCTS or taken == given:  # no weights
                reached[user.name] = None
                queue.append(user.name)
    return reached, loops


def _find_users(scope: Scope, name: str) -> list[Node]:
    """Return the nodes that read the values of a node, not its shape alone."""
    return [
        user
        for user, _ in scope.users.get(name, ())
        if user.op not in SIZES and not scope.is_inner(user.name)
    ]


def _find_path(nodes: Mapping[str, Node], name: str, among: Collection[str]) -> list[str]:
    """Return the types of the operations that lead to a node, without dropout."""

    def into(node: Node) -> list[Tensor]:
        kept = before_dropout(nodes, node)
        given = values_into(nodes, node) if kept is None else [kept]
        return [Tensor(name) for name in sorted({one.node for one in given if one.node in among})]

    way = [node for _, node in behind(nodes, [Tensor(name)], into=into)]
    return [node.op for node in way[::-1] if before_dropout(nodes, node) is None]


def _find_others(
    nodes: Mapping[str, Node], probe: Probe, made: _MadeUp, reached: Collection[str]
) -> dict[str, list[str]]:
    """Return the sequences that have the width of the outputs and are not the outputs.

    Returns:
        The types of the operations that lead to each sequence, by the name of its node.
    """
    sequences = {tensor.node for tensor in made.tensors}
    others = {}
    for name in reached:
        value = None
        with suppress(LstmstateError):  # such as a constant of other sizes than the made-up ones
            (value,) = probe.values([Tensor(name)])
        fits: list[Array] = []
        if isinstance(value, np.ndarray):
            fits = [whole for whole in made.wholes if _is_as_wide(value, whole, made.axes)]
            is_sequence = bool(fits)
        else:
            before = {tensor.node for tensor in values_into(nodes, nodes[name])}
            is_near = nodes[name].op in _REARRANGES_OUTPUTS | ELEMENTWISE
            is_sequence = is_near and not sequences.isdisjoint(before)
        if is_sequence:
            sequences.add(name)
            path = _find_path(nodes, name, reached)
            if not _REARRANGES_OUTPUTS.issuperset(path) or (fits and _is_part(value, fits, made)):
                others[name] = path
    return others


def _is_as_wide(value: Array, whole: Array, axes: int) -> bool:
    """Whether a value has several or all steps of a sequence, with items of the same shape."""
    lead, item = value.shape[:-axes], value.shape[-axes:]
    is_whole = math.prod(lead) == whole.shape[0] * whole.shape[1]
    return bool(item == whole.shape[2:] and (is_whole or (len(lead) == 2 and min(lead) > 1)))


def _is_part(value: Array, fits: Sequence[Array], made: _MadeUp) -> bool:
    """Whether a value consists of several steps of the outputs, but is not a whole output.

    Args:
        fits: the outputs of the same width.
    """
    if value.dtype.kind != "f" or any(_is_laid_out(value, whole) for whole in fits):
        return False
    steps = np.unique(made.steps[np.clip(value, 0, len(made.steps) - 1).astype(int)])
    return bool(steps[0] >= 0 and len(steps) >= min(len(fits[0]), 2))


def _is_laid_out(value: Array, whole: Array) -> bool:
    """Whether a value is a sequence with time first or batch first."""
    flat = value.ravel()
    return any(np.array_equal(flat, one.ravel()) for one in (whole, whole.swapaxes(0, 1)))


def _find_users_of_value(scope: Scope, name: str) -> list[Node]:
    """Return the nodes that use a value; of dropout, its result and not its scaled input."""
    kept = ((user, before_dropout(scope.nodes, user)) for user in _find_users(scope, name))
    own = (user for user, tensor in kept if tensor in (None, Tensor(name)))
    return [user for user in own if not _GRADIENTS.search(user.name)]


def _find_losses(scope: Scope, others: Mapping[str, object]) -> set[str]:
    """Return the sequences that are read only by reductions or training."""
    found: set[str] = set()
    size = -1
    while size < len(found):
        size = len(found)
        for name in others.keys() - found:
            users = _find_users_of_value(scope, name)
            is_loss = all(user.op in _REDUCTIONS or user.name in found for user in users)
            found |= {name} if is_loss and _find_users(scope, name) else set()
    return found


def _find_compared(
    nodes: Mapping[str, Node], network: GraphNetwork, made: _MadeUp, losses: Collection[str]
) -> set[str]:
    """Return the losses that compare the outputs with data other than x, such as targets."""
    own = {node.name for node in origins(nodes, network.input.tensors, {}).sources}
    ends = {tensor.node: 0 for tensor in made.tensors}
    of_loss = {name: origins(nodes, [Tensor(name)], ends).sources for name in losses}
    return {name for name, sources in of_loss.items() if {one.name for one in sources} - own}


def _is_last(
    scope: Scope,
    name: str,
    others: Collection[str],
    losses: Collection[str],
    compared: Collection[str],
) -> bool:
    """Whether a sequence is the graph's last one after the outputs, before any loss."""
    users = {user.name for user in _find_users_of_value(scope, name)}
    if name in losses:
        return name not in compared and not users.isdisjoint(compared)
    return users.isdisjoint(others)
