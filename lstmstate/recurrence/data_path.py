"""Data paths between recurrences: from the input to a loop, and from a loop to its outputs."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from lstmstate.checkpoint.graph import VARIABLE_OPS
from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.op_sets import MERGES, NEXTS, RANDOM, REVERSES, SWITCHES
from lstmstate.graph.dropout import before_dropout
from lstmstate.graph.evaluate import Scope, is_source
from lstmstate.graph.operations import constant_array
from lstmstate.graph.tensors import Tensor, behind, data_inputs, input_at, node_at
from lstmstate.named_tuple import NamedTuple

_PASSES_SEQUENCES = frozenset({"Identity", "StopGradient", "EnsureShape", "Snapshot", "Enter"})
_TURNS = frozenset({"Transpose"})
_RESHAPING = frozenset(
    {"Reshape", "ExpandDims", "Squeeze", "Cast", "PlaceholderWithDefault", "TensorListStack"}
)
_NEAR = 200  # nodes from the Merge of two branches to their Switch, or that transpose outputs
SIZES = frozenset({"Shape", "ShapeN", "Size"})
# The inputs of an operation that become part of its values; the others are shapes, axes and
# handles. For operations that are not in this table, all inputs do.
_VALUES = {
    name: taken
    for names, taken in (
        ("Reshape ExpandDims Squeeze Transpose Tile BroadcastTo Pad Reverse ReverseV2", slice(1)),
        ("Mean Sum Prod Max Min All Any ArgMax ArgMin SplitV TensorListGetItem", slice(1)),
        ("TensorListStack TensorListFromTensor", slice(1)),
        ("Slice StridedSlice Gather GatherV2", slice(2)),
        ("Fill Split Concat", slice(1, None)),
        ("ConcatV2", slice(-1)),
        ("TensorListSetItem", slice(0, None, 2)),
        ("ZerosLike OnesLike TensorListReserve EmptyTensorList", slice(0)),
    )
    for name in names.split()
} | {
    f"TensorArray{name}{version}": slice(2, None)  # after a handle and an index
    for name in ("Read", "Write", "Gather", "Scatter")
    for version in ("", "V2", "V3")
}
# The reason why a recurrence that was tried with some sizes is not confirmed for others.
READS_SIZES = "the graph computes with the number of steps, or the size of the batch"


class Front(NamedTuple):
    """The tensor that a sequence comes from, past transposes, reversals and identities.

    Attributes:
        tensor: the tensor before these operations.
        turned: whether the batch comes before time in it.
        reversed: whether time is reversed.
    """

    tensor: Tensor
    turned: bool = False
    reversed: bool = False


def front_of(
    nodes: Mapping[str, Node], value: Tensor, *, turned: bool = False, backward: bool = False
) -> Front:
    """Return the source of a sequence that a loop reads.

    Args:
        turned: whether the batch comes before time in the sequence.
        backward: whether the loop reads it from its end.
    """
    for _ in range(40):
        node = node_at(nodes, value)
        if not _is_laid_out(nodes, node, turned=turned):
            break
        turned ^= node.op in _TURNS
        backward ^= node.op not in _TURNS | _PASSES_SEQUENCES
        value = data_inputs(node)[0]
    return Front(value, turned, backward)


def _is_laid_out(nodes: Mapping[str, Node], node: Node, *, turned: bool) -> bool:
    """Whether a node passes on a sequence, swaps batch and time, or reverses time.

    Args:
        turned: whether the batch comes before time in its output.
    """
    if node.op in REVERSES:
        return _find_reversed_axes(nodes, node) in ((), (int(turned),))
    if node.op == "StridedSlice":
        return _find_reversed_axes(nodes, node) == (int(turned),)
    return node.op in _PASSES_SEQUENCES or (node.op in _TURNS and _swaps_first_axes(nodes, node))


def _swaps_first_axes(nodes: Mapping[str, Node], node: Node) -> bool:
    """Whether a Transpose swaps batch and time only; True if its axes are not constant."""
    given = input_at(nodes, node, 1)
    if given.op != "Const":
        return True
    axes = list(constant_array(given))
    return axes[:2] == [1, 0] and axes[2:] == [*range(2, len(axes))]


def _find_reversed_axes(nodes: Mapping[str, Node], node: Node) -> tuple[int, ...] | None:
    """Return the axes that a node reverses, () if they are not constant, None if it has none."""
    if node.op == "ReverseSequence":
        return (node.number("seq_dim") or 0,)
    last = input_at(nodes, node, -1)
    if last.op != "Const":
        return None if node.op == "StridedSlice" else ()
    values = constant_array(last)
    if node.op == "ReverseV2":
        return tuple(int(axis) % 3 for axis in np.atleast_1d(values))  # of a sequence of vectors
    flags = values if node.op == "Reverse" else values < 0
    axes = tuple(int(axis) for axis in np.flatnonzero(flags))
    if node.op == "Reverse":
        return axes
    whole = (1 << len(values)) - 1
    masks = [node.number(f"{name}_mask") or 0 for name in ("begin", "end")]
    others = [node.number(f"{name}_mask") for name in ("ellipsis", "new_axis", "shrink_axis")]
    is_whole = masks == [whole, whole] and not any(others) and (np.abs(values) == 1).all()
    return axes if is_whole and axes else None


def tail_of(scope: Scope, value: Tensor, *, turned: bool = False) -> Front:
    """Return the last tensor after a loop's output that only transposes or reverses it.

    Of several such tensors, one that is reversed is preferred: a backward loop's outputs are put
    back into the order of the input.

    Args:
        turned: whether the batch comes before time in the loop's output.
    """
    every = [Front(value, turned)]
    seen = {value}
    for at in every:
        for user, position in scope.readers(at.tensor):
            tensor = Tensor(user.name)
            is_laid_out = not position and _is_laid_out(scope.nodes, user, turned=at.turned)
            if is_laid_out and tensor not in seen and len(seen) < _NEAR:
                seen.add(tensor)
                is_turned = at.turned ^ (user.op in _TURNS)
                is_reversed = at.reversed ^ (user.op not in _TURNS | _PASSES_SEQUENCES)
                every.append(Front(tensor, is_turned, is_reversed))
    return max(every, key=lambda at: (at.reversed, at.turned))


def by_place(
    nodes: Mapping[str, Node],
    tensors: Collection[Tensor],
    ends: Mapping[str, int],
    past: int | None = None,
) -> str | None:
    """Return the type of an operation before a loop that may treat steps by their place.

    After such an operation, results for a few steps do not show those for more steps.

    Args:
        ends, past: see `origins`.
    """

    def into(node: Node) -> list[Tensor] | None:
        """Return the inputs that a node lays out, None if it does more."""
        if not node.op or ends.get(node.name, past) != past or is_source(node):
            return []
        kept, given = before_dropout(nodes, node), data_inputs(node)
        if kept is not None:
            return [kept]
        if _joins_columns(nodes, node):
            return given[:-1]
        if _gathers_all(nodes, node):
            return given[-1:]
        is_known = node.op in REVERSES | _RESHAPING | _TURNS or any(
            _is_laid_out(nodes, node, turned=turned) for turned in (True, False)
        )
        return given[:1] if is_known else None

    for _, node in behind(nodes, tensors, into=lambda node: into(node) or ()):
        if into(node) is None:
            return node.op
    return None


def _gathers_all(nodes: Mapping[str, Node], node: Node) -> bool:
    """Whether a node gathers all elements that a loop wrote into a TensorArray."""
    if not node.op.startswith("TensorArrayGather"):
        return False
    made, indices = input_at(nodes, node, 0), input_at(nodes, node, 1)
    if not made.op or indices.op != "Range":
        return False
    is_size = input_at(nodes, indices, 1).op.startswith("TensorArraySize")
    return is_size or data_inputs(indices)[1] in data_inputs(made)[:1]


def _joins_columns(nodes: Mapping[str, Node], node: Node) -> bool:
    """Whether a node concatenates sequences of vectors along their last axis."""
    axis = input_at(nodes, node, -1).constant() if node.op == "ConcatV2" else None
    return axis is not None and axis.scalar in (-1, 2)


class Origins(NamedTuple):
    """The nodes that some tensors are computed from.

    Attributes:
        recurrences: the numbers of the recurrences that the tensors come from.
        sources: the nodes at which data enters the graph, such as placeholders.
        operations: the operations between, without transposes and identities.
        variables: the nodes of the variables.
        sizes: Shape and Size nodes whose result is used as a number.
        outside: names without a node: the arguments of a function.
    """

    recurrences: frozenset[int]
    sources: tuple[Node, ...]
    operations: tuple[Node, ...]
    variables: tuple[str, ...]
    sizes: tuple[str, ...]
    outside: tuple[str, ...]


def values_into(nodes: Mapping[str, Node], node: Node) -> list[Tensor]:
    """Return the inputs that become part of a node's values, not those that set its shape."""
    given = data_inputs(node)
    if node.op in SWITCHES and any(_is_of_loop(nodes, one) for one in given[1:]):
        return given[:1]
    if node.op in MERGES:
        return given + _find_conditions(nodes, node)
    if node.op.startswith(RANDOM):
        return []
    return given[_VALUES.get(node.op, slice(None))]


