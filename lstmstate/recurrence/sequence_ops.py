"""Operations that run a cell over a whole sequence: BlockLSTM and CudnnRNN."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lstmstate.checkpoint.fused_ops import BLOCK_SEQUENCES, CUDNN_OPS
from lstmstate.checkpoint.graph_node import Node
from lstmstate.errors import LstmstateError, UnsupportedError, printable
from lstmstate.graph.evaluate import Scope
from lstmstate.graph.tensors import Tensor, data_inputs, node_at, past
from lstmstate.named_tuple import NamedTuple
from lstmstate.recurrence.data_path import (
    READS_SIZES,
    Front,
    comes_from,
    front_of,
    origins,
    tail_of,
)
from lstmstate.recurrence.find_states import Causes, Path
from lstmstate.recurrence.graph_network import Output, Port, Recurrence, RecurrentCell, name_of
from lstmstate.recurrence.probe import Probe


class _SequenceOp(NamedTuple):
    """An operation that is a whole recurrence, with the numbers of its inputs and outputs.

    Attributes:
        inputs: the number of inputs.
        x, c, m, weights: the inputs for x, the initial c and m, and the weights.
        sized: an input, and the size of its last axis as a multiple of the units.
        entry: the place of the state in the inputs c and m.
        last: the outputs with the last c and m.
        exit: the place of the state in these outputs.
        steps: the outputs with c and m after every step.
    """

    inputs: int
    x: int
    c: int
    m: int
    weights: slice
    sized: tuple[int, int]
    entry: Path
    last: tuple[int, int]
    exit: Path
    steps: tuple[int, int]


_BLOCK = _SequenceOp(9, 1, 2, 3, slice(4, 9), (4, 4), (), (1, 6), ((0, -1),), (1, 6))


# The state has an axis for layers, of size one; output 5 is added by `graph.operations`.
_CUDNN = _SequenceOp(4, 0, 2, 1, slice(3, 4), (2, 1), ((0, 0),), (2, 1), ((0, 0),), (5, 0))


_SEQUENCE_OPS = {
    **dict.fromkeys(BLOCK_SEQUENCES, _BLOCK),
    **dict.fromkeys(CUDNN_OPS, _CUDNN),
    "CudnnRNNV3": _CUDNN._replace(inputs=5),
}


# Operations between a number of steps and the Shape that it comes from.
_PASSES_STEPS = frozenset({"Cast", "Identity", "StridedSlice", "Squeeze"})


def sequence_drafts(
    probe: Probe, names: Mapping[str, str], others: list[str]
) -> Iterator[Recurrence]:
    """Yield a recurrence for each operation that runs a cell over a sequence."""
    scope = probe.scope
    for node in scope.nodes.values():
        places = _SEQUENCE_OPS.get(node.op)
        is_whole = places is not None and len(data_inputs(node)) == places.inputs
        if places is not None and is_whole and not scope.is_inner(node.name):
            try:
                yield _make_recurrence(probe, names, node, places)
            except LstmstateError as error:
                others.append(f"{printable(node.name)}: {error}")


def _make_recurrence(
    probe: Probe, names: Mapping[str, str], node: Node, places: _SequenceOp
) -> Recurrence:
    scope, given = probe.scope, data_inputs(node)
    x, (sized, times) = given[places.x], places.sized
    lengths = None
    if places is _BLOCK and not _takes_every_step(probe, given[0], x):
        lengths = _find_lengths(probe, given[0])
        if lengths is None:
            raise UnsupportedError(
                "its number of steps is not that of x, nor the maximum of fed lengths"
            )
    values = probe.values([x, given[sized]])
    c, m = (
        Port(
            Tensor(node.name, at, "input"),
            places.entry,
            given[at],
            Tensor(node.name, last),
            places.exit,
            (Tensor(node.name, steps),),
            (),
            values[1].shape[-1] // times,
            str(values[0].dtype),
        )
        for at, last, steps in zip((places.c, places.m), places.last, places.steps, strict=True)
    )
    weights = origins(scope.nodes, given[places.weights], {})
    name, is_known = name_of(weights.variables, names)
    (every_m,) = m.steps
    if lengths is not None:
        every_m = _find_masked(scope, every_m, lengths)
    tail = tail_of(scope, every_m)
    out = tail if tail.reversed else Front(every_m)
    return Recurrence(
        node.name,
        (RecurrentCell(name, c, m, node.name.rpartition("/")[0], is_known),),
        (x,),
        (front_of(scope.nodes, x),),
        (),
        (node.name,),
        Output((out.tensor,), (), int(out.turned), is_m=True, is_own=False),
        causes=Causes(READS_SIZES if weights.sizes else None),
        counts=() if lengths is None else (Tensor(node.name, 0, "input"),),
    )


def _find_lengths(probe: Probe, steps: Tensor) -> Tensor | None:
    """Return the fed lengths whose maximum is a number of steps."""
    found = [one for one in probe.lengths if comes_from(probe.scope.nodes, steps, one)]
    return found[0] if len(found) == 1 and probe.is_fed(found[0]) else None


def _find_masked(scope: Scope, every: Tensor, lengths: Tensor) -> Tensor:
    """Return the product of the states after each step and a mask computed from lengths."""
    found = [
        user.name
        for user, _ in scope.users.get(every.node, ())
        if user.op == "Mul"
        and every in data_inputs(user)
        and comes_from(scope.nodes, Tensor(user.name), lengths)
    ]
    return Tensor(found[0]) if len(found) == 1 else every


def _takes_every_step(probe: Probe, steps: Tensor, x: Tensor) -> bool:
    """Whether a number of steps is the size of x, and not the maximum of some lengths."""
    node = node_at(probe.scope.nodes, past(probe.scope.nodes, steps, _PASSES_STEPS))
    if not node.op or node.op == "Shape":
        return node.op == "Shape"
    constant = node.constant()
    return constant is not None and constant.values[:1] == probe.describe(x)[0][:1]
