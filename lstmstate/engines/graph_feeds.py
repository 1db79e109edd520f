"""Values that a user feeds to a graph, and their effect on the initial state.

Between its placeholders for states and the first step, a graph may set the states of episodes
that have ended to zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from lstmstate.checkpoint.graph import VARIABLE_OPS
from lstmstate.checkpoint.graph_node import Node
from lstmstate.errors import UnsupportedError
from lstmstate.graph.evaluate import Environment, Scope, compile_plan, is_source
from lstmstate.graph.tensors import Tensor, behind, data_inputs
from lstmstate.recurrence.find_states import PRODUCTS
from lstmstate.recurrence.graph_network import Port
from lstmstate.recurrence.probe import Fed, Sizes

if TYPE_CHECKING:
    from lstmstate.engines.canonical_network import Array

_READS = frozenset({"ReadVariableOp"})
_NEAR = 60  # nodes between the input for a state and the first step


def fit_to_placeholder(
    value: Array, static: Sizes | None, steps: int, batch: int, *, by_step: bool = False
) -> list[Array]:
    """Return a value in the shapes that a placeholder may take, the likeliest first.

    A single number is used for every element; numbers for each step, `[steps]`, are used for every
    sequence; numbers for each step of each sequence, `[batch, steps]`, may be flattened.

    Args:
        static: the shape of the placeholder.
        by_step: whether the first step of all sequences comes first in a flattened array.
    """
    if static is None:
        return [value]
    sizes = dict.fromkeys((batch, steps, batch * steps))
    ways = product(*((size,) if size is not None else tuple(sizes) for size in static))
    shapes = sorted(ways, key=lambda way: len(way) - len(set(way)))
    if value.ndim == 0:
        return [np.broadcast_to(value, shape) for shape in shapes]
    found = [value] if value.shape in shapes else []
    found += [value.reshape(shape) for shape in shapes if _is_longer(shape, value.shape)]
    if len(static) == 1 and (batch * steps,) in shapes:
        each = np.broadcast_to(value, (batch, steps)) if value.shape == (steps,) else value
        if each.shape == (batch, steps):
            found.append((each.T if by_step else each).reshape(-1))
    return found or [value]


def _is_longer(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether a shape is another one followed by axes of size one."""
    return len(shape) > len(other) > 0 and shape == other + (1,) * (len(shape) - len(other))


def is_flat(value: Array, static: Sizes | None, steps: int, batch: int) -> bool:
    """Whether a placeholder takes a flattened array whose order, by step or not, matters."""
    ways = [
        fit_to_placeholder(value, static, steps, batch, by_step=way)[-1] for way in (False, True)
    ]
    return not np.array_equal(ways[0], ways[1])


def take_step(
    tensor: Tensor, value: Array, static: Sizes | None, at: int, sizes: tuple[int, int]
) -> Array:
    """Return the part of a value for one step of a graph that is built for a single step.

    Numbers for each step, `[steps]` or `[batch, steps]`, are cut along time; values without a time
    axis are the same at every step.

    Args:
        at: the number of the step.
        sizes: the numbers of steps and sequences.

    Raises:
        UnsupportedError: the numbers may be for the steps or for the sequences.
    """
    steps, batch = sizes
    if static is None:
        return value
    pairs = zip(static, value.shape, strict=False)
    is_whole = len(static) == value.ndim and all(size in (None, own) for size, own in pairs)
    if static and not is_whole and value.shape[:2] == (batch, steps):
        return value[:, at]
    per_step = value.shape == (steps,) and (len(static) != 1 or static[0] in (None, batch))
    if per_step and len(static) == 1 and steps == batch:
        raise UnsupportedError(
            f"{steps} values may be for the steps or for the sequences",
            tensor=tensor.node,
            advice="feed [batch, steps]",
        )
    return value[at] if per_step else value


def change_initial_state(
    scope: Scope,
    port: Port,
    state: Array,
    fed: Mapping[Tensor, Any],
    sources: Mapping[Tensor, Fed],
    environment: Environment,
) -> Array:
    """Return an initial state after the graph's changes before the first step.

    Args:
        fed: the values that a user feeds.
        sources: the inputs of the graph.

    Raises:
        UnsupportedError: the input for the state is unknown.
    """
    holders = _find_holders(scope, port.source)
    if fed.keys().isdisjoint(holders):
        return state
    others = [tensor for tensor in holders if tensor not in fed]
    fits = {tensor: _find_sizes(scope, sources, tensor)[1:] == (port.width,) for tensor in others}
    own = [tensor for tensor in others if fits[tensor]]
    if not others:
        return state  # the graph computes its own initial state, and the passed state replaces it
    given = dict(fed)
    if len(own) == 1 and not port.entry:
        given[own[0]] = state
        made = _evaluate(scope, port.source, given, environment)
        return np.broadcast_to(made, state.shape).astype(state.dtype)
    if len(others) == 1 and others[0] in sources:
        whole = sources[others[0]].value((len(state),))
        given[others[0]] = np.arange(1, whole.size + 1, dtype=whole.dtype).reshape(whole.shape)
        numbers = _evaluate(scope, port.source, given, environment)
        is_whole = np.unique(numbers).size == numbers.size
        if is_whole and np.isin(numbers, given[others[0]]).all():  # the state is only cut out
            return state
    raise UnsupportedError(
        "the graph changes the state that it is fed before the first step", tensor=port.source.node
    )


def _evaluate(
    scope: Scope, wanted: Tensor, given: Mapping[Tensor, Any], environment: Environment
) -> Array:
    plan = compile_plan(scope, [wanted], given.keys(), environment)
    return np.asarray(plan.bind().run(given)[0])


def _find_holders(scope: Scope, source: Tensor) -> list[Tensor]:
    """Return the inputs and variables of a state, with no product between them."""

    def is_holder(node: Node) -> bool:
        return is_source(node) or node.op in VARIABLE_OPS | _READS

    def enter(node: Node) -> bool:
        return node.op != "Shape" and node.op not in PRODUCTS and not is_holder(node)

    return [one for one, node in behind(scope.nodes, [source], enter, _NEAR) if is_holder(node)]


def _find_sizes(
    scope: Scope, sources: Mapping[Tensor, Fed], tensor: Tensor
) -> tuple[int | None, ...]:
    """Return the static shape of an input or a variable."""
    node = scope.nodes[tensor.node]
    if node.op in _READS:
        node = scope.nodes.get(data_inputs(node)[0].node, node)
    sizes = sources[tensor].sizes if tensor in sources else node.shape()
    return sizes or ()