def _is_of_loop(nodes: Mapping[str, Node], tensor: Tensor) -> bool:
    return node_at(nodes, tensor).op in NEXTS | {"LoopCond"}


def _find_conditions(nodes: Mapping[str, Node], merge: Node) -> list[Tensor]:
    """Return the conditions that choose between the branches of a Merge; none for a loop."""
    found: dict[Tensor, None] = {}
    queue, seen = [merge], {merge.name}
    while queue and len(seen) < _NEAR:
        node = queue.pop(0)
        given = [Tensor.of(tensor.removeprefix("^")) for tensor in node.inputs]
        if any(_is_of_loop(nodes, tensor) for tensor in given):
            continue
        if node.op in SWITCHES:
            given = given[1:2]
            found |= dict.fromkeys(given)
        names = {tensor.node for tensor in given} - seen
        seen |= names
        queue += [nodes[name] for name in sorted(names) if name in nodes]
    return list(found)


def comes_from(nodes: Mapping[str, Node], tensor: Tensor, source: Tensor) -> bool:
    """Whether a tensor is computed from another, or from its shape."""
    way = behind(nodes, [tensor], lambda node: node.op not in VARIABLE_OPS)
    return any(one == source for one, _ in way)


def origins(
    nodes: Mapping[str, Node],
    tensors: Collection[Tensor],
    ends: Mapping[str, int],
    past: int | None = None,
) -> Origins:
    """Walk back from tensors to recurrences, variables and the nodes at which data enters.

    Dropout is left out.

    Args:
        ends: the number of the recurrence that a node belongs to, for the last node of each.
        past: the number of a recurrence at whose nodes the walk does not stop.
    """
    recurrences: set[int] = set()
    sources: list[Node] = []
    operations: list[Node] = []
    variables, sizes, outside = list[str](), list[str](), list[str]()
    queue = [tensor.node for tensor in tensors]
    seen = set(queue)
    while queue:
        name = queue.pop()
        node = node_at(nodes, Tensor(name))
        if ends.get(name, past) != past:
            recurrences.add(ends[name])
        elif not node.op:
            outside.append(name)
        elif node.op in SIZES:
            sizes.append(name)
        elif node.op in VARIABLE_OPS:
            variables.append(name)
        elif is_source(node):
            sources.append(node)
        elif node.op != "Const":
            kept = before_dropout(nodes, node)
            if kept is None and node.op not in _PASSES_SEQUENCES | {"Transpose"}:
                operations.append(node)
            given = values_into(nodes, node) if kept is None else [kept]
            fresh = dict.fromkeys(tensor.node for tensor in given if tensor.node not in seen)
            seen.update(fresh)
            queue += fresh
    return Origins(
        frozenset(recurrences),
        tuple(sources),
        tuple(operations),
        tuple(variables),
        tuple(sizes),
        tuple(outside),
    )
