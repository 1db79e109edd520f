"""Shapes of placeholders without a shape, from the operations that read them.

Up to TensorFlow 1.0 a GraphDef had the shape of a placeholder only if all its sizes were known.
"""

from __future__ import annotations

from lstmstate.checkpoint.graph import VARIABLE_OPS
from lstmstate.checkpoint.graph_node import Node
from lstmstate.graph.constants import constant_array
from lstmstate.graph.evaluate import Scope
from lstmstate.graph.loops import Tensor, data_inputs, past

Sizes = tuple[int | None, ...]

_HANDING = frozenset({"Identity", "Cast", "StopGradient", "Enter"})
_FAR = 40  # operations that pass on a placeholder


def unknown_shape(scope: Scope, node: Node, width: int | None) -> Sizes | None:
    """Return the shape that the readers of a placeholder require, None if they require none.

    Args:
        width: the width of the vectors of sequences.
    """
    found: list[Sizes] = []
    queue, seen = [node.name], {node.name}
    while queue and len(seen) < _FAR:
        name = queue.pop(0)
        for user, position in scope.users.get(name, ()):
            if user.op in _HANDING and user.name not in seen:
                seen.add(user.name)
                queue.append(user.name)
            sizes = _infer_shape(scope, user, position, width)
            if sizes is not None:
                found.append(sizes)
    if not found:
        return None
    shape = max(found, key=len)
    last = next((one[-1] for one in [shape, *found] if one[-1] is not None), None)
    return (*shape[:-1], last)


def _infer_shape(scope: Scope, user: Node, position: int, width: int | None) -> Sizes | None:
    """Return the shape that a node requires for one of its inputs."""
    read = _READERS.get((user.op, position))
    return read(scope, user, width) if read is not None else _infer_from_parts(scope, user, width)


def _infer_from_transpose(scope: Scope, user: Node, width: int | None) -> Sizes | None:
    axes = _read_integers(scope, data_inputs(user)[1])
    return axes and (*[None] * (len(axes) - 1), width)


def _infer_from_reshape(scope: Scope, user: Node, width: int | None) -> Sizes | None:
    sizes = _read_integers(scope, data_inputs(user)[1])
    return sizes and tuple(None if size < 0 else size for size in sizes)


def _infer_from_slice(scope: Scope, user: Node, width: int | None) -> Sizes | None:
    begin = _read_integers(scope, data_inputs(user)[1])
    return begin and (None,) * len(begin)


def _infer_from_product(scope: Scope, user: Node, width: int | None) -> Sizes | None:
    weights = scope.nodes.get(_skip(scope, data_inputs(user)[1]).node)
    shape = weights.shape() if weights is not None and weights.op in VARIABLE_OPS else None
    if not shape or user.number("transpose_a"):
        return None
    return (None, shape[int(bool(user.number("transpose_b")))])


def _infer_from_lookup(scope: Scope, user: Node, width: int | None) -> Sizes | None:
    """Return the shape of ids."""
    found: Sizes | None = None
    queue = [user.name]
    for _ in range(_FAR):
        if found or not queue:
            break
        for after, _ in scope.users.get(queue.pop(0), ()):
            sizes = _infer_from_parts(scope, after, None)
            found = found or (sizes[:2] if sizes else None)
            queue += [after.name] if after.op in _HANDING else []
    return found or (None, None)


def _infer_from_scatter(scope: Scope, user: Node, width: int | None) -> Sizes | None:
    return (None, None, width)


_READERS = {
    ("Transpose", 0): _infer_from_transpose,
    ("Reshape", 0): _infer_from_reshape,
    ("StridedSlice", 0): _infer_from_slice,
    ("MatMul", 0): _infer_from_product,
    **{(gather, 1): _infer_from_lookup for gather in ("Gather", "GatherV2", "ResourceGather")},
    **{(f"TensorArrayScatter{version}", 2): _infer_from_scatter for version in ("", "V2", "V3")},
}


def _infer_from_parts(scope: Scope, node: Node, width: int | None) -> Sizes | None:
    """Return the shape of the tensor that a node unpacks along its first or second axis."""
    if node.op == "Unpack":
        axis, count = node.number("axis") or 0, node.number("num")
    elif node.op == "Split":
        axes = _read_integers(scope, data_inputs(node)[0])
        axis, count = axes[0] if axes else -1, node.number("num_split")
    else:
        return None
    if axis not in (0, 1):
        return None
    return (None, count, width) if axis else (count, None, width)


def _read_integers(scope: Scope, tensor: Tensor) -> tuple[int, ...] | None:
    node = scope.nodes.get(tensor.node)
    if node is None or node.op != "Const":
        return None
    return tuple(int(value) for value in constant_array(node).reshape(-1))


def _skip(scope: Scope, tensor: Tensor) -> Tensor:
    return past(scope.nodes, tensor, _HANDING)
