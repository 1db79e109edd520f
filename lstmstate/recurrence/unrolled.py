"""Unrolled steps of cells without a known structure, found by comparing the steps.

Products with the same weights, each computed from the one before, belong to a recurrence. The
first and the second step are compared node by node, back from their products. Where they differ,
the second step reads a result of the first, and the first an initial value: this is a state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import TypeVar

import numpy as np

from lstmstate.checkpoint.graph import VARIABLE_OPS
from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.op_sets import JOINING, MERGES, RANDOM
from lstmstate.errors import LstmstateError, UnsupportedError
from lstmstate.graph.dropout import before_dropout
from lstmstate.graph.evaluate import Scope
from lstmstate.graph.loops import Loop, LoopVariable
from lstmstate.graph.tensors import Tensor, behind, between, data_inputs, node_at
from lstmstate.named_tuple import NamedTuple
from lstmstate.recurrence.find_states import PRODUCTS, LoopStep
from lstmstate.recurrence.loop import LoopRecurrence, SequenceInput
from lstmstate.recurrence.probe import OPEN, Probe
from lstmstate.recurrence.step_chain import Chain, keeps

_SUMS = frozenset({"Add", "AddV2", "AddN", "BiasAdd"})
# Weights are tensors that are computed from variables and constants alone.
_NEAR = 60  # nodes between a product and the variables of its weights
_FAR = 2000  # nodes of a step
_TRIED = 6  # sizes of a batch
_WORK = 2_000_000  # nodes that are visited for all products of a graph

Result = TypeVar("Result")
_Path = tuple[int, ...]  # numbers of inputs, from a node back to another


class _UnlikeError(Exception):
    """Two steps have different structures."""


class _Found(NamedTuple):
    """A tensor that the second step reads from the first step or from a sequence.

    Attributes:
        path: the path back to it from the result of a step.
        second: the tensor that the second step reads.
        first: the corresponding tensor that the first step reads.
        entry: the input of a node of the first step that reads `first`.
    """

    path: _Path
    second: Tensor
    first: Tensor
    entry: Tensor


def find_unrolled(probe: Probe) -> list[Chain]:
    """Return the chains of unrolled steps in a graph."""
    scope = probe.scope
    seen: set[Tensor] = set()
    found: list[Chain] = []
    for products in _find_repeated(scope):
        try:
            steps = _Steps(scope, products)
            if seen.isdisjoint(tensor for state in steps.states for tensor in state[1:]):
                made = list(_make_chains(probe, steps))
                seen.update(tensor for one in made for tensor in one.made)
                found += made
        except (_UnlikeError, LstmstateError):
            continue
    return found


# ---- products


class _Product(NamedTuple):
    """A product with weights.

    Attributes:
        operand: the tensor that is multiplied with the weights.
    """

    node: Node
    operand: Tensor


class _Products(NamedTuple):
    """The products of a recurrence, in the order of its steps.

    Attributes:
        made_of: for each node the products that it is computed from, as a bit mask.
    """

    steps: tuple[_Product, ...]
    made_of: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.steps)


def _find_repeated(scope: Scope) -> Iterator[_Products]:
    """Yield products with the same weights, each computed from those before."""
    groups: dict[frozenset[str], dict[object, list[_Product]]] = {}
    for node in scope.nodes.values():
        if node.op not in PRODUCTS or len(data_inputs(node)) < 2 or scope.is_inner(node.name):
            continue
        given = data_inputs(node)[:2]
        weights = [_find_weights(scope.nodes, tensor) for tensor in given]
        for at, variables in enumerate(weights):
            if variables and not weights[1 - at]:
                kind = (node.op, at, node.number("transpose_a"), node.number("transpose_b"))
                product = _Product(node, given[1 - at])
                groups.setdefault(variables, {}).setdefault(kind, []).append(product)
    work = 0
    found: dict[int, list[tuple[_Product, ...]]] = {}
    for kinds in groups.values():
        products = next(iter(kinds.values()))  # gradients come later, and are transposed
        if len(products) < 2 or work > _WORK:
            continue
        made_of = _mark_products(scope.nodes, [[product] for product in products])
        work += len(made_of)
        for steps in _order_products(products, made_of):
            found.setdefault(len(steps), []).append(steps)
    for count, same in found.items():
        every = [[product] for steps in same for product in steps]
        made_of = _mark_products(scope.nodes, every)
        for members in _group_products(same, made_of):
            by_step = [[same[at][number] for at in members] for number in range(count)]
            yield _Products(same[members[0]], _mark_products(scope.nodes, by_step))


def _group_products(
    same: Sequence[tuple[_Product, ...]], made_of: Mapping[str, int]
) -> Iterator[list[int]]:
    """Yield the numbers of the products of one cell: each is computed from all the others."""
    left = list(range(len(same)))
    count = len(same[0])

    def reads(one: int, other: int) -> bool:
        return bool(made_of[same[one][1].node.name] >> (other * count) & 1)

    while left:
        members = [left[0], *(at for at in left[1:] if reads(left[0], at) and reads(at, left[0]))]
        left = [at for at in left if at not in members]
        yield members


def _find_weights(nodes: Mapping[str, Node], tensor: Tensor) -> frozenset[str] | None:
    """Return the variables that a tensor is computed from, None if it is not weights."""
    found = set()
    way = behind(nodes, [tensor], lambda node: node.op not in VARIABLE_OPS)
    for met, (_, node) in enumerate(way):
        is_made = bool(data_inputs(node)) or node.op == "Const"
        if met == _NEAR or not (is_made or node.op in VARIABLE_OPS):
            return None
        found |= {node.name} if node.op in VARIABLE_OPS else set()
    return frozenset(found) or None


def _mark_products(
    nodes: Mapping[str, Node], products: Sequence[Sequence[_Product]]
) -> dict[str, int]:
    """Return the products that each node before them is computed from, as a bit mask.

    Args:
        products: the products of each bit.
    """
    bit = {product.node.name: 1 << at for at, each in enumerate(products) for product in each}
    found: dict[str, int] = {}
    for start in bit:
        _mark_before(nodes, start, bit, found)
    return found


def _mark_before(
    nodes: Mapping[str, Node], start: str, bit: Mapping[str, int], found: dict[str, int]
) -> None:
    """Add the masks of a node, and of those that it is computed from."""
    stack = [(start, False)]
    while stack:
        name, is_left = stack.pop()
        node = node_at(nodes, Tensor(name))
        given = [] if node.op in MERGES else [one.node for one in data_inputs(node)]  # no loop
        if is_left:
            found[name] = bit.get(name, 0)
            for one in given:
                found[name] |= found.get(one, 0)
        elif name not in found:
            found[name] = 0
            stack.append((name, True))
            stack += [(one, False) for one in given if one not in found]


def _order_products(
    products: Sequence[_Product], made_of: Mapping[str, int]
) -> Iterator[tuple[_Product, ...]]:
    """Yield the products of each recurrence in order; several may share the weights."""
    whole = {at: made_of[product.node.name] for at, product in enumerate(products)}
    for last, mask in whole.items():
        if any(other != last and others >> last & 1 for other, others in whole.items()):
            continue
        members = [at for at in range(len(products)) if mask >> at & 1]
        members.sort(key=lambda at: whole[at].bit_count())
        counts = [whole[at].bit_count() for at in members]
        if len(members) > 1 and counts == list(range(1, len(members) + 1)):
            yield tuple(products[at] for at in members)


# ---- states


def are_same(nodes: Mapping[str, Node], one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are one, or computed alike from the same sources and constants."""
    queue, seen = [(one, other)], set()
    while queue:
        pair = queue.pop()
        if pair[0] == pair[1] or pair in seen:
            continue
        seen.add(pair)
        first, second = (node_at(nodes, tensor) for tensor in pair)
        given = [data_inputs(node) for node in (first, second)]
        if not first.op or first.op != second.op or len(given[0]) != len(given[1]):
            return False
        if len(seen) > _NEAR or pair[0].port != pair[1].port or first.op.startswith(RANDOM):
            return False
        if not given[0] and (first.op != "Const" or first.tensor() != second.tensor()):
            return False
        queue += zip(*given, strict=True)
    return True


