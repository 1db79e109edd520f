"""States of a loop: its loop variables, split into c and m of each cell.

A loop carries c and m as two loop variables, or concatenated or packed in one. Each variable is
split as the step joins its new value. To find c and m among the parts, one part at a time is
changed: m goes into a product with the weights, and c does not. If this does not decide,
m is the part whose new value is computed from that of the other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from lstmstate.checkpoint.fused_ops import BLOCK_STEPS
from lstmstate.checkpoint.graph import VARIABLE_OPS
from lstmstate.checkpoint.op_sets import CONCATS, MERGES
from lstmstate.errors import UnsupportedError
from lstmstate.graph.evaluate import Plan, Scope, compile_step
from lstmstate.graph.loops import is_unchanged
from lstmstate.graph.tensors import Tensor, behind, data_inputs, node_at
from lstmstate.named_tuple import NamedTuple
from lstmstate.recurrence.data_path import READS_SIZES, origins
from lstmstate.recurrence.loop import COMPARISONS, LoopRecurrence, is_fed, past_selection, skip
from lstmstate.recurrence.probe import Probe

Array = Any
PRODUCTS = {
    **dict.fromkeys(("MatMul", "BatchMatMul", "BatchMatMulV2", "Conv2D", "Conv3D"), (0, 1)),
    "Einsum": (0, 1),
    **{name: (block.m,) for name, block in BLOCK_STEPS.items()},
}
# Operations that may be between the state after one step and the input of the next one: each
# changes every element by itself.
ELEMENTWISE = frozenset(
    """
    Identity Mul Add AddV2 Sub RealDiv Minimum Maximum ClipByValue Cast StopGradient Relu Tanh
    Select SelectV2 Neg
    """.split()
)
# Operations whose results may be equal for all values that are tried, and differ for others.
JUMPS = frozenset(
    """
    Equal NotEqual Less LessEqual Greater GreaterEqual ApproximateEqual Sign Floor Ceil Round Rint
    IsNan IsInf IsFinite Where ArgMax ArgMin OneHot FloorMod FloorDiv Mod TopKV2 InTopK DivNoNan
    """.split()
)
_ENDS_OF_WEIGHTS = VARIABLE_OPS | MERGES | PRODUCTS.keys()
_FAR = 400  # nodes between a product and the variables of its weights
_NEAR = 200  # nodes between the new m and the new c
_DRAWS = 4  # several random inputs, as a step may be skipped for some of them


Path = tuple[tuple[int, ...], ...]


class StatePart(NamedTuple):
    """A part of a loop variable.

    Attributes:
        number: the number of the variable.
        next: the tensor for the new value of the part.
        path: its place in the variable: (axis, start, stop), or (axis, index) if it is packed.
    """

    number: int
    next: Tensor
    path: Path = ()


def take(whole: Array, path: Path, lead: int = 0) -> Array:
    """Return the part of a value at a path, after skipping `lead` leading axes."""
    for axis, *place in path:
        index: list[Any] = [slice(None)] * whole.ndim
        index[axis + lead if axis >= 0 else axis] = place[0] if len(place) == 1 else slice(*place)
        whole = whole[tuple(index)]
    return whole


class StatePair(NamedTuple):
    """c and m of one cell.

    Attributes:
        products: the names of the products that m goes into.
    """

    c: StatePart
    m: StatePart
    products: tuple[str, ...]


class Causes(NamedTuple):
    """Causes of a new state besides x and the state before, None if there are none.

    Attributes:
        place: the place of the step in its sequence, or earlier steps.
        jumps: a comparison or rounding of values: results that are equal for the values that are
            tried may differ for others.
    """

    place: str | None = None
    jumps: str | None = None


class LoopStep:
    """One step of a loop, evaluated on made-up values.

    Attributes:
        parts: the parts of the loop variables.
        elements: the tensors of the sequence elements that the step may read.
        used: the elements that it reads.
        nodes: the names of the nodes of the step.
    """

    def __init__(self, recurrence: LoopRecurrence, probe: Probe) -> None:
        self._recurrence = recurrence
        self._inside = recurrence.inside
        self._outer = probe.scope.nodes
        loop = recurrence.loop
        self.elements = [one.element for one in recurrence.inputs]
        targets = [loop.variables[number].next for number in recurrence.carried]
        plan = self._compile(probe, targets)
        self.nodes = plan.names
        self._outside = _evaluate_outside(recurrence, plan, probe)
        read = [tensor for tensor in self.elements if tensor in self._outside]
        self._elements = {tensor: self._outside[tensor] for tensor in read}
        carried = tuple(at for at in recurrence.carried if self._is_float(loop.variables[at].read))
        self._recurrence = recurrence._replace(carried=carried)
        targets = [loop.variables[number].next for number in carried]
        self._random = np.random.default_rng(0)
        self._flag = True  # the value of boolean elements
        self._batch = next((len(value) for value in self._elements.values()), None)
        self.parts = self._take_apart(probe, targets)
        self._products = [
            (name, data_inputs(self._inside.nodes[name])[position])
            for name in plan.names
            for position in PRODUCTS.get(self._inside.nodes[name].op, ())
        ]
        self._probe = probe
        operands = [tensor for _, tensor in self._products]
        self._plan = self._compile(probe, [*(part.next for part in self.parts), *operands])
        self.used = frozenset(self._elements)

    def _is_float(self, read: Tensor) -> bool:
        return read not in self._outside or np.asarray(self._outside[read]).dtype.kind == "f"

    def _compile(
        self, probe: Probe, targets: Sequence[Tensor], more: Sequence[Tensor] = ()
    ) -> Plan:
        feeds = [*self.elements, *more, *probe.fed]
        return compile_step(self._inside, self._recurrence.loop, targets, feeds, probe.environment)

    def draw(self) -> dict[Tensor, Array]:
        """Return random values for the states and elements that a step reads."""
        variables = self._recurrence.loop.variables
        carried = [variables[number].read for number in self._recurrence.carried]
        states = {read: self._outside[read] for read in carried if read in self._outside}
        every = states | self._elements
        return {tensor: self._draw_like(value) for tensor, value in every.items()}

    def _draw_like(self, value: Array) -> Array:
        """Return random values of a shape, with the batch of the inputs."""
        shape = list(np.shape(value))
        if value.dtype.kind == "b":
            return np.full(shape, self._flag)
        if len(shape) == 2 and self._batch is not None:
            shape[0] = self._batch
        return self._random.standard_normal(shape).astype(value.dtype) * value.dtype.type(0.5)

    def run(self, plan: Plan, values: Mapping[Tensor, Array]) -> list[Array]:
        """Evaluate a plan of this step."""
        return plan.run({**self._outside, **values})

    def _take_apart(self, probe: Probe, targets: Sequence[Tensor]) -> list[StatePart]:
        """Return the parts that the step joins, in the order of the variables."""
        drafts = [
            (number, draft)
            for number, target in zip(self._recurrence.carried, targets, strict=True)
            for draft in _split_value(self._inside, self._recurrence, number, target)
        ]
        plan = self._compile(probe, [draft[-1][0] for _, draft in drafts])
        shapes = [np.shape(value) for value in self.run(plan, self.draw())]
        parts = _place_parts(drafts, shapes)
        self._shapes = dict(zip(parts, shapes, strict=True))
        return parts

    def width(self, part: StatePart) -> int:
        """Return the size of a part's last axis."""
        return int(self._shapes[part][-1])

    def spatial(self, part: StatePart) -> tuple[int, ...]:
        """Return the sizes of a part's axes between the batch and the last."""
        return tuple(map(int, self._shapes[part][1:-1]))

    def dtype(self, part: StatePart) -> str:
        """Return the NumPy type of a part."""
        read = self._recurrence.loop.variables[part.number].read
        return str(self._outside[read].dtype) if read in self._outside else "float32"

    def elements_into(self, pair: StatePair) -> frozenset[Tensor]:
        """Return the elements that are the input of a cell.

        They go into its products, or change its new state, also if the old state is zero: an
        element that only masks the old state is not an input. If none is found, all are returned.
        """
        products = {
            at
            for at, (name, _) in enumerate(self._products, len(self.parts))
            if name in pair.products
        }
        own = {self.parts.index(pair.c), self.parts.index(pair.m)}
        for places, is_zero in ((products, True), (own, True), (products, False), (own, False)):
            base = self.draw()
            if is_zero:
                base |= {read: np.zeros_like(base[read]) for read in base.keys() - self.used}
            before = self.run(self._plan, base)
            found = set()
            for element in self.used:
                after = self.run(self._plan, base | {element: self._draw_like(base[element])})
                if not all(np.array_equal(before[at], after[at], equal_nan=True) for at in places):
                    found.add(element)
            if found:
                return frozenset(found)
        return self.used

    def masks(self, pairs: Sequence[StatePair]) -> frozenset[Tensor]:
        """Return the boolean elements that keep all states unchanged if they are false."""
        base = self.draw()
        variables = self._recurrence.loop.variables
        own = [self.parts.index(part) for pair in pairs for part in (pair.c, pair.m)]
        found = set()
        for element in self.used:
            if base[element].dtype.kind == "b":
                after = self.run(self._plan, base | {element: np.zeros_like(base[element])})
                states = [(self.parts[at], after[at]) for at in own]
                if all(
                    np.array_equal(new, take(base[variables[part.number].read], part.path))
                    for part, new in states
                ):
                    found.add(element)
        return frozenset(found)

    def variables(self, pair: StatePair) -> tuple[str, ...]:
        """Return the nodes of a cell's weights: those multiplied with m, or used for the new c."""
        nodes, outer = self._inside.nodes, self._outer
        starts = [tensor for name in pair.products for tensor in data_inputs(nodes[name])[1:]]
        starts = starts or [pair.c.next]
        loop = self._recurrence.loop
        sources = {one.read.node: node_at(outer, one.source) for one in loop.variables}
        every = {**sources, **outer, **nodes}  # a function's arguments are values from outside
        way = behind(every, starts, lambda node: node.op not in _ENDS_OF_WEIGHTS, _FAR)
        return tuple(dict.fromkeys(node.name for _, node in way if node.op in VARIABLE_OPS))

    def dependence(self) -> tuple[Array, Array]:
        """Find the new parts and the operands of products that change with each part.

        Returns:
            Two arrays of bool: [parts, parts] and [parts, products]; the first axis is for the
            part that was changed.
        """
        count = len(self.parts)
        variables = self._recurrence.loop.variables
        changed = np.zeros((count, count + len(self._products)), bool)
        for _ in range(_DRAWS):
            base = self.draw()
            before = self.run(self._plan, base)
            for at, part in enumerate(self.parts):
                read = variables[part.number].read
                if read not in base:
                    continue
                moved = base[read].copy()
                view = take(moved, part.path)
                view[...] = self._draw_like(view) + view.dtype.type(1)
                after = self.run(self._plan, base | {read: moved})
                changed[at] |= [
                    not np.array_equal(one, other, equal_nan=True)
                    for one, other in zip(before, after, strict=True)
                ]
        return changed[:, :count], changed[:, count:]

    def other_causes(self, pairs: Sequence[StatePair]) -> Causes:
        """Return the causes of the new c and m besides x and the states.

        A step that reads its number may differ later from the steps that are tried; one that reads
        other loop variables depends on more than c and m; one that compares values may differ for
        values that are not tried. A comparison with a fed sequence length does not count.
        """
        loop = self._recurrence.loop
        targets = [part.next for pair in pairs for part in (pair.c, pair.m)]
        targets += [output.element for output in self._recurrence.outputs]
        plan = self._compile(self._probe, targets)
        plan = self._compile(self._probe, targets, self._find_ends(plan))
        own = {part.number for pair in pairs for part in (pair.c, pair.m)}
        read = {
            number
            for number, one in enumerate(loop.variables)
            if one.read in plan.feeds and not is_unchanged(loop, number, self._inside.nodes)
        }
        place = self._describe_place(read - own) or (
            READS_SIZES if self._reads_sizes(targets) else None
        )
        jumps = sorted(plan.operations & JUMPS)
        return Causes(place, f"its step compares or rounds values ({jumps[0]})" if jumps else None)

    def _describe_place(self, read: Collection[int]) -> str | None:
        """Return how a step depends on its place in a sequence, or on earlier steps.

        Args:
            read: the numbers of the loop variables that it reads besides c and m.
        """
        if not set(self._recurrence.carried).isdisjoint(read):
            return "its step reads other values that the loop carries"
        if any(one.is_ahead for one in self._recurrence.inputs):
            return "its step reads the input of the next one"
        if read:
            return "its step reads the number of the step"
        if not all(one.is_even for one in self._recurrence.inputs):
            return "its step reads a sequence by an index that does not advance with the steps"
        return None

    def _reads_sizes(self, targets: Sequence[Tensor]) -> bool:
        """Whether a step computes with a size other than those of its states and elements."""
        loop, nodes = self._recurrence.loop, self._inside.nodes
        kept = [
            number for number in range(len(loop.variables)) if is_unchanged(loop, number, nodes)
        ]
        given = [one.read for at, one in enumerate(loop.variables) if at not in kept]
        ends = {tensor.node: 0 for tensor in (*given, *self.elements)}
        way = origins(nodes, targets, ends)
        captured = [
            loop.variables[at].source for at in kept if loop.variables[at].read.node in way.outside
        ]
        return bool(way.sizes or origins(self._outer, captured, {}).sizes)

    def _find_ends(self, plan: Plan) -> list[Tensor]:
        """Return the comparisons of a step's number with fed sequence lengths."""
        nodes, scope, loop = self._inside.nodes, self._probe.scope, self._recurrence.loop
        return [
            Tensor(name)
            for name in plan.names
            if nodes[name].op in COMPARISONS
            and any(is_fed(scope, loop, one) for one in data_inputs(nodes[name]))
        ]

    def pairs(self) -> list[StatePair]:
        """Return c and m of each cell, in the order of the variables."""
        if len(self.parts) < 2:
            return []
        found = self._find_pairs()
        if not found and any(value.dtype.kind == "b" for value in self._elements.values()):
            self._flag = False  # true flags may reset a state, and not keep it
            found = self._find_pairs()
        return found

    def _find_pairs(self) -> list[StatePair]:
        parts, products = self.dependence()
        names = [name for name, _ in self._products]

        def pair(one: int, other: int) -> StatePair | None:
            return self._match_pair((one, other), parts, products, names)

        found: dict[int, StatePair] = {}
        left = list(range(len(self.parts)))
        at = 0
        while at + 1 < len(self.parts):  # c and m mostly follow one another
            made = pair(at, at + 1)
            if made is not None:
                found[at] = made
                left = [one for one in left if one not in (at, at + 1)]
            at += 1 if made is None else 2
        apart = {both: made for both in combinations(left, 2) if (made := pair(*both)) is not None}
        for both, made in apart.items():
            if sum(not set(both).isdisjoint(other) for other in apart) == 1:
                found[both[0]] = made
        return [found[at] for at in sorted(found)]

    def _match_pair(
        self, both: tuple[int, int], parts: Array, products: Array, names: Sequence[str]
    ) -> StatePair | None:
        ways = [(c, m) for c, m in (both, both[::-1]) if parts[c, c] & parts[m, c] & parts[c, m]]
        into = None
        for c, m in ways:
            of_m, of_c = products[m] & ~products[c], products[c] & ~products[m]
            if of_m.any() and not of_c.any():
                into = of_m
                break
        else:
            for c, m in ways:
                if self._is_made_of(m, c):
                    into = products[m] | products[c]
                    break
        if into is None:
            return None
        read = dict.fromkeys(name for name, is_so in zip(names, into, strict=True) if is_so)
        return StatePair(self.parts[c], self.parts[m], tuple(read))

    def _is_made_of(self, m: int, c: int) -> bool:
        """Whether the new m has the shape of the new c and is computed from it, with no product."""
        if self._shapes[self.parts[m]] != self._shapes[self.parts[c]]:
            return False
        target = skip(self._inside.nodes, self.parts[c].next).node
        start = [self.parts[m].next]
        way = behind(self._inside.nodes, start, lambda node: node.op not in PRODUCTS, _NEAR)
        return any(tensor.node == target for tensor, _ in way)


