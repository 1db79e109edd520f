"""Axes of a tensor behind operations that cut, pick, spread and transpose it.

Nothing is computed: each operation changes a list of axes, which have a first index and a length,
as far as the graph shows.
"""

from __future__ import annotations

from collections.abc import Callable

from lstmstate.cells.from_graph.activations import Value
from lstmstate.checkpoint import graph_walk as walk
from lstmstate.checkpoint.graph import Graph
from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.op_sets import CONCATS, PASSING, SELECTS, SUMMING
from lstmstate.named_tuple import NamedTuple

Numbers = list[int | None]


class Axis(NamedTuple):
    """An axis of a part of a tensor.

    Attributes:
        of: the axis of the whole tensor; None if it was inserted.
        at: its first index in the tensor; None if unknown.
        size: its length; None if the graph leaves it open, such as the rows of a batch.
    """

    of: int | None
    at: int | None
    size: int | None


class TensorPart(NamedTuple):
    """A part of a tensor.

    Attributes:
        axes: its axes, in order.
        picked: axis of the tensor → the one index in the part; None if unknown.
    """

    axes: tuple[Axis, ...]
    picked: dict[int, int | None]


class Element(NamedTuple):
    """One of several tensors along an axis: stacked, or else joined."""

    axis: int
    number: int
    is_stacked: bool


class Step(NamedTuple):
    """An operation on the way, and the output that goes on."""

    graph: Graph
    node: Node
    port: int

    def numbers(self, at: int) -> Numbers | None:
        """Return the numbers in one of its inputs."""
        return numbers(self.graph, walk.operand(self.graph, self.node, at))

    def scalar(self, at: int) -> float | None:
        """Return the number in one of its inputs."""
        return walk.scalar(self.graph, walk.operand(self.graph, self.node, at))


def part(
    graph: Graph, shape: tuple[int | None, ...], path: tuple[Value | Element, ...]
) -> TensorPart | None:
    """Return the part of a tensor behind a path of operations; None if unknown."""
    left = TensorPart(tuple(Axis(of, 0, size) for of, size in enumerate(shape)), {})
    for step in path:
        if isinstance(step, Element):
            found = _element(left, step)
        else:
            node, port = step
            found = TAKING[node.op].take(Step(graph, node, port), left)
        if found is None:
            return None
        left = found
    return left


def numbers(graph: Graph, node: Node | None) -> Numbers | None:
    """Return the numbers of a shape, or of indices, that a graph joins.

    None among them is an unknown number; None alone means that their count is unknown, too.
    """
    made = walk.through(graph, node, PASSING | {"Cast"})
    if made is None or made.op not in CONCATS:
        return _read_list(graph, made)
    items = walk.operands(graph, made)
    found: Numbers = []
    for item in items[1:] if made.op == "Concat" else items[:-1]:
        own = _read_list(graph, walk.through(graph, item))
        if own is None:
            return None
        found += own
    return found


def _read_list(graph: Graph, made: Node | None) -> Numbers | None:
    constant = made.constant() if made is not None else None
    if constant is not None:
        return [int(value) if abs(value) < 1 << 62 else None for value in constant.values]
    if made is None or made.op not in ("Pack", "ExpandDims"):
        return None
    items = walk.operands(graph, made)
    return [_read_whole(graph, item) for item in (items if made.op == "Pack" else items[:1])]


def scales(graph: Graph, factor: Node) -> bool:
    """Whether a factor is a constant other than a mask of 0 and 1."""
    made = walk.through(graph, factor)
    constant = made.constant() if made is not None else None
    return constant is not None and not set(constant.values) <= {0, 1}


def _read_whole(graph: Graph, node: Node | None) -> int | None:
    value = walk.scalar(graph, walk.through(graph, node, PASSING | {"Cast"}))
    return None if value is None or abs(value) >= 1 << 62 else int(value)


# ---- one axis


def _narrow(axis: Axis, start: int | None, size: int | None) -> Axis:
    at = None if axis.at is None or start is None else axis.at + start
    return Axis(axis.of, at, size)


def _take_index(left: TensorPart, at: int, index: int | None) -> TensorPart:
    """Take one index of an axis, and remove the axis."""
    axis = left.axes[at]
    picked = dict(left.picked)
    if axis.of is not None:
        if index is not None and index < 0:
            index = None if axis.size is None else index + axis.size
        picked[axis.of] = None if axis.at is None or index is None else axis.at + index
    return TensorPart(left.axes[:at] + left.axes[at + 1 :], picked)


def _replace_axis(left: TensorPart, at: int, axis: Axis) -> TensorPart:
    return left._replace(axes=(*left.axes[:at], axis, *left.axes[at + 1 :]))