class _Steps:
    """The unrolled steps of a recurrence, with the states between them.

    Attributes:
        states: each state before the first step, and after every step.
        entries: the inputs of nodes of the first step that read each state.
        x: for each step the tensors that it reads from sequences.
        scope: the name scope of the first step.
    """

    def __init__(self, scope: Scope, products: _Products) -> None:
        self._nodes = scope.nodes
        self._scope = scope
        self._products = products.steps
        self._made_of = dict(products.made_of)
        self.scope = products.steps[0].node.name.rpartition("/")[0]
        first, second, *_ = (product.operand for product in products.steps)
        carried, _ = self._split_reads(second, first, Tensor(products.steps[0].node.name), ())
        if not carried:
            raise _UnlikeError
        ends = [
            self._follow(product.operand, carried[0].path, second) for product in products.steps[1:]
        ]
        ends.append(self._find_forward(ends[-1]))
        self._last_pairs = self._match_steps(ends[-1], ends[-2], len(products) - 1)
        self.states: list[tuple[Tensor, ...]] = []
        uses: dict[Tensor, dict[Tensor, None]] = {}
        parts: dict[Tensor, tuple[Tensor, ...]] = {}
        cones: list[list[Tensor]] = [ends]
        while cones:
            cone = cones.pop()
            reads, x = self._find_reads(cone[1], cone[0])
            for one in reads:
                if one.second not in uses:
                    state = (one.first, *self._follow_each(cone, one.path))
                    self.states.append((*state, self._find_last(state[-1])))
                    cones.append(list(self.states[-1][1:]))
                uses.setdefault(one.second, {})[one.entry] = None
            for one in x:
                part = (one.first, *self._follow_each(cone, one.path))
                if self._nodes[one.entry.node].op in _SUMS:
                    part = tuple(map(self._find_operand, part))
                parts.setdefault(part[1], part)
        self.entries = [tuple(entries) for entries in uses.values()]
        self.x = list(zip(*parts.values(), strict=True)) or [()] * len(products)

    def _find_operand(self, tensor: Tensor) -> Tensor:
        """Return the operand of a product of the input, if the cell adds it to that of m."""
        node = self._nodes[tensor.node]
        given = data_inputs(node)
        if node.op not in PRODUCTS or len(given) < 2:
            return tensor
        weights = [_find_weights(self._nodes, one) for one in given[:2]]
        return given[0] if weights[1] and not weights[0] else tensor

    def _follow_each(self, ends: Sequence[Tensor], path: _Path) -> list[Tensor]:
        """Return the tensor at a path back from the result of each step but the first."""
        return [self._follow(end, path, ends[1]) for end in ends[1 : len(self._products)]]

    def _find_bits(self, tensor: Tensor) -> int:
        """Return the products that a tensor is computed from, as a bit mask."""
        if tensor.node not in self._made_of:
            _mark_before(self._nodes, tensor.node, {}, self._made_of)
        return self._made_of[tensor.node]

    def _find_inputs(self, tensor: Tensor) -> list[Tensor]:
        """Return the inputs of a node; for dropout only the value that it is applied to."""
        kept = self._find_kept(tensor)
        return data_inputs(node_at(self._nodes, tensor)) if kept is None else [kept]

    def _find_kept(self, tensor: Tensor) -> Tensor | None:
        """Return the value that dropout is applied to, None if a tensor is not dropout."""
        return before_dropout(self._nodes, node_at(self._nodes, tensor))

    def _split_reads(
        self, second: Tensor, first: Tensor, entry: Tensor, path: _Path
    ) -> tuple[list[_Found], list[_Found]]:
        """Return the states and parts of sequences in a tensor that the second step reads.

        Operations on a state that are the same before both steps belong to the steps.
        """
        while (kept := self._find_kept(second)) is not None:
            second, first, path = kept, self._find_kept(first) or first, (*path, 0)
        if are_same(self._nodes, second, first):
            return [], []
        found = _Found(path, second, first, entry)
        if not self._find_bits(second):
            return [], [found]
        if self._find_bits(first):
            raise _UnlikeError
        try:
            pairs = self._pair_inputs(second, first)
        except _UnlikeError:
            return [found], []
        made = [one for one, _ in pairs if self._find_bits(one)]
        is_step = any(
            not self._find_bits(one) and not are_same(self._nodes, one, other)
            for one, other in pairs
        )
        is_joined = self._nodes[second.node].op in JOINING or is_step
        if not made or (len(made) > 1 and not is_joined):
            return [found], []
        states: list[_Found] = []
        x: list[_Found] = []
        for at, (one, other) in enumerate(pairs):
            entry = Tensor(first.node, at, "input")
            more = self._split_reads(one, other, entry, (*path, at))
            states += more[0]
            x += more[1]
        return states, x

    def _find_reads(self, second: Tensor, first: Tensor) -> tuple[list[_Found], list[_Found]]:
        """Return the states and parts of sequences that two steps read, back from their results."""
        states: list[_Found] = []
        x: list[_Found] = []
        seen: set[Tensor] = set()
        queue: list[tuple[Tensor, Tensor, Tensor | None, _Path]] = [(second, first, None, ())]
        while queue:
            one, other, entry, path = queue.pop(0)
            if len(seen) > _FAR:
                raise _UnlikeError
            if not self._find_bits(one) & 2:
                if entry is not None:
                    more = self._split_reads(one, other, entry, path)
                    states += more[0]
                    x += more[1]
                continue
            if one in seen:
                continue
            seen.add(one)
            given = self._pair_inputs(one, other)
            for at, (this, that) in enumerate(given):
                queue.append((this, that, Tensor(other.node, at, "input"), (*path, at)))
        return states, x

    def _pair_inputs(self, one: Tensor, other: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return the pairs of inputs of corresponding nodes in two steps."""
        ops = {node_at(self._nodes, tensor).op for tensor in (one, other)}
        given = self._find_inputs(one), self._find_inputs(other)
        if "" in ops or len(ops) > 1 or one.port != other.port or len(given[0]) != len(given[1]):
            raise _UnlikeError
        return list(zip(*given, strict=True))

    def _follow(self, start: Tensor, path: _Path, model: Tensor) -> Tensor:
        """Return the tensor at a path in another step."""
        for at in path:
            start, model = self._pair_inputs(start, model)[at]
        return start

    def _find_last(self, before: Tensor) -> Tensor:
        """Return the state after the last step."""
        return self._last_pairs.get(before) or self._find_forward(before)

    def _match_steps(self, second: Tensor, first: Tensor, number: int) -> dict[Tensor, Tensor]:
        """Return the tensors of a step by the corresponding tensors of the step before it."""
        found: dict[Tensor, Tensor] = {}
        queue = [(second, first)]
        while queue:
            one, other = queue.pop()
            if other not in found and self._find_bits(one) >> number & 1:
                found[other] = one
                queue += self._pair_inputs(one, other)
        return found

    def _find_forward(self, before: Tensor) -> Tensor:
        """Return the tensor of the last step that corresponds to a state of the step before it."""
        steps = self._products
        path = self._find_path(before, steps[-2].node.name)
        candidates = [Tensor(steps[-1].node.name, before.port if not path else 0)]
        for node, at, port in path:
            candidates = [
                Tensor(user.name)
                for tensor in candidates
                for user, position in self._scope.readers(Tensor(tensor.node, port))
                if user.op == node.op and position == at
            ]
        ends = {Tensor(one.node, before.port) for one in candidates}
        alike = [one for one in ends if self._are_alike(one, before)]
        if len(alike) > 1:  # after the end of a sequence, outputs are zeros and states are kept
            alike = [one for one in alike if keeps(self._scope, one.node, before)]
        if len(alike) != 1:
            raise _UnlikeError
        return alike[0]

    def _are_alike(self, one: Tensor, other: Tensor) -> bool:
        """Whether a tensor of the last step corresponds to one of the step before it."""
        try:
            self._match_steps(one, other, len(self._products) - 1)
        except _UnlikeError:
            return False
        return True

    def _find_path(self, end: Tensor, start: str) -> list[tuple[Node, int, int]]:
        """Return the path from a product to a tensor computed from it: nodes, inputs, ports."""
        bit = 1 << (len(self._products) - 2)

        def is_made(node: Node) -> bool:
            return bool(self._find_bits(Tensor(node.name)) & bit)

        way = between(self._nodes, start, end, is_made, _FAR)
        if way is None:
            raise _UnlikeError
        path = []
        for before, node in pairwise([self._nodes[start], *way]):
            given = data_inputs(node)
            at = next(at for at, tensor in enumerate(given) if tensor.node == before.name)
            path.append((node, at, given[at].port))
        return path


def with_batch(
    probe: Probe, steps: int, starts: Sequence[Tensor], look: Callable[[Probe], Result]
) -> tuple[Result, int | None]:
    """Call `look` with a probe whose batch fits the steps; return the result and the batch.

    The batch is None if one of the default sizes fits, and else the size of an initial state.

    Args:
        starts: the initial states, and the input of the first step.
    """
    for one in (probe, probe.with_open(steps)):
        try:
            return look(one), None
        except UnsupportedError as error:
            problem = error
    tried = dict.fromkeys([*sorted(_find_rows(probe, starts)), *sorted(probe.rows)])
    for rows in [size for size in tried if size != steps][:_TRIED]:
        with suppress(UnsupportedError):
            return look(probe.with_open(rows)), rows
    raise problem


def fixed_batch(probe: Probe, steps: int, states: Sequence[Tensor]) -> int | None:
    """Return the size of the batch that a graph fixes, None if it takes any.

    Args:
        states: the states after a step.
    """
    tried = [_find_rows(probe.with_open(size), states) for size in (OPEN, OPEN + 1)]
    found = [rows for rows in tried if rows]
    rows = set().union(*found)
    return rows.pop() if len(rows) == 1 and (len(found) == 2 or rows != {steps}) else None


def _find_rows(probe: Probe, states: Sequence[Tensor]) -> set[int]:
    found = set()
    for state in states:
        with suppress(UnsupportedError):
            shape = np.shape(probe.values([state])[0])
            found |= {shape[0]} if len(shape) == 2 else set()
    return found


def _make_chains(probe: Probe, steps: _Steps) -> Iterator[Chain]:
    """Yield the chains whose states are c and m of a cell."""
    variables = tuple(
        LoopVariable(state[0], state[1], state[1], state[2]) for state in steps.states
    )
    loop = Loop(steps.scope, variables, Tensor(""))
    inputs = tuple(
        SequenceInput(second, first, None)
        for second, first in zip(steps.x[1], steps.x[0], strict=True)
    )
    carried = tuple(range(len(variables)))
    recurrence = LoopRecurrence(loop, probe.scope, carried, inputs, ())
    starts = [*(state[0] for state in steps.states), *steps.x[0]]
    step, _ = with_batch(probe, len(steps.x), starts, lambda one: LoopStep(recurrence, one))
    for pair in step.pairs():
        into = step.elements_into(pair)
        at = [number for number, one in enumerate(inputs) if one.element in into]
        c, m = pair.c.number, pair.m.number
        yield Chain(
            step.variables(pair),
            steps.states[c],
            steps.states[m],
            tuple(one[number] for one in steps.x for number in at),
            steps.scope,
            (steps.entries[c], steps.entries[m]),
            (pair.c.path, pair.m.path),
        )