def _evaluate_outside(recurrence: LoopRecurrence, plan: Plan, probe: Probe) -> dict[Tensor, Array]:
    """Return the values that a step takes from outside, and the first elements of sequences."""
    loop = recurrence.loop
    wanted: dict[Tensor, Tensor] = {}
    for tensor in plan.feeds:
        number = next((at for at, one in enumerate(loop.variables) if one.read == tensor), None)
        if number is not None:
            wanted[tensor] = loop.variables[number].source
        elif tensor.node in loop.constants or probe.is_fed(tensor):
            wanted[tensor] = tensor
    elements = {one.element: one.value for one in recurrence.inputs if one.element in plan.feeds}
    values = probe.values([*wanted.values(), *elements.values()])
    found = dict(zip([*wanted, *elements], values, strict=True))
    axes = {one.element: one.axis for one in recurrence.inputs}
    for tensor in elements:
        axis = axes[tensor]
        if axis is not None and not found[tensor].shape[axis]:
            raise UnsupportedError("the graph reads a sequence without steps", tensor=tensor.node)
        found[tensor] = found[tensor] if axis is None else found[tensor].take(0, axis)
    return found


# From the whole to the part: its tensor, the axis, and its index if parts are packed.
_Draft = list[tuple[Tensor, int, int | None]]