def _place(axis: float | None, rank: int) -> int | None:
    """Return the axis of a number, None if there is no such axis."""
    if axis is None or not -rank <= axis < rank:
        return None
    return int(axis) % rank


def _element(left: TensorPart, element: Element) -> TensorPart | None:
    at = _place(element.axis, len(left.axes))
    if at is None:
        return None
    if element.is_stacked:
        return _take_index(left, at, element.number)
    return _replace_axis(left, at, Axis(left.axes[at].of, None, None))


# ---- operations


def _split(step: Step, left: TensorPart) -> TensorPart | None:
    is_even = step.node.op == "Split"
    axis = step.scalar(0 if is_even else 2)
    at = _place(axis, len(left.axes))
    if at is None:
        return None
    whole = left.axes[at].size
    if is_even:
        count = step.node.number("num_split") or 0
        if whole is None or count <= 0:
            return None
        sizes: Numbers = [whole // count] * min(count, step.port + 1)
    else:
        sizes = step.numbers(1) or []
        if -1 in sizes and whole is not None:
            rest = whole - sum(size for size in sizes if size is not None and size != -1)
            sizes = [rest if size == -1 else size for size in sizes]
    before = sizes[: step.port]
    if step.port >= len(sizes) or any(size is None or size < 0 for size in sizes[: step.port + 1]):
        return None
    start = sum(size for size in before if size is not None)
    return _replace_axis(left, at, _narrow(left.axes[at], start, sizes[step.port]))


def _unpack(step: Step, left: TensorPart) -> TensorPart | None:
    at = _place(step.node.number("axis") or 0, len(left.axes))
    return None if at is None else _take_index(left, at, step.port)


def _slice(step: Step, left: TensorPart) -> TensorPart | None:
    begin, size = (step.numbers(at) for at in (1, 2))
    if begin is None or size is None or not len(begin) == len(size) == len(left.axes):
        return None
    axes = []
    for axis, start, length in zip(left.axes, begin, size, strict=True):
        if length == -1:
            rest = None if axis.size is None or start is None else axis.size - start
            axes.append(_narrow(axis, start, axis.size if start == 0 else rest))
        else:
            axes.append(_narrow(axis, start, length))
    return left._replace(axes=tuple(axes))


def _strided_slice(step: Step, left: TensorPart) -> TensorPart | None:
    begin, end, strides = (step.numbers(at) for at in (1, 2, 3))
    if begin is None or end is None or strides is None or len(begin) != len(end):
        return None
    masks = {
        name: step.node.number(f"{name}_mask") or 0
        for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }

    def is_set(mask: str, number: int) -> bool:
        return bool(masks[mask] >> number & 1)

    at = 0
    for number in range(len(begin)):
        if is_set("ellipsis", number):
            behind = range(number + 1, len(begin))
            at = len(left.axes) - sum(not is_set("new_axis", other) for other in behind)
        elif is_set("new_axis", number):
            left = left._replace(axes=(*left.axes[:at], Axis(None, 0, 1), *left.axes[at:]))
            at += 1
        elif at >= len(left.axes) or at < 0 or number >= len(strides):
            return None
        elif is_set("shrink_axis", number):
            left = _take_index(left, at, begin[number])
        else:
            if strides[number] != 1:
                return None
            opens = [is_set("begin", number), is_set("end", number)]
            left = _replace_axis(
                left, at, _cut_range(left.axes[at], [begin[number], end[number]], opens)
            )
            at += 1
    return left


def _cut_range(axis: Axis, ends: Numbers, opens: list[bool]) -> Axis:
    """Return an axis from one index to another; an open end is the end of the axis."""
    size = axis.size
    start, stop = (
        found if found is None or found >= 0 else None if size is None else max(found + size, 0)
        for found in ends
    )
    start = 0 if opens[0] else start
    if opens[1]:
        stop = size
    elif stop is not None and size is not None:
        stop = min(stop, size)
    known = None if start is None or stop is None else max(stop - start, 0)
    return _narrow(axis, start, known)


def _tile(step: Step, left: TensorPart) -> TensorPart | None:
    times = step.numbers(1)
    if times is None or len(times) != len(left.axes):
        return None
    axes = [
        axis if count == 1 else axis._replace(size=None)
        for axis, count in zip(left.axes, times, strict=True)
    ]
    return left._replace(axes=tuple(axes))


def _gather(step: Step, left: TensorPart) -> TensorPart | None:
    axis = step.scalar(2) if step.node.op == "GatherV2" else 0
    at = _place(axis, len(left.axes))
    indices = walk.through(step.graph, walk.operand(step.graph, step.node, 1), PASSING | {"Cast"})
    if at is None or indices is None:
        return None
    constant = indices.constant()
    shape = constant.shape if constant is not None else indices.shape()
    if shape == ():
        return _take_index(left, at, _read_whole(step.graph, indices))
    if shape is not None and len(shape) != 1:
        return None
    return _replace_axis(left, at, _narrow(left.axes[at], None, None))


def _reshape(step: Step, left: TensorPart) -> TensorPart | None:
    """Insert and drop axes of one index, or cut a vector into rows; other changes are unknown."""
    wanted = step.numbers(1)
    if wanted is None:
        return None
    if len(left.axes) == 1 and len(wanted) == 2 and left.axes[0].size not in (1, wanted[1]):
        return _cut_rows(left, wanted)
    axes: list[Axis] = []
    at = len(left.axes) - 1
    for size in reversed(wanted):
        while at >= 0 and left.axes[at].size == 1 and size not in (1, None, -1):
            left = _take_index(left, at, 0)
            at -= 1
        axis = left.axes[at] if at >= 0 else None
        if axis is not None and (size in (None, -1) or axis.size in (None, size)):
            axes.insert(0, axis)
            at -= 1
        elif size == 1:
            axes.insert(0, Axis(None, 0, 1))
        else:
            return None
    for over in range(at, -1, -1):
        if left.axes[over].size != 1:
            return None
        left = _take_index(left, over, 0)
    return left._replace(axes=tuple(axes))


def _cut_rows(left: TensorPart, wanted: Numbers) -> TensorPart | None:
    (axis,), (rows, width) = left.axes, wanted
    if axis.size is None or width is None or width < 1 or axis.size % width:
        return None
    if rows not in (None, -1, axis.size // width):
        return None
    return left._replace(axes=(Axis(None, 0, axis.size // width), axis._replace(size=width)))


def _squeeze(step: Step, left: TensorPart) -> TensorPart | None:
    asked = [_place(axis, len(left.axes)) for axis in step.node.numbers("squeeze_dims")]
    if None in asked:
        return None
    for at in range(len(left.axes) - 1, -1, -1):
        if at in asked or (not asked and left.axes[at].size == 1):
            left = _take_index(left, at, 0)
    return left


def _expand(step: Step, left: TensorPart) -> TensorPart | None:
    axis = step.scalar(1)
    at = _place(axis, len(left.axes) + 1)
    if at is None:
        return None
    return left._replace(axes=(*left.axes[:at], Axis(None, 0, 1), *left.axes[at:]))


def _transpose(step: Step, left: TensorPart) -> TensorPart | None:
    order = step.numbers(1)
    known = [at for at in order or () if at is not None]
    if sorted(known) != list(range(len(left.axes))):
        return None
    return left._replace(axes=tuple(left.axes[at] for at in known))


def _spread(step: Step, left: TensorPart) -> TensorPart | None:
    """Add, multiply or select with a tensor that may have more rows."""
    factors = walk.operands(step.graph, step.node) if step.node.op == "Mul" else []
    if any(scales(step.graph, factor) for factor in factors):
        return None
    lead = [axis._replace(size=None) if axis.size == 1 else axis for axis in left.axes[:-1]]
    if step.node.op in SUMMING and not lead:
        lead = [Axis(None, 0, None)]
    return left._replace(axes=(*lead, *left.axes[-1:]))


def _broadcast(step: Step, left: TensorPart) -> TensorPart | None:
    sizes = step.numbers(1)
    if sizes is None or len(sizes) < len(left.axes) or not left.axes:
        return None
    more = len(sizes) - len(left.axes)
    axes = [Axis(None, 0, size) for size in sizes[:more]]
    for axis, size in zip(left.axes[:-1], sizes[more:-1], strict=True):
        axes.append(axis._replace(size=size) if axis.size == 1 else axis)
    return left._replace(axes=(*axes, left.axes[-1]))


class Taking(NamedTuple):
    """An operation that takes a part: the position of its input, and the function of the axes."""

    value: int
    take: Callable[[Step, TensorPart], TensorPart | None]


SPREADING = SUMMING | SELECTS | {"Mul"}
TAKING: dict[str, Taking] = {
    "Split": Taking(1, _split),
    "SplitV": Taking(0, _split),
    "Unpack": Taking(0, _unpack),
    "Slice": Taking(0, _slice),
    "StridedSlice": Taking(0, _strided_slice),
    "Tile": Taking(0, _tile),
    "Gather": Taking(0, _gather),
    "GatherV2": Taking(0, _gather),
    "ResourceGather": Taking(0, _gather),
    "Reshape": Taking(0, _reshape),
    "Squeeze": Taking(0, _squeeze),
    "ExpandDims": Taking(0, _expand),
    "Transpose": Taking(0, _transpose),
    "BroadcastTo": Taking(0, _broadcast),
    "MatMul": Taking(1, _spread),  # ones in front of a row
    **{op: Taking(0, _spread) for op in SPREADING},
}