def _split_value(
    inside: Scope, recurrence: LoopRecurrence, number: int, target: Tensor
) -> Iterator[_Draft]:
    """Yield how a new value is joined, from the whole to each part."""
    read = recurrence.loop.variables[number].read
    queue: list[_Draft] = [[(target, 0, None)]]
    while queue:
        draft = queue.pop(0)
        tensor = past_selection(inside, skip(inside.nodes, draft[-1][0]), read)
        node = node_at(inside.nodes, tensor)
        given = data_inputs(node)
        parts: _Draft = []
        if len(draft) > 4 or tensor.node == read.node:
            pass
        elif node.op == "Pack":
            axis = node.number("axis") or 0
            parts = [(part, axis, at) for at, part in enumerate(given)]
        elif node.op in CONCATS:
            values = given[:-1] if node.op == "ConcatV2" else given[1:]
            if any(node_at(inside.nodes, part).op not in PRODUCTS for part in values):
                parts = [(part, -1, None) for part in values]  # else shards of one projection
        if not parts:
            yield draft
        queue = [*([*draft, part] for part in parts), *queue]


def _place_parts(
    drafts: Sequence[tuple[int, _Draft]], shapes: Sequence[tuple[int, ...]]
) -> list[StatePart]:
    """Return parts with their paths: concatenated parts follow one another."""
    found: list[StatePart] = []
    ends: dict[tuple[int, Path], int] = {}
    for (number, draft), shape in zip(drafts, shapes, strict=True):
        path: Path = ()
        for _, axis, index in draft[1:]:
            path = path if index is None else (*path, (axis, index))
        if any(index is None for *_, index in draft[1:]):
            start = ends.get((number, path), 0)
            ends[number, path] = start + shape[-1]
            path = (*path, (-1, start, start + shape[-1]))
        found.append(StatePart(number, draft[-1][0], path))
    return found
